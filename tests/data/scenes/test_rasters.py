import numpy as np
from rasterio.windows import Window

from data.scenes import rasters
from data.scenes.rasters import keep_open, open_raster


def test_parts_of_a_raster_that_stays_open_are_decoded_once(write_raster, monkeypatch):
    values = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    paths = [write_raster(f"{name}.tif", values) for name in "ab"]
    monkeypatch.setattr(rasters, "MOST_OPEN", 1)
    with keep_open():
        with keep_open(), open_raster(str(paths[0])) as first:
            assert first.read(1, window=Window(0, 0, 1, 1)) == 0
        # What was decoded is at hand, whatever becomes of the file.
        paths[0].write_bytes(b"")
        with open_raster(str(paths[0])) as again:
            assert again is first
            np.testing.assert_array_equal(again.read(1), values)
        with open_raster(str(paths[1])) as second:
            assert first.closed
            np.testing.assert_array_equal(second.read(1), values)
    assert second.closed
