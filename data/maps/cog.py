"""Write Cloud Optimized GeoTIFFs: tiles and overviews in an order in which a part can be read over a network."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import rasterio
from rasterio.shutil import copy

from data.files import replacing, temporary_prefix
from data.maps.whole import require_whole, writing_pixels
from data.scenes.rasters import GDAL_OPTIONS, maybe_ungeoreferenced

__all__ = ["Resampling", "replacing_cog"]

Resampling = Literal["mode", "average"]

BLOCK = 512
"""Pixels on a side of a tile; a scene that fits in one needs no overviews, and gets none."""


@contextmanager
def replacing_cog(path: Path, resampling: Resampling) -> Iterator[Path]:
    """Give a temporary path for a plain GeoTIFF; on success a Cloud Optimized one of it takes the place of ``path``.

    Values, nodata, scale, band names, tags and colours are kept. The file is either whole or left as it was.

    Parameters
    ----------
    path : Path
        Ends in ``.tif``.
    resampling : {"mode", "average"}
        How overviews are made: of labels the commonest, of probabilities the mean of those that there are.

    References
    ----------
    .. [1] https://gdal.org/drivers/raster/cog.html
    """
    prefix = temporary_prefix("plain")
    with replacing(path) as temporary, tempfile.TemporaryDirectory(dir=path.parent, prefix=prefix) as folder:
        plain = Path(folder) / path.name
        yield plain
        # Without PAM, which would leave a side-car file under the temporary name.
        with rasterio.Env(**GDAL_OPTIONS, GDAL_PAM_ENABLED="NO"), maybe_ungeoreferenced(), writing_pixels(path):
            copy(
                str(plain),
                str(temporary),
                driver="COG",
                BLOCKSIZE=BLOCK,
                # What every program reads: many lack ZSTD.
                COMPRESS="DEFLATE",
                PREDICTOR="YES" if resampling == "average" else "NO",
                BIGTIFF="IF_SAFER",
                OVERVIEW_RESAMPLING=resampling.upper(),
                OVERVIEWS="AUTO",
            )
        require_whole(temporary)
