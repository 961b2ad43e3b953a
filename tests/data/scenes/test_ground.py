import numpy as np
import pytest
from rasterio.crs import CRS

from data.errors import ExperimentError
from data.scenes.blocks import length_in_pixels
from data.scenes.ground import pixel_area, pixel_metres
from data.scenes.windows import Grid


def utm(epsg=32633, size=10.0, turn=0.0):
    return Grid(4, 5, CRS.from_epsg(epsg).to_wkt(), (size, turn, 500_000.0, turn, -size, 5_000_000.0))


def degrees(lat, lon=10.0, side=1e-3, height=100):
    return Grid(height, 50, CRS.from_epsg(4326).to_wkt(), (side, 0, lon, 0, -side, lat))


@pytest.mark.parametrize(
    ("grid", "area"),
    [
        (utm(), 100.0),
        (utm(2263), (10 * 1200 / 3937) ** 2),  # US survey feet
        (Grid(4, 5, utm().crs, (6, 8, 0, 8, -6, 0)), 100.0),  # a turned square
        (Grid(4, 5), None),
        (Grid(4, 5, None, (1, 0, 0, 0, 1, 0)), None),
    ],
)
def test_the_area_of_a_pixel_is_that_of_its_map_where_a_map_has_true_metres(grid, area):
    assert pixel_area(grid) == (None if area is None else pytest.approx(area))


@pytest.mark.parametrize(("lat", "lon"), [(0.05, 10), (45, 10), (60, 179.99), (-70, 359.98)])
def test_in_degrees_it_is_the_true_area_on_the_ellipsoid(lat, lon):
    # A degree squared at the middle latitude, by the radii of curvature of WGS 84.
    a, e2, middle = 6378137.0, 0.00669437999014, np.radians(lat - 0.05)
    bent = 1 - e2 * np.sin(middle) ** 2
    expected = (a * (1 - e2) / bent**1.5) * (a / np.sqrt(bent)) * np.cos(middle) * np.radians(1e-3) ** 2
    assert pixel_area(degrees(lat, lon)) == pytest.approx(expected, rel=1e-5)


def test_a_mercators_pixels_are_measured_on_the_ground():
    # 60° north, where its metres are half as long.
    grid = Grid(10, 10, CRS.from_epsg(3857).to_wkt(), (10, 0, 0, 0, -10, 8_399_738))
    assert pixel_area(grid) == pytest.approx(25, rel=0.01)
    assert pixel_metres(grid) == pytest.approx(5, rel=0.01)


def test_metres_become_pixels_in_any_coordinate_system():
    assert length_in_pixels("gap", "1 km", degrees(60, height=20)) == 18  # 56 m wide, 111 m high
    assert length_in_pixels("gap", "1 km", utm(2263)) == 329  # 3.05 m
    assert length_in_pixels("gap", "1 km", utm()) == 100
    with pytest.raises(ExperimentError, match="expected scenes with georeferencing"):
        length_in_pixels("gap", "1 km", Grid(4, 5))
