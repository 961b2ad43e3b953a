import math
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import TableError
from data.scenes.classes import Classes
from features.foreign import catalogue_of_table, find_tables, write_table
from features.settings import TableSettings
from features.table import open_table, table_path

CROP = Classes("binary", (1,), ("crop",), ((230, 159, 0),))
SOIL = Classes(
    "multiclass", (1, 2, 3, 4, 5, 7), ("red", "cotton", "grey", "damp", "stubble", "very damp"), ((0, 0, 0),) * 6
)
ROWS = pl.DataFrame(
    {
        "kind": [1, 0, 0, 1, 0, 1],
        "place": ["north", "south", "north", "east", "east", "south"],
        "pixels": [1.0, 2.5, 1.0, 4.0, 1.0, 7.0],
        "red": [0.25, -1.5, 3.0, 1e-3, 0.1, 12.0],
        "count": [10, 20, 30, 40, 50, 60],
    }
)
BASE = {"files": "*", "label": "kind"}
NUMBERED = {**BASE, "features": ["number"]}


def table(**settings):
    return TableSettings.model_validate(BASE | settings)


@pytest.fixture
def fill(tmp_path):
    """Return a function that writes files below a fresh folder and returns it: text, bytes or a DataFrame by name."""

    def write(**files):
        root = tmp_path / "tables"
        root.mkdir(exist_ok=True)
        for name, content in files.items():
            path = root / name.replace("_csv", ".csv").replace("_parquet", ".parquet")
            if isinstance(content, pl.DataFrame):
                content.write_parquet(path) if path.suffix == ".parquet" else content.write_csv(path)
            else:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return root

    return write


def taken(settings, root, directory, classes=CROP, seed=0, folds=2):
    """Make a table ours, and return the catalogue with folds."""
    catalogue = catalogue_of_table(settings, classes, root, seed)
    ids = [scene.id for scene in catalogue.scenes]
    catalogue = catalogue.with_folds(
        {("train", one): one for one in ids}, {one: number % folds for number, one in enumerate(ids)}
    )
    write_table(settings, catalogue, root, directory, experiment="test", seed=seed)
    return catalogue


def read_back(settings, root, directory, classes=CROP, seed=0):
    """Return group → its rows, as `open_table` reads them once the table is ours."""
    catalogue = taken(settings, root, directory, classes, seed)
    return {scene.id: open_table(directory, [scene], catalogue.bands) for scene in catalogue.scenes}


def numbers_of(settings, root, directory, seed=0):
    """Return group → the column ``number`` of its rows."""
    groups = read_back(settings, root, directory, seed=seed)
    return {group: rows.read()[:, 0].astype(int).tolist() for group, rows in groups.items()}


def check_rows(groups, names=("red", "count"), weight=False):
    """Assert that the groups by place hold the rows of `ROWS`, in their order."""
    assert set(groups) == {"north", "south", "east"}
    for place, rows in groups.items():
        expected = ROWS.filter(pl.col("place") == place)
        assert rows.names == names
        np.testing.assert_array_equal(rows.read(), expected.select(names).to_numpy().astype(np.float32))
        np.testing.assert_array_equal(rows.label, expected["kind"].to_numpy())
        np.testing.assert_array_equal(rows.weight, expected["pixels"].to_numpy() if weight else np.ones(len(expected)))


class TestFiles:
    def test_csv_with_a_header_comes_back_as_it_was(self, fill, tmp_path):
        check_rows(read_back(table(group="place", exclude=["pixels"]), fill(a_csv=ROWS), tmp_path / "ours"))

    def test_csv_without_a_header_takes_its_names_from_columns(self, fill, tmp_path):
        root = fill(a_csv=ROWS.write_csv(separator=";", include_header=False))
        settings = table(group="place", exclude=["pixels"], separator=";", columns=ROWS.columns)
        check_rows(read_back(settings, root, tmp_path / "ours"))

    def test_parquet_comes_back_as_it_was(self, fill, tmp_path):
        check_rows(read_back(table(group="place", exclude=["pixels"]), fill(a_parquet=ROWS), tmp_path / "ours"))

    def test_several_files_are_one_table(self, fill, tmp_path):
        root = fill(a_csv=ROWS[:2], b_parquet=ROWS[2:3], c_csv=ROWS[3:], other_txt="nothing of ours")
        settings = table(files=["*.csv", "b.parquet", "a.*"], group="place", exclude=["pixels"])
        assert [path.name for path in find_tables(settings, root)] == ["a.csv", "b.parquet", "c.csv"]
        check_rows(read_back(settings, root, tmp_path / "ours"))

    def test_the_columns_named_are_the_features_in_the_order_named(self, fill, tmp_path):
        settings = table(group="place", features=["count", "red"])
        check_rows(read_back(settings, fill(a_csv=ROWS), tmp_path / "ours"), names=("count", "red"))

    def test_a_weight_column_is_the_pixels_that_rows_stand_for(self, fill, tmp_path):
        settings = table(group="place", weight="pixels")
        check_rows(read_back(settings, fill(a_csv=ROWS), tmp_path / "ours"), weight=True)

    def test_an_empty_cell_is_not_a_number(self, fill, tmp_path):
        root = fill(a_csv="kind,red,place\n1,,a\n0,2,a\n1,3,b\n")
        groups = read_back(table(group="place"), root, tmp_path / "ours")
        np.testing.assert_array_equal(groups["a"].read(), [[math.nan], [2]])
        np.testing.assert_array_equal(groups["b"].read(), [[3]])

    def test_truth_values_are_zeros_and_ones(self, fill, tmp_path):
        root = fill(a_csv="kind,cloudy,place\n1,true,a\n0,false,a\n1,,a\n")
        groups = read_back(table(group="place"), root, tmp_path / "ours")
        np.testing.assert_array_equal(groups["a"].read(), [[1], [0], [math.nan]])

    def test_rows_are_numbered_through_all_files(self, fill, tmp_path):
        root = fill(a_csv=ROWS, b_csv=ROWS)
        catalogue = taken(table(group="place"), root, tmp_path)
        numbers, reds = [], []
        for scene in catalogue.scenes:
            rows = pl.read_parquet(table_path(tmp_path, scene), hive_partitioning=False)
            assert rows["scene"].unique().to_list() == [scene.id]
            assert rows["col"].unique().to_list() == [0]
            numbers += rows["row"].to_list()
            reds += rows["red"].to_list()
        given = pl.concat(pl.read_csv(path) for path in sorted(root.glob("*.csv")))["red"].to_list()
        assert sorted(numbers) == list(range(len(given)))
        assert [red for _, red in sorted(zip(numbers, reds, strict=True))] == pytest.approx(given)

    def test_two_writes_give_the_same_bytes(self, fill, tmp_path):
        for settings in (table(group="place"), table(exclude=["place"])):
            root = fill(a_csv=ROWS)
            first, second = tmp_path / "first", tmp_path / "second"
            catalogue = taken(settings, root, first)
            taken(settings, root, second)
            for scene in catalogue.scenes:
                assert table_path(first, scene).read_bytes() == table_path(second, scene).read_bytes()


class TestLabels:
    def test_the_values_of_a_binary_label_become_zero_and_one(self, fill, tmp_path):
        kelp = Classes("binary", (7,), ("kelp",), ((0, 0, 0),))
        settings, root = table(group="place"), fill(a_csv=ROWS.with_columns(kind=pl.col("kind") * 7))
        groups = read_back(settings, root, tmp_path / "ours", kelp)
        assert {place: rows.label.tolist() for place, rows in groups.items()} == {
            "north": [1, 0],
            "south": [0, 1],
            "east": [1, 0],
        }
        counts = catalogue_of_table(settings, kelp, root, 0).statistics
        assert {place: found.label_counts for (_, place), found in counts.items()} == {
            "north": (1, 1),
            "south": (1, 1),
            "east": (1, 1),
        }

    def test_values_of_many_classes_become_their_positions(self, fill, tmp_path):
        values = [7, 1, 5, 2, 4, 3, 7]
        root = fill(a_csv=pl.DataFrame({"kind": values, "red": range(7), "place": list("aabbabb")}))
        groups = read_back(table(group="place"), root, tmp_path / "ours", SOIL)
        assert groups["a"].label.tolist() == [5, 0, 3]
        assert groups["b"].label.tolist() == [4, 1, 2, 5]
        catalogue = catalogue_of_table(table(group="place"), SOIL, root, 0)
        assert catalogue.label_counts("a").tolist() == [1, 0, 0, 1, 0, 1]

    @pytest.mark.parametrize("kind", [[1.0, 0.0], [True, False]])
    def test_whole_numbers_and_truth_values_are_labels_too(self, fill, tmp_path, kind):
        root = fill(a_parquet=pl.DataFrame({"kind": kind, "red": [1.0, 2.0], "place": ["a", "a"]}))
        assert read_back(table(group="place"), root, tmp_path / "ours")["a"].label.tolist() == [1, 0]


class TestGroups:
    @pytest.fixture
    def numbered(self, fill):
        """Return a function that writes columns beside a label and the number of each row."""

        def write(**columns):
            n = len(next(iter(columns.values())))
            frame = pl.DataFrame({"kind": [number % 2 for number in range(n)], "number": range(n), **columns})
            return fill(a_parquet=frame)

        return write

    def test_rows_of_one_file_stay_together(self, fill, tmp_path):
        root = fill(north_csv="kind,number\n1,0\n0,1\n", south_csv="kind,number\n1,2\n")
        assert numbers_of(table(group="file"), root, tmp_path / "ours") == {"north": [0, 1], "south": [2]}

    def test_a_column_of_numbers_can_name_groups(self, numbered, tmp_path):
        settings = TableSettings.model_validate(NUMBERED | {"group": "plot"})
        assert numbers_of(settings, numbered(plot=[3, 12, 3]), tmp_path) == {"12": [1], "3": [0, 2]}

    @pytest.mark.parametrize("side", [1.0, 50.0, 0.3])
    def test_rows_of_one_square_stay_together_and_no_others(self, numbered, tmp_path, side):
        rng = np.random.default_rng(4)
        # Around zero, where rounding to the wrong side would join squares of opposite signs.
        east, north = rng.uniform(-4 * side, 4 * side, (2, 300))
        settings = TableSettings.model_validate(NUMBERED | {"xy": ["e", "n"], "block": side})
        groups = numbers_of(settings, numbered(e=east, n=north), tmp_path)
        squares = {}
        for number, (x, y) in enumerate(zip(east, north, strict=True)):
            squares.setdefault((math.floor(x / side), math.floor(y / side)), []).append(number)
        assert sorted(groups.values()) == sorted(squares.values())
        assert len(groups) == 64

    def test_whole_coordinates_are_divided_too(self, numbered, tmp_path):
        settings = TableSettings.model_validate(NUMBERED | {"xy": ["e", "n"], "block": 100})
        root = numbered(e=[-1, -100, -101, 0, 99, 100], n=[5] * 6)
        assert sorted(numbers_of(settings, root, tmp_path).values()) == [[0, 1], [2], [3, 4], [5]]

    def test_squares_of_two_places_are_two(self, numbered, tmp_path):
        settings = TableSettings.model_validate(NUMBERED | {"group": "place", "xy": ["e", "n"], "block": 10})
        root = numbered(e=[1.0, 2, 1, 15], n=[1.0, 2, 1, 1], place=["a", "a", "b", "b"])
        assert sorted(numbers_of(settings, root, tmp_path).values()) == [[0, 1], [2], [3]]

    def test_without_either_rows_are_dealt_at_random_and_the_same_way_for_the_same_seed(
        self, numbered, tmp_path, caplog
    ):
        settings, root = TableSettings.model_validate(NUMBERED), numbered(other=[0] * 250)
        first, again, another = (
            numbers_of(settings, root, tmp_path / folder, seed)
            for folder, seed in (("first", 0), ("again", 0), ("another", 1))
        )
        assert first == again
        assert first != another
        assert sorted(number for numbers in first.values() for number in numbers) == list(range(250))
        assert {len(numbers) for numbers in first.values()} == {2, 3}
        assert "neighbours may leak" in caplog.text

    def test_a_few_rows_are_a_group_each(self, numbered, tmp_path):
        settings = TableSettings.model_validate(NUMBERED)
        assert sorted(numbers_of(settings, numbered(other=[0] * 7), tmp_path).values()) == [[n] for n in range(7)]

    def test_names_that_no_file_can_have_are_told_apart(self, numbered, tmp_path):
        settings = TableSettings.model_validate(NUMBERED | {"group": "place"})
        root = numbered(place=["../up", "a/b", "a-b", "a b", "a/b"])
        groups = numbers_of(settings, root, tmp_path / "ours")
        assert sorted(groups.values()) == [[0], [1, 4], [2], [3]]
        files = [path for path in tmp_path.rglob("*.parquet") if path.parent != root]
        assert len(files) == 4
        assert {path.parent.parent for path in files} == {tmp_path / "ours"}

    @given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=12, unique=True))
    def test_distinct_groups_get_distinct_names_of_files(self, names):
        with tempfile.TemporaryDirectory() as folder:
            frame = pl.DataFrame({"kind": [0] * len(names), "red": 1.0, "place": names})
            frame.write_parquet(Path(folder) / "a.parquet")
            scenes = catalogue_of_table(table(group="place"), CROP, Path(folder), 0).scenes
        assert len({scene.id for scene in scenes}) == len(names)
        assert all("/" not in scene.id and "\0" not in scene.id for scene in scenes)


GOOD = "kind,red,place\n1,2,a\n0,3,b\n"

BAD = {
    "no file": ({"a_csv": GOOD}, {"files": "*.parquet"}, r"expected a table, got no such file. Correct table\.files"),
    "no file for one of two patterns": ({"a_csv": GOOD}, {"files": ["a.csv", "b*.csv"]}, r"b\*\.csv: expected a table"),
    "a file with another column": (
        {"a_csv": GOOD, "b_csv": GOOD.replace("red", "nir")}, {},
        r"b\.csv: expected the columns of the other files, got others: nir, red\.",
    ),
    "columns in another order": (
        {"a_csv": "kind,red,nir\n1,2,3\n", "b_csv": "kind,nir,red\n1,2,3\n"}, {}, "the same in another order",
    ),
    "no such label": (
        {"a_csv": GOOD}, {"label": "class"}, "expected the columns class, the files have kind, red, place. Correct the "
    ),
    "no such feature": ({"a_csv": GOOD}, {"features": ["red", "nir"]}, "expected the columns nir, the files have"),
    "no such weight": ({"a_csv": GOOD}, {"weight": "area"}, "expected the columns area"),
    "no such group": ({"a_csv": GOOD}, {"group": "zone"}, "expected the columns zone"),
    "no such coordinates": ({"a_csv": GOOD}, {"xy": ["x", "y"], "block": 1}, "expected the columns x, y"),
    "nothing to learn from": ({"a_csv": GOOD}, {"exclude": ["red", "place"]}, "expected the columns of features"),
    "the wrong separator": ({"a_csv": GOOD}, {"separator": ";"}, "Correct the names under table"),
    "words among the features": ({"a_csv": GOOD}, {}, "got others in place: a, row 1, .* exclude"),
    "a label that no class has": (
        {"a_csv": GOOD.replace("1,2", "9,2")}, {"group": "place"},
        "table.label kind: expected the values 0, 1, got also 9. Declare them under classes, or remove these rows",
    ),
    "a label between two": ({"a_csv": GOOD.replace("1,2", "0.5,2")}, {"group": "place"}, r"got also 0\.5"),
    "a row without a label": ({"a_csv": GOOD.replace("1,2", ",2")}, {"group": "place"}, "got also None"),
    "a label in words": ({"a_csv": GOOD.replace("1,2", "crop,2")}, {"group": "place"}, "got also"),
    "a row without a group": (
        {"a_csv": GOOD.replace("2,a", "2,")}, {"group": "place"}, "expected a group for every row, got none in 1. Fill",
    ),
    "a row without coordinates": (
        {"a_csv": "kind,red,x,y\n1,2,,4\n0,3,3,4\n1,3,3,4\n"}, {"xy": ["x", "y"], "block": 1},
        "table.xy x: expected a number in every row, got none in 1 of 3. Leave out the files",
    ),
    "coordinates in words": (
        {"a_csv": "kind,red,x,y\n1,2,3,north\n"}, {"xy": ["x", "y"], "block": 1},
        "y: expected a number in every",
    ),
    "a file without coordinates": (
        {"a_csv": "kind,red,x,y\n1,2,,\n", "b_csv": "kind,red,x,y\n1,2,3,4\n"}, {"xy": ["x", "y"], "block": 1},
        "x: expected a number in every row",
    ),
    "an empty file": ({"a_csv": ""}, {}, r"a\.csv: expected a CSV or parquet file, got"),
    "a picture": ({"a_csv": bytes(range(256)) * 9}, {}, r"a\.csv: expected a CSV or parquet file, got"),
    "a line with a cell too many": ({"a_csv": GOOD + "1,2,a,b\n"}, {}, r"a\.csv: expected a CSV or parquet file, got"),
    "parquet in name only": ({"a_parquet": GOOD}, {}, r"a\.parquet: expected a CSV or parquet file, got"),
    "a parquet file cut short": (
        {"a_parquet": b"PAR1" + bytes(50)}, {}, r"a\.parquet: expected a CSV or parquet file, got"
    ),
    "too few names of columns": (
        {"a_csv": "1 2 3\n"}, {"separator": " ", "columns": ["kind", "red"]},
        r"a\.csv: expected a CSV or parquet file, got",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_in_an_error_that_says_what_to_do(case, fill):
    files, settings, message = BAD[case]
    root = fill(**files)
    with pytest.raises(TableError, match=message):
        catalogue_of_table(table(**settings), CROP, root, 0)


def test_a_block_without_coordinates_is_refused():
    for half in ({"block": 10}, {"xy": ["x", "y"]}):
        with pytest.raises(ValueError, match="xy and block need each other"):
            table(**half)


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        ("kind,red,weight\n1,2,x\n0,3,1", {"weight": "weight"}, "table.weight weight: expected a number above 0"),
        ("kind,red,weight\n1,2,-1\n0,3,1", {"weight": "weight"}, "got 1 others"),
        ("kind,red,weight\n1,2,\n0,3,1", {"weight": "weight"}, "got 1 others"),
        ("kind,red\n1,2\n0,3", {"features": ["red", "red"]}, "each column once"),
        ("kind,red\n1,2\n0,3", {"features": ["red", "kind"]}, "not the label"),
        ("kind,red", {}, "expected rows to learn from"),
        ("kind,a b,a-b,a(b\n1,2,3,4", {}, "several that are a_b"),
        ("kind,red,x,y\n1,2,NaN,3\n0,3,1,1", {"xy": ("x", "y"), "block": 5}, "got none in 1 of 2"),
    ],
)
def test_values_that_cannot_be_used_are_named(fill, tmp_path, text, changes, message):
    with pytest.raises(TableError, match=message):
        taken(table(**changes), fill(a_csv=text), tmp_path)


def test_a_column_that_is_empty_in_one_file_is_not_taken_for_words(fill, tmp_path):
    root = fill(a_csv="kind,red,nir\n1,2,\n0,3,", b_csv="kind,red,nir\n1,2,5\n0,3,inf")
    rows = open_table(tmp_path, taken(table(), root, tmp_path).scenes, ["nir"])
    assert np.isnan(rows.read()).sum() == 3
    assert 5 in rows.read()
