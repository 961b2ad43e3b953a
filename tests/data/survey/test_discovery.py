import numpy as np

from data.scenes.classes import Classes
from data.scenes.decoding import Decoding
from data.settings import SceneSettings
from data.survey.discovery import find_scenes, list_paths

KELP = Classes("binary", (1,), ("kelp",), ((0, 0, 9),))


def test_scales_of_pixels_and_labels_are_no_scenes_of_a_shorter_pattern(write_raster, tmp_path):
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", np.zeros((4, 4, 2), np.int8))
        np.save(tmp_path / f"{name}_scales.npy", np.ones((4, 4), np.float32))
        write_raster(f"{name}.tif", np.zeros((4, 4), np.uint8))
        write_raster(f"{name}_mask.tif", np.zeros((4, 4), np.uint8))
    settings = SceneSettings.model_validate(
        {
            "train": {
                "image": [
                    {"path": "{id}.npy", "bands": "T0..T1", "decode": {"scale": "{id}_scales.npy"}},
                    {"path": "{id}.tif", "bands": "red"},
                ],
                "label": "{id}_mask.tif",
            }
        }
    )
    scenes, problems = find_scenes(settings, KELP, tmp_path)
    assert problems == []
    assert [scene.id for scene in scenes] == ["a", "b"]
    assert scenes[0].images[0].decoding == Decoding("scale", str(tmp_path / "a_scales.npy"))
    assert scenes[0].images[0].bands == ("T0", "T1")
    assert {path.name for path in list_paths(scenes)} >= {"a.npy", "a_scales.npy", "a.tif", "a_mask.tif"}
    (tmp_path / "b_scales.npy").unlink()
    _, [problem] = find_scenes(settings, KELP, tmp_path)
    assert problem.startswith(f"train scene b: expected {tmp_path}/b_scales.npy, no such file")
