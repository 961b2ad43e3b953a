import re
from pathlib import Path

import numpy as np
import rasterio
import yaml

PAGE = Path(__file__).parents[3] / "docs" / "python.md"


def test_every_block_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for number in range(4):
        label = np.zeros((40, 40), np.uint8)
        label[8:28, 6 + number : 20 + number] = 1
        image = rng.normal(0.3, 0.05, (2, 40, 40)) + 0.2 * label
        for folder, values in (("img", image.astype(np.float32)), ("mask", label[None])):
            path = tmp_path / folder / f"s{number}.tif"
            path.parent.mkdir(exist_ok=True)
            transform = rasterio.Affine(10, 0, 5e5 + 1e4 * number, 0, -10, 4e6)
            with rasterio.open(
                path,
                "w",
                driver="GTiff",
                count=len(values),
                height=40,
                width=40,
                dtype=values.dtype,
                transform=transform,
                crs="EPSG:32633",
            ) as raster:
                raster.write(values)
    experiment = {
        "name": "coast",
        "task": "binary",
        "root": ".",
        "scenes": {"bands": ["red", "nir"], "train": {"image": "img/{id}.tif", "label": "mask/{id}.tif"}},
        "classes": {1: "kelp"},
        "folds": {"count": 2},
        "members": {"lightgbm": {"branch": "trees", "rounds": 10, "leaves": 7, "min_leaf_rows": 10}},
    }
    (tmp_path / "coast.yaml").write_text(yaml.safe_dump(experiment))
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 5
    names = {}
    for block in blocks:
        # No workers are started from within a test.
        exec(block.replace('tb.train("coast.yaml")', 'tb.train("coast.yaml", workers=1)'), names)
    assert set(np.unique(names["labels"])) == {False, True}
    assert names["around"].shape == (4, 64, 80)
    assert (tmp_path / "kelp.json").exists()
    assert len(names["run"].scores) > 0
