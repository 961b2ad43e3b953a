import resource
import signal

import numpy as np
import pytest
import rasterio

from data.errors import MapError
from data.maps.geotiff import map_writer, quantise, read_class_map, read_map, write_class_map
from data.maps.whole import require_whole
from data.scenes.classes import Classes
from data.scenes.rasters import maybe_ungeoreferenced
from data.scenes.windows import Grid, Window

MANY = Classes(
    "multiclass", tuple(range(200)), tuple(f"c{n}" for n in range(200)), tuple((n, 0, 0) for n in range(200))
)
KINDS = ("plain", "cloud-optimised", "classes")


@pytest.fixture
def full_disk():
    """Return a function that ends every file at some size, as a disk does that is full."""
    free = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, free[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, free)
    signal.signal(signal.SIGXFSZ, before)


def write(kind, path, side):
    """Write a map of noise, which cannot be compressed, and return how it is read and what should be read."""
    rng, grid = np.random.default_rng(0), Grid(side, side)
    if kind == "classes":
        label = rng.integers(0, 200, (side, side)).astype(np.uint8)
        write_class_map(path, label, grid, MANY, {})
        return lambda: read_class_map(path, MANY), label
    proba = rng.random((2, side, side), np.float32)
    with map_writer(path, grid, ("a", "b"), {}, kind == "cloud-optimised") as writer:
        for row in range(0, side, 512):
            window = Window(row, 0, min(512, side - row), side)
            writer.write(window, proba[(slice(None), *window.slices)])
    return lambda: read_map(path), quantise(proba)


@pytest.mark.parametrize("side", [60, 700])
@pytest.mark.parametrize("kind", KINDS)
def test_a_map_is_whole_or_absent_wherever_the_disk_is_full(kind, side, tmp_path, full_disk):
    whole = tmp_path / "whole.tif"
    write(kind, whole, side)
    size = whole.stat().st_size
    for room in sorted({0, size // 10, size // 2, size - 5000, size - 300, size - 1} & set(range(size))):
        folder = tmp_path / str(room)
        folder.mkdir()
        full_disk(room)
        # Where not even the names of classes find room, the system's own error says so.
        with pytest.raises((MapError, OSError), match=r"expected room for a map|File too large"):
            write(kind, folder / "map.tif", side)
        full_disk(resource.RLIM_INFINITY)
        assert not [path for path in folder.iterdir() if path.name != "map.tif.aux.xml"]
        read, expected = write(kind, folder / "map.tif", side)
        np.testing.assert_array_equal(read(), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_that_was_cut_off_anywhere_or_has_a_hole_is_not_whole(kind, tmp_path):
    path = tmp_path / "map.tif"
    write(kind, path, 700)
    require_whole(path)
    content = path.read_bytes()
    with maybe_ungeoreferenced(), rasterio.open(path) as raster:
        start = int(raster.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
    for size in np.random.default_rng(0).integers(0, len(content), 40):
        path.write_bytes(content[:size])
        with pytest.raises(MapError, match="expected room for a map"):
            require_whole(path)
    profile = {"driver": "GTiff", "height": 8, "width": 8, "count": 1, "dtype": "uint8"}
    with maybe_ungeoreferenced(), rasterio.open(path, "w", SPARSE_OK=True, **profile):
        pass
    with pytest.raises(MapError):
        require_whole(path)
    path.write_bytes(content[:start] + bytes(4096) + content[start + 4096 :])
    with pytest.raises(MapError):
        require_whole(path)


@pytest.mark.parametrize(
    "options", [{"BIGTIFF": "YES"}, {"ENDIANNESS": "BIG"}, {"tiled": True, "blockxsize": 16, "blockysize": 16}]
)
def test_every_layout_of_a_tiff_is_understood(options, tmp_path):
    path = tmp_path / "map.tif"
    profile = {"driver": "GTiff", "height": 40, "width": 40, "count": 3, "dtype": "uint16", "crs": "EPSG:32610"}
    with rasterio.open(path, "w", transform=rasterio.Affine(10, 0, 0, 0, -10, 0), **profile, **options) as raster:
        raster.write(np.ones((3, 40, 40), np.uint16))
    require_whole(path)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(MapError):
        require_whole(path)
