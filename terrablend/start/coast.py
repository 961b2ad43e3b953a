"""A synthetic coast with known truth, for the demo and for tests.

Kelp floats on the sea near the shore. Seen by one pixel alone it looks like algae on the rocks, like a raft of
seaweed adrift, like a marsh where the elevation model says sea, and a thin canopy looks like glint; where it
lies and what shape it has tells them apart. Each place is seen several times: scenes of one place have the same
elevation model and nearly the same beds, so they must share a group. All of it comes from smooth random fields.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from scipy import ndimage

from data.files import replacing, scene_rng, write_json
from data.maps.whole import require_whole
from data.scenes.rasters import maybe_ungeoreferenced

__all__ = ["BANDS", "EXPERIMENT", "NODATA", "write_coast"]

BANDS = ("swir16", "nir", "red", "green", "blue", "qa", "dem")
NODATA = -32768

Plane = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Surface reflectance in the first five bands, after typical Landsat values.
SPECTRA = {
    "clear water": (0.006, 0.012, 0.022, 0.042, 0.058),
    "turbid water": (0.012, 0.040, 0.085, 0.095, 0.080),
    "kelp": (0.035, 0.200, 0.045, 0.062, 0.042),
    "algae": (0.048, 0.190, 0.047, 0.062, 0.043),
    "marsh": (0.060, 0.190, 0.052, 0.070, 0.045),
    "vegetation": (0.150, 0.310, 0.050, 0.078, 0.045),
    "soil": (0.280, 0.240, 0.180, 0.140, 0.105),
    "sand": (0.370, 0.350, 0.310, 0.265, 0.205),
    "foam": (0.090, 0.280, 0.400, 0.420, 0.420),
    "cloud": (0.480, 0.580, 0.590, 0.590, 0.610),
}

CANOPY = 0.35
"""Least share of a pixel that kelp covers for the pixel to be kelp."""

EXPERIMENT = """\
# The synthetic coast of `terrablend demo`: small enough for a laptop's processor.
name: demo
task: binary
root: .
scenes:
  bands: [swir16, nir, red, green, blue, qa, dem]
  train: {image: "train/{id}_satellite.tif", label: "train_kelp/{id}_kelp.tif"}
  test: {image: "test/{id}_satellite.tif"}
  nodata: -32768
  invalid: {qa: nonzero}
classes: {1: kelp}
folds: {count: 4, group: {similar: dem}}
features:
  indices: [NDVI, NDWI, MNDWI]
  context: {of: [nir, red, NDVI], radii: [1, 3, 7, 15], statistics: [mean, std, min, max]}
  sample: {positives: all, buffer: 5, negatives: 1000}
members:
  lightgbm: {branch: trees, booster: lightgbm, rounds: 200, learning_rate: 0.1, leaves: 31}
  unet:
    branch: cnn
    architecture: unet
    encoder: resnet18
    encoder_depth: 3
    decoder_channels: [64, 32, 16]
    inputs: [red, green, blue, nir, swir16, NDVI]
    crop: 96
    batch_size: 8
    epochs: 12
ensemble: {metric: dice}
submission: {format: kelp}
"""
"""The demo's experiment file, to be written beside the coast's folders."""


@dataclass(frozen=True)
class Place:
    """What does not change between two acquisitions of a place; all (size, size).

    Parameters
    ----------
    height : float64
        Metres above the sea, negative below it.
    dem : int16
        Elevation as a coarse model has it: 0 at sea, `NODATA` far out.
    reef : float64
        How well kelp grows, in deviations; what lies above `reef_level` is kelp in a mean season.
    reef_level : float
        +inf at a place without kelp.
    green, marsh, algae : float64
        Smooth fields that place the vegetation, the marsh and the algae on the rocks.
    """

    height: Plane
    dem: NDArray[np.int16]
    reef: Plane
    reef_level: float
    green: Plane
    marsh: Plane
    algae: Plane


def write_coast(
    root: Path,
    *,
    places: int = 8,
    acquisitions: int = 3,
    test: int = 4,
    size: int = 192,
    label_errors: float = 0.1,
    seed: int = 0,
) -> None:
    """Write a data set like that of the kelp job, made from nothing.

    ``train/<id>_satellite.tif`` and ``test/<id>_satellite.tif`` are int16 with the bands `BANDS` (reflectance ×
    10 000, a cloud mask, metres), `NODATA` in some corners, no georeferencing. ``train_kelp/<id>_kelp.tif`` are
    labels as annotators draw them, with errors; ``truth/<id>.tif`` are the true ones of all scenes. Both hold
    1 where kelp is and can be seen, else 0. ``truth/label_errors.json`` says what is wrong with each label, and
    ``truth/places.json`` which place a scene shows; the ids do not.

    Parameters
    ----------
    root : Path
        Folder to write to.
    places : int
        Places of the training scenes; every fourth has no kelp.
    acquisitions : int
        Scenes of each place.
    test : int
        Scenes at further places, which no training scene shows.
    size : int
        Pixels along each side of a scene.
    label_errors : float
        Share of labels shifted, of beds missed, and of scenes with a bed that is none, 0 … 1.
    seed : int
    """
    shown = [(f"place{number // acquisitions}", number % acquisitions) for number in range(places * acquisitions)]
    further = [(f"place{places + number // acquisitions}", number % acquisitions) for number in range(test)]
    made: dict[str, Place] = {}
    known: dict[str, str] = {}
    errors: dict[str, Any] = {}
    for split, listed in (("train", shown), ("test", further)):
        for name, number in listed:
            if name not in made:
                without = int(name.removeprefix("place")) % 4 == 3
                made[name] = make_place(scene_rng(seed, name), size, without)
            rng = scene_rng(seed, f"{name}, acquisition {number}")
            scene = "".join(rng.choice(list("ABCDEFGHJKLMNPQRSTUVWXYZ23456789"), 8))
            pixels, truth = acquire(made[name], rng)
            _write(root / split / f"{scene}_satellite.tif", pixels, BANDS)
            _write(root / "truth" / f"{scene}.tif", truth[None].astype(np.uint8), ("kelp",))
            known[scene] = name
            if split == "train":
                label, errors[scene] = spoil_label(truth, pixels[-1] <= 0, label_errors, rng)
                _write(root / "train_kelp" / f"{scene}_kelp.tif", label[None].astype(np.uint8), ("kelp",))
    write_json(root / "truth" / "places.json", known)
    write_json(root / "truth" / "label_errors.json", errors)


def make_place(rng: np.random.Generator, size: int, without_kelp: bool = False) -> Place:
    """Make a place: a shore across the scene, hills behind it, reefs before it."""
    angle = rng.uniform(0, 2 * np.pi)
    across = np.linspace(-1, 1, size)
    ramp = np.cos(angle) * across[:, None] + np.sin(angle) * across[None, :]
    rough = (
        _field(rng, size, 40) + 0.5 * _field(rng, size, 14) + 0.22 * _field(rng, size, 5) + 0.1 * _field(rng, size, 2)
    )
    relief = 1.6 * ramp + 0.55 * rough
    relief -= np.quantile(relief, rng.uniform(0.5, 0.72))
    height = np.where(relief > 0, 90 * np.abs(relief) ** 1.3 + 1, 20 * relief)

    offshore = ndimage.distance_transform_edt(height < 0)

    # A coarse elevation model knows the shore to within a few pixels only.
    dem = np.round(ndimage.gaussian_filter(np.maximum(height - 1, 0), 1.5) - 1.5).clip(0)
    if rng.random() < 0.5:
        dem[offshore > 0.45 * size] = NODATA

    # Beds: clumps along stretches of the shore, where it is neither too shallow nor too deep.
    depth = 0.4 * offshore + 1.2 * _field(rng, size, 10)
    belt = np.exp(-(((depth - rng.uniform(4, 7)) / rng.uniform(2, 3)) ** 2))
    reef = _field(rng, size, 4.5) + 0.8 * _field(rng, size, 14) + 3 * belt
    reef[offshore < 4] = -np.inf
    level = np.inf if without_kelp else float(np.quantile(reef, 1 - rng.uniform(0.008, 0.028)))
    green, marsh, algae = (_field(rng, size, scale) for scale in (6, 9, 7))
    return Place(height, dem.astype(np.int16), reef, level, green, marsh, algae)


def acquire(place: Place, rng: np.random.Generator) -> tuple[NDArray[np.int16], Mask]:
    """Make a scene of a place, at some tide, season, sun and weather.

    Returns
    -------
    pixels : (7, size, size) int16
        The bands `BANDS`.
    truth : (size, size) bool
        Kelp that can be seen.
    """
    size = len(place.height)
    tide = rng.uniform(-0.8, 0.8)
    season = rng.uniform(0, 1)
    land = place.height > tide
    offshore = ndimage.distance_transform_edt(~land)
    inland = ndimage.distance_transform_edt(land)

    canopy = _rise(place.reef + 0.25 * _field(rng, size, 5), place.reef_level - rng.uniform(0.0, 0.4), 0.6)
    canopy[land] = 0
    # Little of it floats at high tide.
    visible = canopy * rng.uniform(0.7, 1.0) * (0.85 - 0.15 * tide)
    algae = (
        _rise(place.algae, 0.2 + 0.3 * tide, 0.6)
        * (offshore <= 2.5)
        * (~land | (inland <= 1.5))
        * rng.uniform(0.4, 0.9)
    )
    # Ridges of a field are long and thin, as what drifts in a current is.
    ridge = -np.abs(_field(rng, size, 9)) + 0.15 * _field(rng, size, 2)
    raft = _rise(ridge, -0.05 - 0.02 * rng.random(), 0.1) * _rise(_field(rng, size, 20), 0.0, 0.6)
    raft *= (offshore > 6) * rng.uniform(0.4, 0.9)
    turbid = _rise(_field(rng, size, 25) - offshore / 30, -1.2, 2.5) * rng.uniform(0.2, 1)
    foam = _rise(_field(rng, size, 0.7) - 0.35 * offshore, rng.uniform(0.6, 1.6), 1.5) * rng.uniform(0.2, 0.7)
    caps = _rise(_field(rng, size, 0.6), rng.uniform(2.6, 4.0), 1.0)
    glint = np.abs(rng.normal(0, 0.010)) * (1 + 0.5 * _field(rng, size, 1.0) + 0.5 * _field(rng, size, 30))

    surface = _mix(_paint("clear water", size), "turbid water", turbid) + np.maximum(glint, 0)
    for kind, share in (("kelp", visible), ("algae", raft), ("foam", np.maximum(foam, caps))):
        surface = _mix(surface, kind, share)
    ground = _mix(_paint("soil", size), "vegetation", _rise(place.green + 1.2 * season, -0.3, 1.5))
    ground = _mix(ground, "sand", _rise(-inland, -3.5, 2.0) * _rise(place.marsh, -0.2, 0.3))
    low = _rise(-place.height, -7, 3) * _rise(-place.marsh, 0.1, 0.4)
    ground = _mix(ground, "marsh", low) * (1 + 0.06 * _field(rng, size, 1.5))
    scene = np.where(land, ground, surface)
    scene = _mix(scene, "algae", algae)

    weather = _field(rng, size, 18) + 0.4 * _field(rng, size, 5)
    cover = rng.choice([np.inf, 1.6, 1.0])
    cloud = _rise(weather, cover, 0.6)
    haze = _rise(_field(rng, size, 30), 0.3, 2.0) * rng.uniform(0, 0.12)
    scene = _mix(_mix(scene, "cloud", haze), "cloud", cloud)

    # The sensor: light of the neighbours, sun and air, noise.
    scene = ndimage.gaussian_filter(scene, (0, 0.6, 0.6))
    scene = scene * rng.uniform(0.75, 1.25) + rng.uniform(0, 0.02) * np.array([0.3, 0.5, 0.7, 0.85, 1.0])[:, None, None]
    scene += rng.normal(0, 0.007, scene.shape)
    qa = ndimage.binary_dilation(cloud > 0.25, iterations=2)
    pixels = np.concatenate([np.round(scene.clip(0, 3) * 10_000), qa[None], place.dem[None]]).astype(np.int16)
    unseen = _corner(rng, size)
    pixels[:, unseen] = NODATA
    return pixels, (canopy > CANOPY) & ~qa & ~unseen


def spoil_label(truth: Mask, sea: Mask, share: float, rng: np.random.Generator) -> tuple[Mask, dict[str, Any]]:
    """Return a label with the errors of a hurried annotator.

    Parameters
    ----------
    truth, sea : (size, size) bool
    share : float
        Chance that the label is shifted, that a bed is missed, and that there is a false bed.
    rng : Generator

    Returns
    -------
    label : (size, size) bool
    errors : dict
        ``shift``: rows and columns that the label is off; ``missed`` and ``false``: row, column and pixels of
        each bed missed or made up, before the shift.
    """
    beds, count = ndimage.label(truth, np.ones((3, 3)))
    pixels = np.bincount(beds.ravel(), minlength=count + 1)
    # Small beds are missed more easily.
    missed = [bed for bed in range(1, count + 1) if rng.random() < 2 * share / (1 + pixels[bed] / 30)]
    label = truth & ~np.isin(beds, missed)
    # Nobody draws an edge to the pixel.
    edge = ndimage.binary_dilation(label) ^ ndimage.binary_erosion(label)
    label ^= edge & (_field(rng, len(truth), 2) > 1.5)
    false = np.zeros_like(truth)
    if rng.random() < share and sea.any():
        row, col = rng.choice(np.argwhere(sea))
        rows, cols = np.indices(truth.shape)
        radius = rng.uniform(3, 6) + 1.5 * _field(rng, len(truth), 3)
        false = (np.hypot(rows - row, cols - col) < radius) & sea & ~truth
        label |= false
    shift = [0, 0]
    if rng.random() < share and label.any():
        shift = [int(step) for step in rng.integers(1, 4, 2) * rng.choice([-1, 1], 2)]
        label = ndimage.shift(label.astype(np.uint8), shift, order=0).astype(bool)
    return label, {
        "shift": shift,
        "missed": [_where(beds == bed) for bed in missed],
        "false": [_where(false)] if false.any() else [],
    }


def _field(rng: np.random.Generator, size: int, scale: float) -> Plane:
    """Return a smooth random field with mean 0 and deviation 1, and features of ``scale`` pixels."""
    field: Plane = ndimage.gaussian_filter(rng.standard_normal((size, size)), scale, mode="reflect")
    field -= field.mean()
    field /= field.std()
    return field


def _rise(field: Plane, start: float, width: float) -> Plane:
    """Rise from 0 at ``start`` to 1 at ``start + width``."""
    return ((field - start) / width).clip(0, 1)


def _paint(kind: str, size: int) -> Plane:
    return np.broadcast_to(np.array(SPECTRA[kind])[:, None, None], (5, size, size)).copy()


def _mix(scene: Plane, kind: str, share: Plane) -> Plane:
    """Cover a share of each pixel with something else."""
    return scene + share * (np.array(SPECTRA[kind])[:, None, None] - scene)


def _corner(rng: np.random.Generator, size: int) -> Mask:
    """Return the corner beyond the edge of the swath, which one scene in three has."""
    if rng.random() > 1 / 3:
        return np.zeros((size, size), bool)
    rows, cols = np.indices((size, size)) / size
    rows, cols = (rows if rng.random() < 0.5 else 1 - rows), (cols if rng.random() < 0.5 else 1 - cols)
    return np.asarray(rows + rng.uniform(0.3, 3) * cols < rng.uniform(0.1, 0.45))


def _where(mask: Mask) -> dict[str, int]:
    row, col = np.argwhere(mask).mean(axis=0)
    return {"row": round(float(row)), "col": round(float(col)), "pixels": int(mask.sum())}


def _write(path: Path, pixels: NDArray[Any], names: tuple[str, ...]) -> None:
    nodata = NODATA if pixels.dtype == np.int16 else None
    profile = {
        "driver": "GTiff",
        "count": len(pixels),
        "height": pixels.shape[1],
        "width": pixels.shape[2],
        "dtype": pixels.dtype,
        "nodata": nodata,
        "compress": "deflate",
        "predictor": 2,
        "interleave": "band",
    }
    with replacing(path) as temporary:
        with maybe_ungeoreferenced(), rasterio.open(temporary, "w", **profile) as raster:
            raster.write(pixels)
            raster.descriptions = names
        require_whole(temporary)
