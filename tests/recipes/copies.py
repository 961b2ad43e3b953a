"""What the small copies of data sets are drawn and written with; the same seed writes the same bytes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from data.scenes.rasters import maybe_ungeoreferenced

SMALL_NETWORK = (
    "members.{0}.pretrained=null",
    "members.{0}.encoder=tu-regnetx_002",
    "members.{0}.epochs=1",
    "members.{0}.steps=4",
    "members.{0}.batch_size=4",
)
"""Settings that make a network, named by `format`, one that a processor trains in seconds."""


def smooth_field(rng: np.random.Generator, size: int, scale: float) -> NDArray[np.float64]:
    """Return a random field (size, size) with mean 0 and deviation 1, and features of ``scale`` pixels."""
    field = ndimage.gaussian_filter(rng.standard_normal((size, size)), scale, mode="reflect")
    return (field - field.mean()) / field.std()


def write_tiff(path: Path, pixels: NDArray[np.generic], nodata: float | None = None) -> None:
    """Write planes (C, H, W), or one (H, W), as a GeoTIFF that lies nowhere."""
    planes = pixels[None] if pixels.ndim == 2 else pixels
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"count": len(planes), "height": planes.shape[1], "width": planes.shape[2], "dtype": planes.dtype.name}
    with maybe_ungeoreferenced(), rasterio.open(path, "w", driver="GTiff", nodata=nodata, **profile) as raster:
        raster.write(planes)


def write_picture(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write (H, W, 3), or (H, W), as the JPEG or PNG that its suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **({"quality": 90} if path.suffix == ".jpg" else {}))


def draw_land(
    rng: np.random.Generator, size: int, looks: Mapping[str, tuple[Sequence[int], float]]
) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """Return land of several classes: their indices (size, size), and a picture of it (size, size, 3).

    Each class looks as it says: its colour, and how rough it is.
    """
    label = np.stack([smooth_field(rng, size, 5) for _ in looks]).argmax(axis=0)
    colors, roughness = (np.array(values, float)[label] for values in zip(*looks.values(), strict=True))
    shade = rng.normal(size=(size, size, 1)) * roughness[..., None]
    return label, (colors + shade + rng.normal(0, 5, (size, size, 3))).clip(0, 255).astype(np.uint8)
