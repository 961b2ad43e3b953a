import re

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from data.files import read_json
from data.maps.geotiff import dequantise, quantise
from data.scenes.catalogue import Catalogue
from ensemble.ensemble import Ensemble
from trees.member import load_member

from ..conftest import MEMBER, write_table_experiment

COMMANDS = ("check", "features", "trees", "explain", "ensemble")
KINDS = {".parquet", ".txt"}


@pytest.fixture
def finished(small_table, finish):
    return finish(small_table)


def bytes_below(folder):
    paths = [path for path in folder.rglob("*") if path.suffix in KINDS] + list(folder.glob("explain/*.json"))
    return {path.relative_to(folder): path.read_bytes() for path in paths}


def test_one_command_goes_from_rows_to_scores(finished, small_table):
    rows = pl.read_csv(small_table.parent / "rows.csv")
    catalogue = Catalogue.load(finished / "catalogue.parquet")
    assert catalogue.bands == ("red", "nir", "NDVI_S1")
    assert catalogue.folds == (0, 1, 2)
    fold_of = {scene.id: scene.fold for scene in catalogue.scenes}
    assert set(fold_of) == set(rows["plot"])

    # Every row once, in the fold of its group.
    held_out = pl.read_parquet(finished / "members" / "lightgbm" / "oof.parquet")
    assert held_out.columns == ["group", "row", "fold", "label", "weight", "proba_crop"]
    assert [fold_of[group] for group in held_out["group"]] == held_out["fold"].to_list()
    assert held_out.select("group", "label", "weight").rows() == rows.select("plot", "kind", "weight").rows()
    assert held_out["row"].to_list() == list(range(len(rows)))
    assert held_out["proba_crop"].is_between(0, 1).all()

    scores = read_json(finished / "members" / "lightgbm" / "scores.json")
    assert scores["pooled"]["AUC"] == pytest.approx(
        roc_auc_score(held_out["label"], held_out["proba_crop"], sample_weight=held_out["weight"])
    )
    assert scores["pooled"]["AUC"] > 0.75
    assert set(scores["by_fold"]) == {"0", "1", "2"}
    assert "9 groups" in (finished / "folds.txt").read_text()


@pytest.mark.parametrize(
    ("booster", "suffix", "changed"),
    [
        # LightGBM's bins, which all folds share, are made of the features of all rows.
        ("lightgbm", "txt", {"kind": pl.col("kind").shuffle(seed=1).over("plot")}),
        ("xgboost", "ubj", {"kind": pl.col("kind").shuffle(seed=1).over("plot"), "nir": -100.0}),
    ],
)
def test_the_model_of_a_fold_does_not_depend_on_the_rows_it_holds_out(
    small_table, terrablend, tmp_path, booster, suffix, changed
):
    rows = pl.read_csv(small_table.parent / "rows.csv")
    catalogues = []
    for name in ("before", "after"):
        words = ("--run", tmp_path / name, "--workers", 1, "--set", f"members.lightgbm.booster={booster}")
        assert terrablend("run", small_table, *words).code == 0
        catalogues.append(Catalogue.load(tmp_path / name / "catalogue.parquet"))
        held = pl.col("plot").is_in([scene.id for scene in catalogues[0].in_fold(1)])
        values = {key: pl.when(held).then(value).otherwise(pl.col(key)) for key, value in changed.items()}
        rows.with_columns(**values).write_csv(small_table.parent / "rows.csv")
    assert catalogues[0].scenes == catalogues[1].scenes
    for fold, same in ((1, True), (0, False)):
        models = [tmp_path / name / f"members/lightgbm/fold{fold}.{suffix}" for name in ("before", "after")]
        assert (models[0].read_bytes() == models[1].read_bytes()) == same


def test_the_stages_one_by_one_make_the_same_bytes_as_all_at_once(finished, small_table, terrablend, tmp_path):
    for command in COMMANDS:
        outcome = terrablend(command, small_table, "--run", tmp_path / "steps", "--workers", 1)
        assert outcome.code == 0, outcome.err
    assert bytes_below(tmp_path / "steps") == bytes_below(finished)


def test_a_finished_run_is_left_as_it_is(finished, terrablend):
    before = bytes_below(finished)
    outcome = terrablend("run", finished, "--workers", 1)
    assert outcome.code == 0, outcome.err
    assert "done before" in outcome.err
    assert bytes_below(finished) == before


def test_a_dry_run_says_what_there_is_to_do_and_does_nothing(small_table, terrablend, tmp_path):
    outcome = terrablend("run", small_table, "--run", tmp_path / "run", "--dry-run")
    assert outcome.code == 0
    assert [line.split() for line in outcome.out.splitlines()] == [
        [name, "to", "do"] for name in ("check", "features", "lightgbm", "explain-lightgbm", "ensemble")
    ]
    assert not (tmp_path / "run").exists()


def test_another_table_under_the_same_name_is_noticed(finished, small_table, terrablend):
    file = small_table.parent / "rows.csv"
    file.write_text("\n".join(file.read_text().splitlines()[:-1]) + "\n")
    outcome = terrablend("trees", small_table, "--run", finished, "--workers", 1)
    assert outcome.code == 2
    assert "the result of check was made with other settings (files" in outcome.err


def test_the_columns_of_a_table_can_be_described(small_table, terrablend, tmp_path):
    assert terrablend("check", small_table, "--run", tmp_path / "run").code == 0
    outcome = terrablend("features", small_table, "--run", tmp_path / "run", "--describe")
    assert outcome.code == 0, outcome.err
    assert "3 columns, described from 360 rows" in outcome.out
    named = [line.split()[0] for line in outcome.out.splitlines() if "the band" in line]
    assert named == ["nir", "NDVI_S1", "red"]
    assert "most correlated pairs" in outcome.out


def test_a_table_makes_no_submission(finished, small_table, terrablend):
    outcome = terrablend("submit", small_table, "--run", finished)
    assert outcome.code == 2
    assert "expected scenes for `terrablend submit`, got a table" in outcome.err
    assert "Traceback" not in outcome.err


def test_rows_are_decided_out_of_fold_and_reported(finished):
    held_out = pl.read_parquet(finished / "ensemble" / "oof.parquet")
    assert held_out.columns[-2:] == ["proba_crop", "prediction"]
    ensemble = Ensemble.load(finished / "ensemble" / "ensemble.json")
    assert ensemble.members == ("lightgbm",)
    assert "Dice" in ensemble.verdict_
    right, weight = held_out["prediction"] == held_out["label"], held_out["weight"]
    scores = pl.read_parquet(finished / "ensemble" / "scores.parquet")
    pooled = scores.filter((pl.col("scope") == "pooled") & (pl.col("metric") == "accuracy"))
    blend = pooled.filter((pl.col("candidate") == "blend") & (pl.col("label") == ""))
    # Weights of sampled pixels are whole parts of 2⁻²⁰; those of rows are as they were given.
    assert blend["value"].item() == pytest.approx((right * weight).sum() / weight.sum())
    page = (finished / "ensemble" / "report.html").read_text("utf-8")
    sections = re.findall(r'<section id="(\w+)">', page)
    assert {"train", "folds", "features", "trees"} <= set(sections)
    assert not {"scenes", "areas", "audit", "applicability"} & set(sections)
    assert " rows" in page


def test_new_rows_are_predicted_by_the_mean_of_all_folds(finished, small_table, terrablend, tmp_path):
    rows = pl.read_csv(small_table.parent / "rows.csv")
    new = tmp_path / "new.csv"
    rows.drop("kind", "plot").with_columns(note=pl.lit("as it was")).write_csv(new)
    outcome = terrablend("predict", finished, new, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    found = pl.read_csv(tmp_path / "out" / "new_predictions.csv")
    assert found.columns == [*pl.read_csv(new).columns, "prediction", "proba_crop"]
    assert found["note"].to_list() == ["as it was"] * len(rows)
    ensemble = Ensemble.load(finished / "ensemble" / "ensemble.json")
    member = load_member(finished / "members" / "lightgbm")
    features = np.column_stack([rows[name].cast(pl.Float32) for name in ("red", "nir", "NDVI_S1")])
    mean = member.mean_proba(features.astype(np.float32), member.folds)
    blended = ensemble.proba(quantise(mean.T)[None])
    assert found["prediction"].to_list() == ensemble.decide(blended)[0].tolist()
    assert found["proba_crop"].to_numpy() == pytest.approx(dequantise(ensemble.show(blended))[0], abs=1e-6)
    again = terrablend("predict", finished, new, "-o", tmp_path / "out")
    assert again.code == 2
    assert "leaves it alone" in again.err


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (pl.col("red").alias("rouge"), (), "expected the columns red, the file has"),
        (pl.lit("dark").alias("red"), (), "got others in red"),
        (pl.lit(1).alias("prediction"), (), "expected no column prediction"),
        (pl.col("red"), ("--uncertainty",), "--uncertainty: expected scenes to map, got a run on a table"),
    ],
)
def test_tables_that_cannot_be_predicted_are_refused(
    finished, small_table, terrablend, tmp_path, change, options, message
):
    rows = pl.read_csv(small_table.parent / "rows.csv").with_columns(change)
    if "rouge" in rows.columns:
        rows = rows.drop("red")
    rows.write_csv(tmp_path / "new.csv")
    outcome = terrablend("predict", finished, tmp_path / "new.csv", "-o", tmp_path / "out", *options)
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert not list((tmp_path / "out").glob("*"))


def test_a_table_has_no_member_of_the_other_branch(finished, small_table, terrablend):
    outcome = terrablend("cnn", small_table, "--run", finished)
    assert outcome.code == 2
    assert "expected a member of the branch cnn (there is none), got none" in outcome.err
    changed = small_table.read_text().replace("branch: trees", "branch: cnn")
    small_table.write_text(changed)
    outcome = terrablend("check", small_table, "--run", finished)
    assert outcome.code == 2
    assert "members.lightgbm" in outcome.err


def test_commands_that_make_or_score_maps_are_refused(finished, small_table, terrablend, tmp_path):
    outcome = terrablend("evaluate", small_table, "maps", "masks")
    assert outcome.code == 2
    assert "expected an experiment on scenes, got one on a table" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_table_has_no_points_on_a_map(small_table, terrablend, tmp_path):
    assert terrablend("check", small_table, "--run", tmp_path / "run").code == 0
    outcome = terrablend("features", small_table, "--run", tmp_path / "run", "--points", tmp_path / "points.parquet")
    assert outcome.code == 2
    assert "expected scenes with coordinates, got 9 of 9 without" in outcome.err
    assert not (tmp_path / "points.parquet").exists()


def test_scenes_without_coordinates_are_described_but_make_no_points(small_coast, terrablend, tmp_path):
    common = (small_coast, "--run", tmp_path / "run", "--workers", 1)
    assert terrablend("check", *common).code == 0
    outcome = terrablend("features", *common, "--describe", "--points", tmp_path / "points.parquet")
    assert outcome.code == 2
    assert "columns, described from" in outcome.out
    assert "NDVI" in outcome.out
    assert "expected scenes with coordinates, got" in outcome.err
    assert not (tmp_path / "points.parquet").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("table.lable=kind", "Did you mean label?"),
        ("table.files=nothing/*.csv", "expected a table, got no such file"),
        ("table.label=sort", "expected the columns sort, the files have number, kind, plot"),
        ("table.block=10", "xy and block need each other"),
        ("table.group=null", "got others in plot: "),
        ("folds.count=30", "expected at least 30 groups"),
        ("classes={2: crop}", "expected the values 0, 2, got also 1"),
        ("scenes={}", "scenes"),
    ],
)
def test_bad_settings_end_in_one_message(override, message, small_table, terrablend, tmp_path):
    outcome = terrablend("check", small_table, "--run", tmp_path / "run", "--set", override)
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "run" / "catalogue.parquet").exists()


SMALL = {**MEMBER, "rounds": 60, "leaves": 31, "min_leaf_rows": 10, "validation_fraction": 0, "learning_rate": 0.25}


@pytest.mark.real
class TestRealTables:
    @pytest.fixture
    def run(self, real_data, terrablend, tmp_path):
        """Return a function that runs an experiment on a real table, and returns its rows as predicted."""

        def finish(name, **values):
            file = write_table_experiment(
                tmp_path / f"{name}.yaml", root=str(real_data), members={"small": SMALL}, **values
            )
            outcome = terrablend("run", file, "--run", tmp_path / name)
            assert outcome.code == 0, outcome.err
            folder = tmp_path / name
            scores = read_json(folder / "members" / "small" / "scores.json")
            return scores, pl.read_parquet(folder / "members" / "small" / "oof.parquet"), folder

        return finish

    @pytest.fixture
    def crops(self):
        place = ["x_epsg6933", "y_epsg6933"]
        return {"files": "deafrica_cropmask/*.csv", "label": "label", "exclude": place}

    @pytest.mark.slow
    def test_zones_held_out_are_predicted_far_worse_than_random_rows(self, run, crops):
        zones, rows, folder = run("zones", table=crops | {"group": "file"}, folds={"count": 6})
        assert {scene.id for scene in Catalogue.load(folder / "catalogue.parquet").in_fold(0)} < set(rows["group"])
        assert rows.group_by("fold").agg(pl.col("group").n_unique())["group"].to_list() == [1] * 6
        assert len(rows) == 21_799
        random, again, _ = run("random", table=crops, folds={"count": 3})
        assert len(again) == len(rows)
        assert random["pooled"]["AUC"] > 0.8
        assert zones["pooled"]["AUC"] < random["pooled"]["AUC"] - 0.1

    @pytest.mark.slow
    def test_squares_on_the_ground_stay_in_one_fold(self, run, crops, real_data, terrablend, tmp_path):
        names = ["eastern", "northern"]
        crops |= {"files": [f"deafrica_cropmask/{name}.csv" for name in names], "xy": crops["exclude"]}
        rows = pl.concat(pl.read_csv(real_data / "deafrica_cropmask" / f"{name}.csv") for name in names)

        def count_squares(side):
            return rows.select((pl.col(name) / side).floor() for name in crops["xy"]).n_unique()

        fine = write_table_experiment(tmp_path / "fine.yaml", root=str(real_data), table=crops | {"block": 50_000})
        assert terrablend("check", fine, "--run", tmp_path / "fine").code == 0
        assert len(Catalogue.load(tmp_path / "fine" / "catalogue.parquet").scenes) == count_squares(50_000) > 1800

        scores, held_out, _ = run("coarse", table=crops | {"block": 250_000}, folds={"count": 3})
        assert held_out["group"].n_unique() == count_squares(250_000)
        assert (held_out.group_by("group").agg(pl.col("fold").n_unique())["fold"] == 1).all()
        random, _, _ = run("random", table={**crops, "xy": None}, folds={"count": 3})
        assert scores["pooled"]["AUC"] < random["pooled"]["AUC"] - 0.1

    def test_files_without_coordinates_are_refused_for_squares(self, real_data, crops, terrablend, tmp_path):
        table = crops | {"xy": crops["exclude"], "block": 50_000}
        file = write_table_experiment(tmp_path / "all.yaml", root=str(real_data), table=table)
        outcome = terrablend("check", file, "--run", tmp_path / "run")
        assert outcome.code == 2
        assert "Leave out the files without coordinates" in outcome.err

    @pytest.mark.slow
    def test_soils_are_told_apart(self, run):
        names = ["red soil", "cotton crop", "grey soil", "damp grey soil", "stubble", "very damp grey soil"]
        columns = [f"{band}_{pixel}" for pixel in range(9) for band in ("green", "red", "nir", "nir2")]
        table = {"files": "statlog_landsat/sat.trn", "label": "soil", "separator": " ", "columns": [*columns, "soil"]}
        ids = (1, 2, 3, 4, 5, 7)
        scores, rows, _ = run("soils", task="multiclass", classes=dict(zip(ids, names, strict=True)), table=table)
        assert len(rows) == 4435
        prediction = rows.select(f"proba_{name}" for name in names).to_numpy().argmax(axis=1)
        assert scores["pooled"]["accuracy"] == pytest.approx(accuracy_score(rows["label"], prediction))
        assert scores["pooled"]["accuracy"] > 0.89


def test_names_that_model_files_cannot_hold_are_changed(tmp_path, terrablend):
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 120)
    rows = {
        "a b": rng.normal(2.0 * label),
        "c[d]<e>": rng.normal(size=120),
        "label": rng.normal(size=120),
        "truth": label,
    }
    pl.DataFrame(rows).write_csv(tmp_path / "rows.csv")
    for booster in ("lightgbm", "xgboost"):
        file = write_table_experiment(
            tmp_path / f"{booster}.yaml",
            root=str(tmp_path),
            table={"files": "rows.csv", "label": "truth"},
            classes={1: "label"},
            members={"trees": MEMBER | {"booster": booster}},
        )
        assert terrablend("run", file, "--run", tmp_path / booster).code == 0
        scores = read_json(tmp_path / booster / "members" / "trees" / "scores.json")
        assert scores["pooled"]["AUC"] > 0.7
        assert Catalogue.load(tmp_path / booster / "catalogue.parquet").bands == ("a_b", "c_d__e_", "label_")
