import pytest

from cnn.branch import BRANCH, LIGHT
from cnn.known_weights import KNOWN_WEIGHTS


@pytest.mark.parametrize(
    ("bands", "installed", "gpus", "expected"),
    [
        (["red", "green", "blue", "nir"], True, 0, {"pretrained": LIGHT}),
        (["red", "green", "blue", "nir"], True, 1, {"pretrained": LIGHT}),
        (["red", "green", "blue", "nir"], False, 0, {"encoder": KNOWN_WEIGHTS[LIGHT].encoder}),
        (["vv", "vh"], True, 0, {"pretrained": LIGHT}),
        (["vv", "vh"], False, 1, {}),
    ],
)
def test_a_first_network_starts_from_weights_at_hand_and_is_light_on_a_cpu(
    monkeypatch, tmp_path, bands, installed, gpus, expected
):
    monkeypatch.setattr("cnn.known_weights.find_package_file", lambda place: tmp_path if installed else None)
    monkeypatch.setattr("cnn.branch.count_gpus", lambda: gpus)
    assert BRANCH.first_members(bands, False) == {"unet": {"branch": "cnn", "inputs": bands, **expected}}


def test_drawn_labels_are_too_few_for_a_network():
    assert BRANCH.first_members(["red", "green", "blue"], True) == {}
