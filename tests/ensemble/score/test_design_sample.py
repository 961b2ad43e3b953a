import re

import numpy as np
import pytest
from rasterio.crs import CRS

from data.errors import LabelError
from data.maps.geotiff import write_class_map
from data.scenes.windows import Grid
from ensemble.score.area_estimates import areas_of_sample
from ensemble.score.design_sample import Point, read_sample, score_sample

from ..conftest import LAND

UTM = CRS.from_epsg(32633).to_wkt()
GRIDS = {"north": Grid(20, 30, UTM, (10, 0, 500_000, 0, -10, 5_000_200)), "south": Grid(10, 30)}


@pytest.fixture
def write_sample(tmp_path):
    def write(text):
        (tmp_path / "points.csv").write_text(text, "utf-8")
        return tmp_path / "points.csv"

    return write


@pytest.fixture
def maps(tmp_path):
    """Class maps of two scenes of which one row is not mapped, and the labels that they hold."""
    rng = np.random.default_rng(0)
    written = {}
    for scene, grid in GRIDS.items():
        label = rng.choice(3, (grid.height, grid.width), p=[0.6, 0.3, 0.1]).astype(np.uint8)
        label[0] = 255
        write_class_map(tmp_path / "maps" / f"{scene}.tif", label, grid, LAND, {})
        written[scene] = label
    return {scene: tmp_path / "maps" / f"{scene}.tif" for scene in written}, written


def test_pixels_coordinates_names_and_ids_all_say_which_point_is_meant(write_sample):
    by_pixel = read_sample(write_sample("scene,row,col,class\nnorth,3,7,rock\nsouth,9,29,5\n"), GRIDS, LAND)
    assert by_pixel == [Point("north", 3, 7, 1), Point("south", 9, 29, 2)]
    by_place = write_sample(
        "\ufeffclass,y,x,who,scene\nkelp,5000165.0,500079.9,me,north\nwater,5000200,500000,,north\n"
    )
    assert read_sample(by_place, GRIDS, LAND) == [Point("north", 3, 7, 2), Point("north", 0, 0, 0)]


def test_points_are_counted_against_the_map_and_weighed_by_its_classes(write_sample, maps):
    paths, labels = maps
    rng = np.random.default_rng(1)
    rows, counts = ["scene,row,col,class"], np.zeros((3, 4), np.int64)
    for scene, label in labels.items():
        for place in rng.choice(label.size, 120, replace=False):
            row, col = divmod(int(place), label.shape[1])
            mapped = label[row, col]
            truth = int(mapped) if mapped < 3 and rng.random() < 0.7 else int(rng.integers(3))
            rows.append(f"{scene},{row},{col},{LAND.names[truth]}")
            counts[truth, min(mapped, 3)] += 1
    scores = score_sample(write_sample("\n".join(rows)), paths, LAND, 0.95)
    np.testing.assert_array_equal(scores.counts, counts)
    assert (scores.points, scores.unmapped) == (240, counts[:, 3].sum())
    assert scores.unmapped > 0
    # A scene without coordinates leaves all areas in pixels.
    shown = np.sum([np.bincount(label.ravel(), minlength=256)[:3] for label in labels.values()], axis=0).astype(float)
    assert scores.areas == areas_of_sample(counts, shown, LAND.names, 0.95, metric=False)
    only = score_sample(write_sample("\n".join(rows[:121])), {"north": paths["north"]}, LAND, 0.95)
    assert only.areas.metric
    assert sum(only.areas.mapped) == 19 * 30 * 100


def test_every_line_that_does_not_fit_is_counted_and_the_first_are_told(write_sample):
    path = write_sample(
        "scene,row,col,class\nnorth,3,7,rock\nnorht,3,7,rock\nnorth,20,0,rock\nnorth,1,1,rok\nnorth,3,7,kelp\n"
        "north,one,1,rock\nnorth,2\n"
    )
    with pytest.raises(LabelError) as error:
        read_sample(path, GRIDS, LAND)
    assert str(error.value) == (
        f"{path}: expected 7 points on the maps, got 6 that are not: "
        "line 3: expected a scene with a map, got norht (nearest: north); "
        "line 4: expected a pixel of 20 × 30, got row 20, col 0; "
        "line 5: expected a class, got rok (nearest: rock) …. Correct these lines."
    )


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("north,3,7,rock\nnorth,3,7,rock", "line 3: expected each pixel once, got north 3, 7 again"),
        ("north,one,1,rock", "line 2: expected two numbers, got one and 1"),
        ("north,2", "line 2: expected two numbers, got 2 and (none)"),
        ("north,nan,1,rock", "line 2: expected two numbers, got (none) and 1"),
        ("north,-1,1,rock", "line 2: expected a pixel of 20 × 30, got row -1, col 1"),
    ],
)
def test_a_line_is_told_with_what_is_wrong(write_sample, line, problem):
    with pytest.raises(LabelError, match=re.escape(problem)):
        read_sample(write_sample(f"scene,row,col,class\n{line}\n"), GRIDS, LAND)


def test_a_sample_is_read_as_a_spreadsheet_saves_it(write_sample):
    points = read_sample(write_sample("\ufeffscene;row;col;class\nnorth;3,0;7,0;rock\n"), GRIDS, LAND)
    assert [(point.row, point.col) for point in points] == [(3, 7)]


def test_coordinates_on_a_map_without_any_are_refused(write_sample):
    with pytest.raises(LabelError, match="expected row and col, got x and y, but the map of south has no coordinates"):
        read_sample(write_sample("scene,x,y,class\nsouth,1,1,rock\n"), GRIDS, LAND)


def test_a_file_without_the_columns_or_without_a_line_is_refused(write_sample, tmp_path):
    with pytest.raises(LabelError, match="columns scene, class, and row and col or x and y, got class, row, scene"):
        read_sample(write_sample("scene,row,class\nnorth,1,rock\n"), GRIDS, LAND)
    with pytest.raises(LabelError, match="got no row"):
        read_sample(write_sample("scene,row,col,class\n"), GRIDS, LAND)
    with pytest.raises(LabelError, match="expected a CSV file of points, got"):
        read_sample(tmp_path / "none.csv", GRIDS, LAND)


def test_a_mapped_class_with_a_single_point_is_too_little_to_tell_how_far_it_could_be_off(write_sample, maps):
    paths, labels = maps
    lines = ["scene,row,col,class"]
    for value, count in ((0, 5), (1, 3), (2, 1)):
        found = np.argwhere(labels["north"] == value)[:count]
        lines += [f"north,{row},{col},{LAND.names[value]}" for row, col in found]
    with pytest.raises(LabelError, match=r"at least 2 points in each mapped class, got 1 in kelp \(\d+% of the map\)"):
        score_sample(write_sample("\n".join(lines)), paths, LAND, 0.95)
