import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import CatalogueError
from data.scenes.classes import Classes
from data.scenes.scene import read_label, read_scene
from data.settings import SceneSettings
from data.stac.assets import declared_grid, find_asset
from data.stac.items import Item, read_items
from data.survey.discovery import find_scenes, list_paths
from data.survey.inspection import build_catalogue

KELP = Classes("binary", (1,), ("kelp",), ((0, 0, 9),))
STEP = 10.0
PROJ = {"proj:shape": [8, 8], "proj:transform": [STEP, 0, 500_000, 0, -STEP, 4_600_000, 0, 0, 1]}


@pytest.fixture
def collection(write_raster, tmp_path):
    """Return a function that writes scenes and the items that describe them, in STAC 1.0 or 1.1."""

    def write(version, names=("S2A/tile_1", "S2A/tile_2"), placed=True):
        items = []
        for number, name in enumerate(names):
            place = (STEP, 0.0, 500_000.0 + 80 * number, 0.0, -STEP, 4_600_000.0)
            where = {"transform": place, "crs": "EPSG:32630"} if placed else {}
            rng, folder = np.random.default_rng(number), f"data/{number}"
            write_raster(f"{folder}/B04.tif", rng.integers(1000, 3000, (8, 8)).astype(np.uint16), **where)
            write_raster(f"{folder}/all.tif", rng.integers(1000, 3000, (3, 8, 8)).astype(np.uint16), **where)
            write_raster(f"{folder}/label.tif", (np.arange(64).reshape(8, 8) < 20).astype(np.uint8), **where)
            items.append(item_of(name, folder, version, [*place[:6], 0, 0, 1]))
        return items

    return write


def item_of(name, folder, version, transform):
    names = ["blue", "nir", "red"]
    facts = {"nodata": 1234, "scale": 0.0001, "offset": -0.1}
    if version == "1.0.0":
        red = {"eo:bands": [{"name": "B04", "common_name": "red"}], "raster:bands": [facts]}
        several = {
            "eo:bands": [{"name": f"b{band}", "common_name": band} for band in names],
            "raster:bands": [{"nodata": "nan"}] * 3,
        }
        crs = {"proj:epsg": 32630}
    else:
        red = {
            "bands": [{"name": "B04", "eo:common_name": "red"}],
            "nodata": 1234,
            "raster:scale": 0.0001,
            "raster:offset": -0.1,
        }
        several = {"bands": [{"name": f"b{band}", "eo:common_name": band} for band in names]}
        crs = {"proj:code": "EPSG:32630"}
    return {
        "type": "Feature",
        "stac_version": version,
        "id": name,
        "geometry": None,
        "properties": {"datetime": None, **PROJ, **crs, "proj:transform": transform},
        "links": [],
        "assets": {
            "B04": {"href": f"./{folder}/B04.tif", "roles": ["data"], **red},
            "analytic": {"href": f"{folder}/all.tif", **several},
            "visual": {"href": f"{folder}/none.tif", "roles": ["visual"], "eo:bands": [{"common_name": "red"}]},
            "truth": {"href": f"{folder}/label.tif", "roles": ["labels"]},
        },
    }


def save(path, value):
    path.write_text(json.dumps(value))
    return path.name


def settings_of(stac, assets, label=None):
    return SceneSettings.model_validate(
        {"train": {"image": {"stac": stac, "assets": assets}, "label": label or {"asset": "truth"}}}
    )


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_scenes_of_a_collection_are_read_as_their_items_say(collection, tmp_path, version):
    items = collection(version)
    save(tmp_path / "items.json", {"type": "FeatureCollection", "features": items})
    settings = settings_of("items.json", ["red", "nir", {"asset": "analytic", "bands": ["b", "n", "r"]}])
    files, problems = find_scenes(settings, KELP, tmp_path)
    assert problems == []
    assert [scene.id for scene in files] == ["S2A_tile_1", "S2A_tile_2"]
    assert tmp_path / "items.json" in list_paths(files)
    catalogue, warnings = build_catalogue(files, problems, settings, KELP)
    assert warnings == []
    assert catalogue.bands == ("red", "nir", "b", "n", "r")
    scene = catalogue.scenes[0]
    red = np.random.default_rng(0).integers(1000, 3000, (8, 8))
    pixels = read_scene(scene)
    expected = np.where(red == 1234, np.nan, red * 0.0001 - 0.1)
    np.testing.assert_allclose(pixels[0], expected, rtol=1e-6)
    np.testing.assert_array_equal(pixels[1], pixels[3])
    assert read_label(scene).sum() == 20


def test_a_file_that_says_not_where_it_lies_lies_where_its_item_says(collection, tmp_path):
    [first, second] = collection("1.1.0", placed=False)
    save(tmp_path / "items.json", {"type": "FeatureCollection", "features": [first, second]})
    settings = settings_of("items.json", ["red"])
    files, problems = find_scenes(settings, KELP, tmp_path)
    catalogue, _ = build_catalogue(files, problems, settings, KELP)
    assert [scene.grid.transform[2] for scene in catalogue.scenes] == [500_000, 500_080]
    assert "32630" in catalogue.scenes[0].grid.crs
    first["properties"]["proj:transform"] = [STEP, 0, 500_000 + 9 * STEP, 0, -STEP, 4_600_000]
    save(tmp_path / "items.json", {"type": "FeatureCollection", "features": [item_of("a", "data/0", "1.0.0", [])]})
    files, problems = find_scenes(settings, KELP, tmp_path)
    catalogue, [warning] = build_catalogue(files, problems, settings, KELP)
    assert warning.startswith("items.json: 1 items name no grid (proj:code, proj:shape, proj:transform)")
    assert catalogue.scenes[0].grid.transform is None


def test_a_file_that_lies_elsewhere_than_its_item_says_is_warned_of(collection, tmp_path):
    [item] = collection("1.0.0", names=["a"])
    item["properties"]["proj:transform"][2] += 9 * STEP
    save(tmp_path / "a.json", item)
    settings = settings_of("a.json", ["red"])
    catalogue, [warning] = build_catalogue(*find_scenes(settings, KELP, tmp_path), settings, KELP)
    assert "its corners lie 9 pixels off those that its STAC item names" in warning
    assert catalogue.scenes[0].grid.transform[2] == 500_000


def test_items_come_from_folders_collections_lines_and_geoparquet_alike(collection, tmp_path):
    items = collection("1.1.0")
    for number, item in enumerate(items):
        for asset in item["assets"].values():
            asset["href"] = f"{tmp_path}/{asset['href'].removeprefix('./')}"
        save(tmp_path / f"item{number}.json", item)
    links = [{"rel": "item", "href": f"./item{number}.json"} for number in range(2)]
    (tmp_path / "cat").mkdir()
    save(tmp_path / "collection.json", {"type": "Collection", "id": "c", "links": links})
    save(
        tmp_path / "cat" / "catalog.json",
        {"type": "Catalog", "links": [{"rel": "child", "href": "../collection.json"}]},
    )
    (tmp_path / "items.ndjson").write_text("\n".join(map(json.dumps, items)))
    rows = [
        {**{key: value for key, value in item.items() if key != "properties"}, **item["properties"]} for item in items
    ]
    extra = {"only": {"href": "x.tif"}}
    rows[1] = {**rows[1], "assets": {**rows[1]["assets"], **extra}}
    for row in rows:
        del row["geometry"], row["links"]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "items.parquet")
    for source in ("collection.json", "cat/catalog.json", "items.ndjson", "items.parquet", "."):
        found, problems = read_items(tmp_path / source)
        assert problems == []
        assert [item.name for item in found] == ["S2A/tile_1", "S2A/tile_2"]
        assert find_asset(found[0], "red").scales == ((0.0001, -0.1),)
        assert declared_grid(found[0], "B04").height == 8
        assert "only" not in found[0].assets


def test_hrefs_are_opened_where_they_lie(tmp_path):
    (tmp_path / "there.tif").touch()
    links = [{"rel": "self", "href": "https://example.org/c/items/a.json"}]
    hrefs = {
        "s3": "s3://bucket/a.tif",
        "signed": "https://example.org/a.tif?sig=1",
        "local": "./there.tif",
        "remote": "../a.tif",
        "file": f"file://{tmp_path}/there.tif",
    }
    assets = {key: {"href": href} for key, href in hrefs.items()}
    item = Item(str(tmp_path / "a.json"), {"id": "a", "links": links, "assets": assets})
    assert {key: item.href(key) for key in hrefs} == {
        "s3": "s3://bucket/a.tif",
        "signed": "https://example.org/a.tif?sig=1",
        "local": str(tmp_path / "there.tif"),
        "remote": "https://example.org/c/a.tif",
        "file": str(tmp_path / "there.tif"),
    }


def test_all_that_is_wrong_with_items_is_listed_with_file_and_item(collection, tmp_path):
    good, lacking = collection("1.0.0")
    del lacking["assets"]["analytic"], lacking["assets"]["truth"]
    gone = {**good, "id": "gone", "assets": {**good["assets"], "B04": {**good["assets"]["B04"], "href": "gone.tif"}}}
    save(tmp_path / "1.json", good)
    save(tmp_path / "2.json", lacking)
    save(tmp_path / "3.json", {**good, "id": "S2A:tile_1"})
    save(tmp_path / "4.json", {**good, "id": "bare", "assets": {"B04": {"title": "none"}}})
    save(tmp_path / "5.json", gone)
    save(tmp_path / "6.json", {**good, "id": "empty", "assets": {}})
    (tmp_path / "7.json").write_text('{"type": "Feature"')
    save(tmp_path / "8.json", {"not": "stac"})
    save(tmp_path / "plots.geojson", {"type": "FeatureCollection", "features": [{"type": "Feature", "id": 3}]})
    files, problems = find_scenes(settings_of(".", ["red", "nir"]), KELP, tmp_path)
    assert [scene.id for scene in files] == ["S2A_tile_1"]
    for text in (
        "2.json: item S2A/tile_2: expected an asset nir, by key or common name, got B04, visual",
        "2.json: item S2A/tile_2: expected an asset truth, got B04, visual",
        f"3.json: item S2A:tile_1: expected an id that no other item has, got that of S2A/tile_1 in {tmp_path}/1.json",
        "4.json: item bare: expected an href of each asset, got none of B04",
        f"5.json: item gone: asset B04: expected the file {tmp_path}/gone.tif, no such file",
        "6.json: item empty: expected assets, got none",
        "7.json: expected STAC items, got: ",
    ):
        assert sum(line.startswith(f"{tmp_path}/{text}") for line in problems) == 1, text
    assert len(problems) == 7
    with pytest.raises(CatalogueError, match="expected STAC items, a file or a folder"):
        read_items(tmp_path / "none")


def test_a_common_name_of_several_assets_is_ambiguous(tmp_path):
    red_edge = [{"name": name, "common_name": "rededge"} for name in ("B05", "B06")]
    assets = {band["name"]: {"href": "a.tif", "eo:bands": [band]} for band in red_edge}
    item = Item("a.json", {"id": "a", "assets": assets})
    with pytest.raises(ValueError, match="expected one asset with a band rededge, got B05, B06"):
        find_asset(item, "rededge")
    assert find_asset(item, "B06").key == "B06"


def test_an_offset_that_was_applied_before_is_warned_of(collection, tmp_path):
    [item] = collection("1.0.0", names=["a"])
    item["properties"]["earthsearch:boa_offset_applied"] = True
    save(tmp_path / "a.json", item)
    settings = settings_of("a.json", ["red"])
    _, [warning] = build_catalogue(*find_scenes(settings, KELP, tmp_path), settings, KELP)
    assert "1 items declare an offset and say that it was applied before (boa_offset_applied): a" in warning
