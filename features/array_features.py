"""Compute features of an array, as of a scene on disk."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data.errors import FeatureError
from data.scenes.image import ImageFile
from data.scenes.scene import Scene
from data.scenes.windows import Grid, Window
from features.feature_set import FeatureSet, OpenScene
from features.scene_facts import SceneFacts, measure_scene

__all__ = ["as_planes", "compute_features"]

Plane = NDArray[np.float32]


class OpenArray(OpenScene):
    """An array whose features are computed.

    Parameters
    ----------
    feature_set : FeatureSet
    pixels : (C, H, W) float32
        The bands of the feature set, NaN where there is no data.
    """

    def __init__(self, feature_set: FeatureSet, pixels: Plane) -> None:
        grid = Grid(*pixels.shape[1:])
        super().__init__(feature_set, Scene("array", "test", (ImageFile("", feature_set.scene_bands),), grid))
        self.pixels = pixels

    @property
    def facts(self) -> SceneFacts:
        """What the features need to know of the array as a whole."""
        needy = [feature for feature in self.feature_set.features if feature.needs_scene]
        return measure_scene(needy, *self._read_lattice()) if needy else {}

    def read_pixels(self, window: Window) -> Plane:
        """Return all bands of a window, (C, height, width), NaN outside of the array."""
        out = np.full((len(self.pixels), window.height, window.width), np.nan, np.float32)
        inner = window.meet(self.scene.grid.window)
        out[:, *inner.within(window)] = self.pixels[:, *inner.slices]
        return out


def compute_features(pixels: NDArray[np.number], bands: Sequence[str], names: Sequence[str]) -> Plane:
    """Compute named features of an array.

    Parameters
    ----------
    pixels : (C, H, W) array
        NaN where there is no data.
    bands : sequence of str
        One name a plane.
    names : sequence of str
        As the columns of the pixel table: a band, a spectral index, ``NDVI_mean_r3``, …

    Returns
    -------
    features : (F, H, W) float32
        The same bits as of a scene on disk.

    Raises
    ------
    FeatureError
        If there is not a name for each plane, or a name is no feature of these bands.

    Examples
    --------
    >>> compute_features(np.array([[[1.0, 2.0]], [[3.0, 2.0]]]), ["red", "nir"], ["NDVI"])
    array([[[0.5, 0. ]]], dtype=float32)
    """
    return OpenArray(FeatureSet(bands, names), as_planes(pixels, bands)).compute()


def as_planes(pixels: NDArray[np.number], bands: Sequence[str]) -> Plane:
    """Return an array as planes (C, H, W) float32; raises FeatureError if there is not a name for each."""
    values = np.asarray(pixels, np.float32)
    if values.ndim != 3 or len(values) != len(bands):
        raise FeatureError(
            f"expected planes ({len(bands)}, H, W), one for each of {', '.join(bands)}, got {values.shape}."
        )
    return values
