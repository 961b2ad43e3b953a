import numpy as np
import pytest

from data.errors import MapError
from data.maps import write_class_map
from data.metrics import METRICS
from data.scene import read_label
from data.windows import Grid
from ensemble import MAP, EnsembleSettings, evaluate_class_maps, score_table

from .conftest import KELP


@pytest.fixture
def pairs(make_catalogue, tmp_path):
    found = []
    for number, scene in enumerate(make_catalogue().scenes):
        prediction = read_label(scene)
        prediction[prediction == 255] = 0
        prediction[5 : 5 + number] = 1 - prediction[5 : 5 + number]
        prediction[-1] = 255
        write_class_map(tmp_path / "maps" / f"{scene.id}.tif", prediction, scene.grid, KELP, {})
        found.append((tmp_path / "maps" / f"{scene.id}.tif", scene))
    return found


def test_class_maps_are_scored_pooled_and_as_the_mean_over_scenes(pairs):
    evaluation = evaluate_class_maps(pairs, KELP)
    table = score_table([evaluation], KELP.label_names, "binary", EnsembleSettings(resamples=50), seed=0)
    dice = table.filter((table["metric"] == "dice") & (table["label"] == ""))
    rows = {row["scope"]: row for row in dice.rows(named=True)}
    assert set(rows) == {"all", "scene mean"}
    counts = np.stack(list(evaluation.counts[MAP].values()))
    assert rows["all"]["value"] == METRICS["dice"].of(counts.sum(axis=0))
    assert rows["scene mean"]["value"] == pytest.approx(METRICS["dice"].of(counts).mean())
    assert rows["all"]["low"] < rows["all"]["value"] < rows["all"]["high"]
    # The last row of each map holds no prediction.
    assert counts[:, :, 2].sum() == len(pairs) * 31


def test_a_map_of_another_size_or_none_at_all_is_refused(pairs):
    path, scene = pairs[0]
    write_class_map(path, np.zeros((3, 4), np.uint8), Grid(3, 4), KELP, {})
    with pytest.raises(MapError, match="expected 24 × 31 pixels like the label of scene s0, got 3 × 4"):
        evaluate_class_maps([(path, scene)], KELP)
    with pytest.raises(MapError, match="expected class maps to score, got none"):
        evaluate_class_maps([], KELP)
