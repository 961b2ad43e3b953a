import numpy as np

from data.maps.geotiff import TOP
from data.maps.parquet import read_parts
from data.scenes.catalogue import Catalogue


def bytes_below(folder):
    kinds = {".parquet", ".zip", ".json"}
    parts = [folder / name for name in ("pixels", "members", "explain", "columns.json")]
    paths = [path for part in parts for path in ([part] if part.is_file() else part.rglob("*")) if path.suffix in kinds]
    return {path.relative_to(folder): path.read_bytes() for path in paths}


def test_trees_learn_tags_from_scenes_to_maps_and_say_by_which_columns(planet, terrablend, tmp_path):
    for run in ("one", "two"):
        for command in ("check", "features", "trees", "explain"):
            outcome = terrablend(command, planet, "--run", tmp_path / run, "--workers", 1)
            assert outcome.code == 0, outcome.err
    catalogue = Catalogue.load(tmp_path / "one" / "catalogue.parquet")
    _, found = read_parts(tmp_path / "one" / "members" / "lightgbm" / "oof")
    for scene in catalogue.split("train"):
        assert tuple(np.flatnonzero(found[scene.id] > TOP / 2)) == scene.tags
    _, test = read_parts(tmp_path / "one" / "members" / "lightgbm" / "test")
    for number in range(4):
        haze = number % 2
        assert (test[f"test_{number}"] > TOP / 2).tolist() == [not haze, haze, number % 3 == 0]
    one, two = (bytes_below(tmp_path / run) for run in ("one", "two"))
    assert one.keys() == two.keys()
    assert not [path for path in one if one[path] != two[path]]
    assert "road: IoU 1.0" in outcome.out

    outcome = terrablend("features", planet, "--run", tmp_path / "one", "--describe", "--workers", 1)
    assert outcome.code == 0
    assert "bright_share" in outcome.out
    assert "share of the scene's pixels that have bright: red > 100" in outcome.out


def test_what_cannot_be_done_with_tags_is_refused(planet, terrablend, tmp_path):
    run = ("--run", tmp_path / "run", "--workers", 1)
    assert terrablend("check", planet, *run).code == 0
    outcome = terrablend("features", planet, *run, "--set", "features.coordinates=[row]")
    assert outcome.code == 2
    assert "expected coordinates not with the task multilabel" in outcome.err
    assert terrablend("features", planet, *run, "--overwrite").code == 0
    outcome = terrablend("features", planet, *run, "--points", tmp_path / "points.parquet")
    assert outcome.code == 2
    assert "got scenes with tags" in outcome.err
