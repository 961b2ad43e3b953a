import numpy as np
import polars as pl
import pytest
import yaml
from scipy import ndimage
from sklearn.metrics import average_precision_score

from data.folds.plan import plan_folds
from data.maps.geotiff import map_writer
from data.maps.store import map_path
from data.scenes.rasters import open_raster
from data.settings import FoldSettings
from data.survey.discovery import find_scenes
from data.survey.inspection import build_catalogue
from ensemble.audit.audit_files import write_audit
from ensemble.audit.label_audit import audit_labels
from ensemble.decide.decision.blend import Blend
from ensemble.decide.decision.calibration import Calibration
from ensemble.decide.decision.decision import Decision
from ensemble.maps import open_maps
from ensemble.score.evaluation import BLEND, Evaluation
from terrablend.experiment import load_scene_experiment
from terrablend.start.coast import EXPERIMENT, write_coast
from terrablend.start.known_errors import JudgedAudit, judge_audit


def test_average_precision_is_that_of_scikit_learn():
    wrong = np.random.default_rng(0).random(50) < 0.4
    found = JudgedAudit(tuple(wrong.tolist())).average_precision
    assert found == pytest.approx(average_precision_score(wrong, -np.arange(50)))
    assert np.isnan(JudgedAudit((False, False)).average_precision)


def test_errors_put_into_labels_are_ranked_first_by_a_member_that_knows_the_truth_but_dimly(tmp_path):
    coast = tmp_path / "coast"
    write_coast(coast, places=4, acquisitions=2, test=1, size=96, label_errors=0.3, seed=6)
    (coast / "demo.yaml").write_text(EXPERIMENT)
    experiment = load_scene_experiment(coast / "demo.yaml")
    classes = experiment.label_classes()
    files = find_scenes(experiment.scenes, classes, coast)
    catalogue, _ = build_catalogue(*files, experiment.scenes, classes)
    catalogue, _ = plan_folds(catalogue, FoldSettings(count=2), coast, 0)
    for number, scene in enumerate(catalogue.split("train")):
        rng = np.random.default_rng(number)
        with open_raster(str(coast / "truth" / f"{scene.id}.tif")) as raster:
            truth = raster.read(1).astype(float)
        # Blind to what is smaller than its sight, and seeing beds where there are none.
        seen = (
            4 * ndimage.gaussian_filter(truth, 1.5) - 2 + ndimage.gaussian_filter(rng.normal(size=truth.shape), 3) * 6
        )
        with map_writer(map_path(tmp_path / "dim", scene), scene.grid, classes.names, {}) as writer:
            writer.write(scene.grid.window, (1 / (1 + np.exp(-seen)))[None].astype(np.float32))
    decision = Decision((Calibration(),), Blend(((1.0,),)), (0.5,))
    folds = {scene.id: scene.fold for scene in catalogue.split("train")}
    evaluation = Evaluation("train", {}, {}, BLEND, folds, {fold: {BLEND: decision} for fold in catalogue.folds})
    audit = audit_labels(open_maps({"dim": tmp_path / "dim"}, classes), catalogue, evaluation)
    write_audit(audit, tmp_path, catalogue)
    judged = judge_audit(tmp_path / "audit.parquet", coast)
    # In any order the average precision would be about the share of errors.
    assert sum(judged.wrong) / len(judged.wrong) < 0.8 < 0.95 < judged.average_precision
    assert f"of the {min(len(judged.wrong), 20)} worst regions are errors of the label" in judged.line()


@pytest.mark.slow
def test_errors_put_into_labels_are_ranked_first_by_boosters_that_learned_from_them(terrablend, tmp_path):
    coast = tmp_path / "coast"
    write_coast(coast, seed=2)
    experiment = yaml.safe_load(EXPERIMENT)
    del experiment["members"]["unet"]
    experiment["members"]["lightgbm"]["rounds"] = 80
    (coast / "demo.yaml").write_text(yaml.safe_dump(experiment))
    assert terrablend("run", coast / "demo.yaml", "--run", tmp_path / "run", "--workers", 1).code == 0
    judged = judge_audit(tmp_path / "run" / "ensemble" / "audit.parquet", coast)
    # Slivers are not listed, and so there are 17 errors in all; half of them are among the first 20 of 137 regions.
    assert sum(judged.wrong[:20]) >= sum(judged.wrong) / 2
    assert judged.average_precision > 0.4
    regions = pl.read_parquet(tmp_path / "run" / "ensemble" / "audit.parquet")
    unlearned = regions["confidence"] * regions["area"].cast(float) ** 0.25
    assert judged.average_precision > average_precision_score(judged.wrong, unlearned)
