"""Every example of docs/scenes.md is read as it says, from files as it names them."""

import json
import re
from pathlib import Path

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import rasterio.shutil
import shapely
import yaml

from data.scenes.classes import Classes
from data.scenes.scene import read_scene
from data.settings import SceneSettings
from data.survey.discovery import find_scenes
from data.survey.inspection import build_catalogue

PAGE = (Path(__file__).parents[3] / "docs" / "scenes.md").read_text("utf-8")
EXAMPLES = dict(re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?```yaml\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL))
KELP = Classes("binary", (1,), ("kelp",), ((0, 0, 9),))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with the files of all examples: two scenes, half of each kelp, and one as large as both."""
    folder, rng = tmp_path_factory.mktemp("scenes"), np.random.default_rng(0)

    def write(name, planes, step, col=0):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        place = rasterio.Affine(step, 0, 500_000 + 10 * col, 0, -step, 4_600_000)
        count, height, width = planes.shape
        shape = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": planes.dtype.name}
        with rasterio.open(path, "w", crs="EPSG:32630", transform=place, **shape) as raster:
            raster.write(planes)

    shapes = []
    for number, name in enumerate(("a", "b")):
        kelp = np.zeros((1, 64, 64), np.uint8)
        kelp[:, :, :32] = 255
        image = (rng.normal(500, 30, (2, 64, 64)) + kelp).astype(np.int16)
        for split in ("img", "new"):
            write(f"{split}/{name}.tif", image, 10, 64 * number)
        rasterio.shutil.copy(folder / f"img/{name}.tif", folder / f"img/{name}.vrt", driver="VRT")
        values = np.where(kelp == 255, 255 if number else 1, 0).astype(np.uint8)
        write(f"mask/{name}.tif", np.where(values > 0, 1, 0).astype(np.uint8), 10, 64 * number)
        write(f"mask255/{name}.tif", kelp, 10, 64 * number)
        for annotator in ("ana", "ben"):
            write(f"{annotator}/{name}.tif", (kelp == 255).astype(np.uint8), 10, 64 * number)
        write(f"cem/{name}.tif", kelp, 10, 64 * number)
        write(f"proba/{name}.tif", (kelp / 300).astype(np.float32), 10, 64 * number)
        write(f"aef/{name}.tif", rng.integers(-127, 128, (64, 64, 64)).astype(np.int8), 10, 64 * number)
        write(f"swir/{name}.tif", rng.integers(3, 90, (1, 32, 32)).astype(np.int16), 20, 64 * number)
        for top in (0, 320):
            left = 500_000 + 640 * number
            shapes.append(shapely.box(left + 10, 4_600_000 - top - 310, left + 310, 4_600_000 - top - 10))
    write("scene.tif", (rng.normal(500, 30, (2, 64, 128))).astype(np.int16), 10)
    write("dem.tif", rng.normal(0, 5, (1, 30, 60)).astype(np.float32), 30, -10)
    geometry = np.array([shapely.to_wkb(shape) for shape in shapes], object)
    names = np.array(["seaweed", "sea", "seaweed", "seaweed"])
    pyogrio.raw.write(
        str(folder / "training.gpkg"), geometry, [names], ["landcover"], crs="EPSG:32630", geometry_type="Polygon"
    )
    items = [
        {
            "type": "Feature",
            "stac_version": "1.1.0",
            "id": name,
            "properties": {"proj:code": "EPSG:32630", "proj:shape": [64, 64]},
            "assets": {
                "10m": {
                    "href": f"img/{name}.tif",
                    "bands": [{"eo:common_name": "red"}, {"eo:common_name": "nir"}],
                    "proj:transform": [10, 0, 500_000 + 640 * number, 0, -10, 4_600_000],
                },
                "swir": {"href": f"swir/{name}.tif", "proj:shape": [32, 32], "proj:bbox": [500_000, 0, 500_640, 640]},
            },
        }
        for number, name in enumerate(("a", "b"))
    ]
    (folder / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    (folder / "points.csv").write_text("x;y;class\n500015,5;4599985,5;kelp\n500655,5;4599985,5;1\n")
    return folder


@pytest.mark.parametrize("title", EXAMPLES)
def test_an_example_is_read_as_it_says(title, root, tmp_path):
    values = yaml.safe_load(EXAMPLES[title])
    if title == "Labels that are rasters":
        values["train"]["label"]["path"] = "mask255/{id}.tif"
    if isinstance(values["train"]["label"], dict) and "vector" in values["train"]["label"]:
        # A binary task wants a background: here it is all that no shape covers.
        values["train"]["label"]["outside"] = "background"
    settings = SceneSettings.model_validate(values)
    files, problems = find_scenes(settings, KELP, root)
    assert problems == []
    catalogue, _ = build_catalogue(files, problems, settings, KELP, labels=tmp_path)
    train = catalogue.split("train")
    assert len(train) == (8 if settings.train.blocks else 2)
    pixels = read_scene(train[0])
    assert np.isfinite(pixels).mean() > 0.5
    assert sum(catalogue.label_counts(scene.id)[1] for scene in train) > 0
    if title == "Embeddings":
        assert catalogue.decoded == catalogue.bands == tuple(f"A{band:02}" for band in range(64))
        assert np.abs(pixels).max() < 1
    if title in ("Several annotators", "Probabilities as labels"):
        assert [scene.opinions for scene in train] == [3, 3] if "annotators" in title else [8, 8]
        assert catalogue.label_counts("a").tolist() == [64 * 32, 64 * 32]
    if title == "STAC":
        assert catalogue.bands == ("red", "nir", "swir16")
        assert pixels.shape == (3, 64, 64)
    if title == "Scales":
        assert np.nanmax(pixels) < 0.1
    if title.startswith("Several files"):
        assert catalogue.bands == ("red", "nir", "swir16", "dem")
        assert pixels.shape == (4, 64, 64)
        assert [image.resampling for image in train[0].images] == ["", "nearest", "bilinear"]


def test_every_part_of_the_page_has_an_example():
    assert set(re.findall(r"^## ([^\n]+)", PAGE, re.MULTILINE)) == set(EXAMPLES)
