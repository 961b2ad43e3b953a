import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from cnn.inputs.channels import measure_spread, read_channels
from cnn.inputs.normalisation import Normalisation, fit_normalisation
from cnn.inputs.resize import resize_channels, resize_proba
from cnn.member import CnnMember
from cnn.network.model_file import model_path, read_tensors, write_tensors
from cnn.predict.applied import Applied, Mean
from cnn.settings import CnnSettings
from data.errors import MemberError
from data.scenes.scene import Scene

Make = Callable[..., CnnMember]


@pytest.fixture
def scene(make_scene: Callable[..., Scene]) -> Scene:
    return make_scene("any", 64, 96)


def proba_of(member: CnnMember, scene: Scene) -> np.ndarray:
    return np.concatenate([proba for _, _, proba in member.predict([scene], member.folds)], axis=1)


def test_maps_do_not_depend_on_threads_or_on_how_many_windows_are_worked_on_at_once(
    make_member: Make, scene: Scene
) -> None:
    one = proba_of(make_member(tile=32, overlap=8), scene)
    np.testing.assert_array_equal(proba_of(make_member(tile=32, overlap=8, threads=3), scene), one)
    np.testing.assert_array_equal(proba_of(make_member(tile=32, overlap=8, threads=3, predict_batch=2), scene), one)


def test_a_scene_in_one_window_is_what_the_networks_say_of_it(make_member: Make, scene: Scene) -> None:
    member = make_member(tile=256, predict_precision="float32")
    channels, valid = read_channels(member.feature_set, scene)
    with torch.inference_mode():
        wanted = Mean([member.apply_fold(fold) for fold in (0, 1)])(torch.from_numpy(channels)[None])[0].numpy()
    wanted[:, ~valid] = np.nan
    np.testing.assert_allclose(proba_of(member, scene), wanted, atol=1e-6)


def test_a_scene_is_resized_for_the_network_and_its_map_brought_back(make_member: Make, scene: Scene) -> None:
    member = make_member(tile=256, resize=2.0, predict_precision="float32")
    channels, valid = read_channels(member.feature_set, scene)
    wanted = []
    for fold in (0, 1):
        normal = torch.from_numpy(member.normalisation(fold).rescale(channels))[None]
        larger = resize_channels(normal, 128, 192)
        with torch.inference_mode():
            logits = member.apply_fold(fold).network(larger.nan_to_num(0.0))
        wanted.append(resize_proba(logits.softmax(dim=1), 64, 96)[0].numpy())
    mean = np.mean(wanted, axis=0)
    mean[:, ~valid] = np.nan
    np.testing.assert_allclose(proba_of(member, scene), mean, atol=1e-6)


def test_each_scene_has_a_normalisation_of_its_own_if_asked(make_member: Make, scene: Scene) -> None:
    member = make_member(tile=256, normalise={"per_scene": True}, predict_precision="float32")
    own = fit_normalisation(
        member.settings.normalise, [measure_spread(member.feature_set, scene)], member.feature_set.names
    )
    networks = [member.apply_fold(fold, own).network for fold in (0, 1)]
    channels = torch.from_numpy(read_channels(member.feature_set, scene)[0])[None]
    with torch.inference_mode():
        wanted = Mean([Applied(network, own) for network in networks])(channels)[0].numpy()
        other = Applied(networks[0], Normalisation((0.0,) * 3, (1.0,) * 3))(channels)[0].numpy()
    proba = proba_of(member, scene)
    seen = np.isfinite(proba)
    np.testing.assert_allclose(proba[seen], wanted[seen], atol=1e-6)
    assert np.abs(proba - other)[seen].max() > 0.01, "or the test shows nothing"


@pytest.mark.usefixtures("bfloat16_cpu")
@pytest.mark.parametrize("stored", [0, "", [], {}, 5])
def test_what_is_stored_for_a_normalisation_and_is_none_is_refused(make_member: Make, stored: object) -> None:
    member = make_member()
    path = model_path(member.directory, 0)
    write_tensors(path, read_tensors(path)[0], {"normalisation": stored})
    with pytest.raises(MemberError, match=r"fold0\.safetensors: expected a network of the settings in member\.json"):
        member.normalisation(0)


def test_fewer_bits_change_probabilities_a_little(make_member: Make, scene: Scene) -> None:
    exact, short = (proba_of(make_member(predict_precision=name), scene) for name in ("float32", "bfloat16"))
    np.testing.assert_array_equal(np.isnan(exact), np.isnan(short))
    assert 0 < np.nanmax(np.abs(exact - short)) < 0.05


@pytest.mark.parametrize("tta", ["none", "d4"])
def test_openvino_says_what_torch_says(make_member: Make, scene: Scene, tta: str) -> None:
    settings = {"tile": 32, "overlap": 8, "predict_precision": "float32", "tta": tta}
    wanted = proba_of(make_member(**settings), scene)
    compiled = make_member(**settings, predict_engine="openvino", threads=2)
    np.testing.assert_allclose(proba_of(compiled, scene), wanted, atol=1e-5)
    assert proba_of(compiled, scene).tobytes() == proba_of(compiled, scene).tobytes()
    assert sys.modules["openvino_telemetry"] is None, "or OpenVINO tells its makers"


@pytest.mark.usefixtures("bfloat16_cpu")
def test_openvino_computes_with_fewer_bits_too(make_member: Make, scene: Scene) -> None:
    exact = proba_of(make_member(predict_precision="float32", predict_engine="openvino"), scene)
    short = proba_of(make_member(predict_precision="bfloat16", predict_engine="openvino"), scene)
    assert np.nanmax(np.abs(exact - short)) < 0.05


def test_openvino_that_is_not_installed_is_asked_for(make_member: Make, scene: Scene, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MemberError, match=r"pip install terrablend\[openvino\]"):
        proba_of(make_member(predict_engine="openvino"), scene)


def test_a_normalisation_of_each_scene_cannot_be_compiled() -> None:
    with pytest.raises(ValueError, match="per_scene"):
        CnnSettings(predict_engine="openvino", normalise={"per_scene": True})


@pytest.mark.parametrize("windows", [0, "all", -3])
def test_windows_at_once_are_a_number_or_auto(windows: object) -> None:
    with pytest.raises(ValueError, match="predict_batch"):
        CnnSettings(predict_batch=windows)
    assert CnnSettings(predict_batch=3).predict_batch == 3
