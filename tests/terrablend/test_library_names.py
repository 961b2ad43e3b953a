"""Settings under the names that scikit-learn, LightGBM, XGBoost, CatBoost, smp and Lightning have for them."""

import pytest
import yaml
from pydantic import ValidationError

from cnn.settings import CnnSettings
from data.errors import ExperimentError
from data.settings import FoldSettings, SceneSettings
from terrablend.experiment import Experiment, load_experiment
from trees.settings import TreeSettings

from .conftest import EXPERIMENT

TREES = {
    "n_estimators": ("rounds", 7),
    "num_boost_round": ("rounds", 7),
    "num_iterations": ("rounds", 7),
    "iterations": ("rounds", 7),
    "max_iter": ("rounds", 7),
    "lr": ("learning_rate", 0.5),
    "eta": ("learning_rate", 0.5),
    "num_leaves": ("leaves", 7),
    "max_leaves": ("leaves", 7),
    "max_leaf_nodes": ("leaves", 7),
    "min_data_in_leaf": ("min_leaf_rows", 7),
    "min_child_samples": ("min_leaf_rows", 7),
    "colsample_bytree": ("colsample", 0.5),
    "feature_fraction": ("colsample", 0.5),
    "bagging_fraction": ("subsample", 0.5),
    "subsample": ("subsample", 0.5),
    "reg_lambda": ("l2", 0.5),
    "lambda_l2": ("l2", 0.5),
    "l2_leaf_reg": ("l2", 0.5),
    "extra_trees": ("extra_trees", True),
    "max_bin": ("bins", 63),
    "early_stopping_rounds": ("patience", 7),
    "val_fraction": ("validation_fraction", 0.5),
    "class_weight": ("class_weights", "balanced"),
    "sample_weight": ("sample_weight", "none"),
    "monotone_constraints": ("monotone", {"dem": -1}),
    "cat_features": ("categorical", ["dem"]),
}
CNN = {
    "encoder_name": ("encoder", "resnet18"),
    "backbone": ("encoder", "resnet18"),
    "encoder_weights": ("pretrained", "imagenet"),
    "arch": ("architecture", "fpn"),
    "max_epochs": ("epochs", 7),
    "lr": ("learning_rate", 0.5),
    "crop_size": ("crop", 64),
    "patch_size": ("crop", 64),
    "image_size": ("crop", 64),
    "tile_size": ("tile", 320),
    "test_time_augmentation": ("tta", "d4"),
    "criterion": ("loss", "dice"),
    "scheduler": ("schedule", "cosine"),
    "pct_start": ("warmup", 0.5),
    "gradient_clip_val": ("gradient_clip", 0.5),
    "accumulate_grad_batches": ("accumulate", 2),
    "steps_per_epoch": ("steps", 7),
    "class_weight": ("class_weights", "balanced"),
    "val_fraction": ("validation_fraction", 0.5),
}
NO_COUNTERPART = [
    (TreeSettings, "max_depth", "parameters: {max_depth: …}"),
    (TreeSettings, "scale_pos_weight", "class_weights"),
    (TreeSettings, "objective", "task"),
    (TreeSettings, "random_state", "seed at the top"),
    (TreeSettings, "n_jobs", "--workers"),
    (CnnSettings, "in_channels", "inputs"),
    (CnnSettings, "activation", "task"),
    (CnnSettings, "num_workers", "--workers"),
    (CnnSettings, "ignore_index", "scenes.train.label.ignore"),
    (CnnSettings, "freeze_encoder", "freeze: encoder"),
]


@pytest.mark.parametrize(
    ("settings", "name", "key", "value"),
    [(TreeSettings, name, *pair) for name, pair in TREES.items()]
    + [(CnnSettings, name, *pair) for name, pair in CNN.items()],
)
def test_a_setting_is_read_under_the_name_that_libraries_have_for_it(settings, name, key, value):
    assert settings.model_validate({name: value}) == settings.model_validate({key: value})
    assert getattr(settings.model_validate({name: value}), key) == value


@pytest.mark.parametrize(("settings", "name", "answer"), NO_COUNTERPART)
def test_a_key_of_a_library_without_counterpart_is_answered_with_what_serves_instead(settings, name, answer):
    with pytest.raises(ValidationError) as error:
        settings.model_validate({name: 1})
    assert answer in str(error.value)
    assert "Did you mean" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (CnnSettings, "in_features"),
        (CnnSettings, "extra_trees"),
        (CnnSettings, "sample_weight"),
        (CnnSettings, "betas"),
        (TreeSettings, "encoder_weights"),
        (TreeSettings, "tta"),
        (TreeSettings, "scene_weights"),
        (TreeSettings, "objective_function"),
        (Experiment, "model"),
    ],
)
def test_no_key_is_offered_that_is_not_truly_near(settings, name):
    with pytest.raises(ValidationError, match=rf"got {name}\.") as error:
        settings.model_validate({name: 1})
    assert "Did you mean" not in str(error.value)


def test_a_slip_in_a_library_s_name_is_answered_with_our_key():
    with pytest.raises(ValidationError, match=r"got n_estimatrs\. Did you mean rounds\?"):
        TreeSettings.model_validate({"n_estimatrs": 7})


def test_every_unknown_key_is_named_with_its_own_hint():
    with pytest.raises(
        ValidationError, match=r"got boster\. Did you mean booster\? Got also laeves\. Did you mean lea"
    ):
        TreeSettings.model_validate({"boster": "xgboost", "laeves": 7})


def test_a_setting_given_under_two_names_is_refused():
    with pytest.raises(ValidationError, match="expected rounds once, got rounds and n_estimators"):
        TreeSettings.model_validate({"rounds": 7, "n_estimators": 8})
    with pytest.raises(ValidationError, match="expected rounds once, got iterations and n_estimators"):
        TreeSettings.model_validate({"iterations": 7, "n_estimators": 7})


def test_defaults_that_suit_a_booster_or_an_optimizer_give_way_to_a_library_s_name():
    assert TreeSettings.model_validate({"booster": "random_forest", "n_estimators": 7}).rounds == 7
    assert TreeSettings.model_validate({"booster": "random_forest", "n_estimators": 7}).leaves == 2047
    assert CnnSettings.model_validate({"optimizer": "sgd", "lr": 0.3}).learning_rate == 0.3
    assert CnnSettings.model_validate({"optim": "sgd"}).learning_rate == 0.05


def test_data_and_folds_are_read_under_common_names_too():
    part = {"image": "{id}.tif", "mask": "{id}.png"}
    scenes = SceneSettings.model_validate({"bands": ["red"], "training": part, "nodata_value": -1})
    assert scenes.train.label.path == "{id}.png"
    assert scenes.nodata == -1
    assert FoldSettings.model_validate({"n_splits": 3}).count == 3


def test_an_override_replaces_what_the_file_says_under_another_name(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(EXPERIMENT))
    experiment = load_experiment(path, ["members.lightgbm.n_estimators=3", "random_state=5", "members.unet.lr=0.5"])
    assert experiment.members["lightgbm"].rounds == 3
    assert experiment.members["unet"].learning_rate == 0.5
    assert experiment.seed == 5


def test_tags_are_told_by_a_classifier_under_any_name_of_its_loss(tmp_path):
    label = {"tags": "tags.csv"}
    scenes = {"bands": ["red"], "train": {"image": "{id}.tif", "label": label}}
    member = {"branch": "cnn", "criterion": "focal"}
    values = {"name": "a", "task": "multilabel", "root": ".", "scenes": scenes, "classes": ["fog"]}
    experiment = Experiment.model_validate(values | {"members": {"unet": member}})
    assert experiment.members["unet"].loss == "focal"
    assert experiment.members["unet"].architecture == "classifier"


def test_the_file_s_place_of_a_wrong_key_is_named(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(EXPERIMENT))
    with pytest.raises(ExperimentError, match=r"members\.unet.*got in_channels\. inputs lists"):
        load_experiment(path, ["members.unet.in_channels=7"])
