"""Features of arrays: spectral indices, surroundings, and the pixel table of a few scenes in memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data.errors import FeatureError
from data.files import scene_rng
from data.scenes.classes import IGNORE, Classes, Task
from data.scenes.colors import PALETTE
from data.scenes.windows import Grid, Window
from features.array_features import as_planes, compute_features
from features.indices import indices_of
from features.sample import Strata, sample_pixels, strata_names, stratify
from features.settings import ContextSettings, FeatureSettings, SampleSettings, feature_names

__all__ = ["context", "features", "pixel_table", "spectral_indices"]

BAND = "band"
"""Name of the dimension of bands of labelled arrays, as rioxarray has it."""


def features(x: Any, names: Sequence[str], *, bands: Sequence[str] | None = None) -> Any:
    """Compute named features, the same as the columns of the pixel table.

    Parameters
    ----------
    x : (C, H, W) array
        Numpy, or an xarray DataArray whose first dimension is that of bands. NaN where there is no data.
    names : sequence of str
        Such as ``NDVI``, ``red_mean_r3``, ``nir_gradient_r1``.
    bands : sequence of str, optional
        STAC's common names, one a plane; those of the coordinate ``band`` by default.

    Returns
    -------
    features : (F, H, W) float32
        A DataArray with its coordinates where one was given.

    Raises
    ------
    FeatureError
        If there is not a band for each plane, or a name is no feature of these bands.

    Examples
    --------
    >>> features(np.array([[[1.0, 2.0]], [[3.0, 2.0]]]), ["NDVI"], bands=["red", "nir"])
    array([[[0.5, 0. ]]], dtype=float32)
    """
    values, known = _bands_of(x, bands)
    return _as_given(x, compute_features(values, known, list(names)), list(names))


def spectral_indices(x: Any, *, bands: Sequence[str] | None = None, which: Sequence[str] | None = None) -> Any:
    """Compute spectral indices: those named, or all that the bands allow.

    Parameters
    ----------
    x, bands
        As of `features`.
    which : sequence of str, optional

    Returns
    -------
    indices : (K, H, W) float32
        As `features` returns them.
    """
    _, known = _bands_of(x, bands)
    return features(x, indices_of(known) if which is None else which, bands=known)


def context(
    x: Any,
    *,
    bands: Sequence[str] | None = None,
    of: Sequence[str] | None = None,
    radii: Sequence[int] = (1, 3, 7),
    statistics: Sequence[str] = ("mean", "std"),
) -> Any:
    """Compute statistics of each pixel's surroundings, nodata left out.

    Parameters
    ----------
    x, bands
        As of `features`.
    of : sequence of str, optional
        Bands and indices; all bands by default.
    radii : sequence of int
        In pixels: a square of 2 r + 1 on a side.
    statistics : sequence of str
        As ``features.context.statistics`` in an experiment file.

    Returns
    -------
    context : (len(of) · len(radii) · len(statistics), H, W) float32
        As `features` returns them, named as ``red_mean_r3``.
    """
    _, known = _bands_of(x, bands)
    names = [f"{base}_{what}_r{radius}" for base in (of or known) for radius in radii for what in statistics]
    return features(x, names, bands=known)


def pixel_table(
    scenes: Mapping[str, Any],
    labels: Mapping[str, Any],
    *,
    bands: Sequence[str] | None = None,
    classes: Sequence[str] = ("positive",),
    indices: Sequence[str] | None = None,
    context: Mapping[str, Any] | None = None,
    sample: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """Sample labelled pixels of scenes in memory, each with its features and the weight that it stands for.

    Parameters
    ----------
    scenes : mapping of str to (C, H, W) array
        Id → pixels, as of `features`.
    labels : mapping of str to (H, W) array
        Id → label: 0 and 1 where there is one class, else 0 … K - 1; 255 where there is none.
    bands : sequence of str, optional
    classes : sequence of str
        The one positive class, or every class.
    indices : sequence of str, optional
        All that the bands allow by default.
    context, sample : mapping, optional
        As under ``features`` in an experiment file.
    seed : int

    Returns
    -------
    table : DataFrame
        ``scene``, ``row``, ``col``, ``label``, ``stratum``, ``weight``, and a column a feature. Weights of a stratum
        sum to its pixels.

    Raises
    ------
    FeatureError
        If bands differ from scene to scene, or a scene has no label of its size.
    """
    if not scenes:
        raise FeatureError("expected scenes by id, got none.")
    names = tuple(classes)
    task: Task = "binary" if len(names) == 1 else "multiclass"
    ids = (1,) if len(names) == 1 else tuple(range(len(names)))
    of_classes = Classes(task, ids, names, tuple(PALETTE[place % len(PALETTE)] for place in range(len(names))))
    given = {"indices": indices, "context": context and ContextSettings.model_validate(context)}
    settings = FeatureSettings.model_validate({key: value for key, value in given.items() if value is not None})
    sampling = SampleSettings.model_validate(sample or {})
    parts, known = [], None
    for name, x in scenes.items():
        values, its = _bands_of(x, bands)
        if known is not None and list(its) != list(known):
            raise FeatureError(f"scene {name}: expected the bands {', '.join(known)}, got {', '.join(its)}.")
        known = its
        label = np.asarray(labels.get(name, ()))
        if label.shape != values.shape[1:]:
            raise FeatureError(f"scene {name}: expected a label of {values.shape[1:]}, got {label.shape}.")
        columns = feature_names(its, settings)
        rows = _sample(name, label.astype(np.uint8), values, of_classes, sampling, seed)
        planes = compute_features(values, its, columns)
        picked = planes[:, rows["row"].to_numpy(), rows["col"].to_numpy()]
        parts.append(rows.with_columns(pl.Series(column, plane) for column, plane in zip(columns, picked, strict=True)))
    return pl.concat(parts)


def _sample(
    name: str,
    label: NDArray[np.uint8],
    pixels: NDArray[np.float32],
    classes: Classes,
    settings: SampleSettings,
    seed: int,
) -> pl.DataFrame:
    """Return the pixels of a scene that are drawn."""
    halo = settings.buffer if classes.task == "binary" else 0
    padded = np.pad(label, halo, constant_values=IGNORE)
    valid = np.asarray(np.isfinite(pixels).any(axis=0), bool)
    whole = Grid(*label.shape).window

    def strata_of(window: Window) -> Strata:
        around = padded[
            window.row : window.row + window.height + 2 * halo, window.col : window.col + window.width + 2 * halo
        ]
        return stratify(around, halo, valid[window.slices], classes)

    names = np.array(strata_names(classes))
    frames = [
        pl.DataFrame(
            {
                "scene": np.repeat(name, len(drawn)),
                "row": drawn.rows,
                "col": drawn.cols,
                "label": drawn.label,
                "stratum": names[drawn.stratum],
                "weight": drawn.weight,
            }
        )
        for _, drawn in sample_pixels([whole], strata_of, classes, settings, scene_rng(seed, name))
    ]
    schema = {
        "scene": pl.String,
        "row": pl.Int32,
        "col": pl.Int32,
        "label": pl.UInt8,
        "stratum": pl.String,
        "weight": pl.Float32,
    }
    return pl.concat(frames) if frames else pl.DataFrame(schema=schema)


def _bands_of(x: Any, bands: Sequence[str] | None) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Return the planes of an array, and their names."""
    if bands is None and BAND in getattr(x, "coords", {}):
        bands = [str(name) for name in np.atleast_1d(x.coords[BAND].values)]
    if bands is None:
        raise FeatureError("expected bands, one name a plane, got none. Name them: bands=['red', 'nir'].")
    return as_planes(getattr(x, "values", x), bands), tuple(bands)


def _as_given(x: Any, planes: NDArray[np.float32], names: list[str]) -> Any:
    """Return planes as a labelled array where one was given, with its coordinates of rows and columns."""
    if not hasattr(x, "dims"):
        return planes
    first, *others = x.dims
    kept = {key: value for key, value in x.coords.items() if first not in value.dims}
    return type(x)(planes, dims=(first, *others), coords={first: names, **kept}, attrs=dict(x.attrs))
