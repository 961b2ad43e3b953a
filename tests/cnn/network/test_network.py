import socket
import threading
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file

import cnn.network.hub
from cnn.network.model_file import write_tensors
from cnn.network.network import (
    architecture_names,
    build_network,
    check_network,
    encoder_names,
    fitting_side,
    input_multiple,
    takes_other_sizes,
)
from cnn.network.weights import adapt_channels, load_weights
from cnn.settings import CLASSIFIER, CnnSettings
from data.errors import MemberError

TINY = CnnSettings(encoder="tu-regnetx_002", encoder_depth=2, decoder_channels=[16, 8])
SMALL = CnnSettings(encoder="mobileone_s0", encoder_depth=2, decoder_channels=[16, 8])


@pytest.mark.parametrize("architecture", [name for name in architecture_names() if name != CLASSIFIER])
def test_every_architecture_maps_channels_to_logits_of_the_same_size(architecture: str) -> None:
    settings = CnnSettings(architecture=architecture, encoder="mobilenet_v2")
    if architecture == "dpt":
        settings = CnnSettings(
            architecture="dpt",
            encoder="tu-vit_tiny_patch16_224",
            encoder_depth=2,
            parameters={"img_size": 128, "decoder_intermediate_channels": [16, 16], "decoder_fusion_channels": 16},
        )
    network = build_network(settings, 5, 3)
    check_network(network, settings, 5, 3, 128)
    assert takes_other_sizes(network, 5, 128) == (architecture != "dpt")


def test_a_shallow_encoder_gets_a_shallow_decoder() -> None:
    settings = CnnSettings(encoder="resnet18", encoder_depth=3)
    network = build_network(settings, 2, 1)
    assert input_multiple(network) == 8
    check_network(network, settings, 2, 1, 24)


def test_encoders_of_smp_and_timm_have_names() -> None:
    assert {"resnet34", "efficientnet-b5", "tu-efficientnet_b5", "tu-convnextv2_tiny", "mit_b0"} <= set(encoder_names())


@pytest.mark.parametrize(
    ("key", "wrong", "right"),
    [
        ("encoder", "resnet43", "resnet34"),
        ("encoder", "tu-efficientnet-b5", "tu-efficientnet_b5"),
        ("encoder", "tu-resnet43.a1_in1k", "tu-resnet34"),
        ("architecture", "u-net", "unet"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest_right_ones(key: str, wrong: str, right: str) -> None:
    with pytest.raises(MemberError, match=f"{key}: expected .* got {wrong}. Nearest: .*{right}"):
        build_network(TINY.model_copy(update={key: wrong}), 3, 1)


@pytest.mark.parametrize(
    ("encoder", "parameters", "message"),
    [
        ("resnet18", {"decoder_chanels": 3}, "got decoder_chanels. Nearest: decoder_channels"),
        ("resnet18", {"activation": "sigmoid"}, "got activation"),
        ("tu-regnetx_002", {"img_sise": 3}, "img_sise"),
        ("resnet18", {"decoder_channels": [16, 8]}, "unet with the encoder resnet18: .*depth"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(encoder: str, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(MemberError, match=message):
        build_network(CnnSettings(encoder=encoder, parameters=parameters), 3, 1)


def test_a_network_of_fixed_input_size_says_so_before_training() -> None:
    settings = CnnSettings(architecture="unet", encoder="tu-swin_tiny_patch4_window7_224", crop=128)
    network = build_network(settings, 3, 1)
    with pytest.raises(MemberError, match="img_size"):
        check_network(network, settings, 3, 1, 128)
    settings = settings.model_copy(update={"parameters": {"img_size": 128}})
    check_network(build_network(settings, 3, 1), settings, 3, 1, 128)


@pytest.mark.parametrize("offline", [True, False])
@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18"])
def test_pretrained_weights_without_hub_or_cache_fail_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encoder: str, offline: bool
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    settings = CnnSettings(encoder=encoder, pretrained="imagenet", encoder_depth=3)
    tried: list[float | None] = []

    def refuse(connection: socket.socket, address: object) -> None:
        tried.append(connection.gettimeout())
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(MemberError, match=r"pretrained imagenet: expected .*`pretrained: null`, a local file"):
        load_weights(build_network(settings, 4, 1), settings, ["red", "green", "blue", "nir"], 1)
    assert tried == ([] if offline else [0.5]), "one connection at most, and half a second for it"


@pytest.mark.parametrize("proxy", [None, "http://proxy.example:3128", "proxy.example:3128"])
def test_a_network_that_swallows_everything_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, proxy: str | None
) -> None:
    asked: list[tuple[tuple[str, int], float]] = []
    given_up, answered = threading.Event(), threading.Event()

    def never(address: tuple[str, int], timeout: float) -> None:
        asked.append((address, timeout))
        given_up.wait()
        answered.set()
        raise TimeoutError

    monkeypatch.setattr(cnn.network.hub.socket, "create_connection", never)
    monkeypatch.setattr(cnn.network.hub.urllib.request, "getproxies", lambda: {"https": proxy} if proxy else {})
    monkeypatch.setattr(cnn.network.hub.urllib.request, "proxy_bypass", lambda host: False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "https://hub.example")
    settings = CnnSettings(encoder="resnet18", pretrained="imagenet", encoder_depth=3)
    network = build_network(settings, 4, 1)
    with pytest.raises(MemberError, match=r"no answer from .*example in 0\.5 s"):
        load_weights(network, settings, ["red", "green", "blue", "nir"], 1)
    assert not answered.is_set(), "it went on before there was any answer"
    given_up.set()
    assert asked == [(("proxy.example", 3128) if proxy else ("hub.example", 443), 0.5)]


def test_an_unknown_name_of_weights_lists_the_known_ones() -> None:
    settings = CnnSettings(encoder="resnet18", pretrained="imagenet21k")
    with pytest.raises(MemberError, match=r"imagenet21k.*ssl"):
        load_weights(build_network(settings, 3, 1), settings, ["red", "green", "blue"], 1)


@pytest.mark.parametrize("settings", [TINY, SMALL], ids=["timm", "smp"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_local_weights_are_matched_to_channels_by_name(settings: CnnSettings, suffix: str, tmp_path: Path) -> None:
    source = build_network(settings, 3, 1)
    state = {key.removeprefix("model."): tensor.clone() for key, tensor in source.encoder.state_dict().items()}  # type: ignore[union-attr]
    state["fc.weight"] = torch.zeros(10, 3)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": state}, path)
    else:
        save_file(state, path)
    settings = settings.model_copy(update={"pretrained": str(path)})

    same = build_network(settings, 3, 2)
    load_weights(same, settings, ["blue", "green", "red"], 2)
    image = torch.rand(1, 3, 32, 32)
    for network in (source, same):
        network.eval()
    with torch.inference_mode():
        theirs = source.encoder(image)[-1]  # type: ignore[operator]
        ours = same.encoder(image[:, [2, 1, 0]])[-1]  # type: ignore[operator]
    torch.testing.assert_close(ours, theirs)

    more = build_network(settings, 5, 1)
    load_weights(more, settings, ["nir", "red", "green", "blue", "NDVI"], 1)
    key = next(key for key, tensor in more.encoder.state_dict().items() if tensor.ndim == 4)  # type: ignore[union-attr]
    theirs, ours = source.encoder.state_dict()[key], more.encoder.state_dict()[key]  # type: ignore[union-attr]
    torch.testing.assert_close(ours[:, 1:4], theirs * 3 / 5)
    torch.testing.assert_close(ours[:, 0], theirs.mean(1) * 3 / 5)


def test_a_network_can_go_on_from_an_earlier_run_of_other_inputs_and_classes(tmp_path: Path) -> None:
    source = build_network(TINY, 2, 6)
    write_tensors(tmp_path / "fold0.safetensors", source.state_dict(), {"inputs": ["nir", "red"]})
    settings = TINY.model_copy(update={"pretrained": str(tmp_path / "fold0.safetensors")})
    network = build_network(settings, 2, 1)
    head = network.segmentation_head.state_dict()["0.weight"].clone()  # type: ignore[union-attr]
    load_weights(network, settings, ["red", "nir"], 1)
    for (key, theirs), ours in zip(
        source.decoder.state_dict().items(), network.decoder.state_dict().values(), strict=True
    ):  # type: ignore[union-attr]
        assert torch.equal(theirs, ours), key
    assert torch.equal(network.segmentation_head.state_dict()["0.weight"], head)  # type: ignore[union-attr]
    first = "model.stem.conv.weight"
    assert torch.equal(network.encoder.state_dict()[first][:, [1, 0]], source.encoder.state_dict()[first])  # type: ignore[union-attr]


def test_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(3, 3)}, tmp_path / "other.safetensors")
    settings = TINY.model_copy(update={"pretrained": str(tmp_path / "other.safetensors")})
    with pytest.raises(MemberError, match="expected those of the encoder tu-regnetx_002"):
        load_weights(build_network(settings, 3, 1), settings, ["red", "green", "blue"], 1)


@pytest.mark.parametrize("name", ["damaged.safetensors", "damaged.pth", "absent.pth"])
def test_damaged_and_missing_weights_are_named(tmp_path: Path, name: str) -> None:
    if "damaged" in name:
        (tmp_path / name).write_bytes(b"no tensors at all")
    settings = TINY.model_copy(update={"pretrained": str(tmp_path / name)})
    with pytest.raises(MemberError, match=name):
        load_weights(build_network(settings, 3, 1), settings, ["red", "green", "blue"], 1)


def test_weights_on_other_channels_keep_the_size_of_the_response() -> None:
    weight = torch.rand(4, 3, 3, 3)
    adapted = adapt_channels(weight, ["red", "green", "blue"], ["a", "b", "c", "d", "e"])
    torch.testing.assert_close(adapted.sum(1), weight.sum(1))


RGB = ["red", "green", "blue"]


def test_channels_without_a_name_take_the_mean_copies_in_turn_or_nothing() -> None:
    weight, channels = torch.rand(4, 3, 3, 3), ["nir", "blue", "swir", "ndvi", "red", "dem"]
    mean, copy, zero = (adapt_channels(weight, RGB, channels, how) for how in ("mean", "copy", "zero"))
    for adapted, factor in ((mean, 0.5), (copy, 0.5), (zero, 1.5)):
        torch.testing.assert_close(adapted[:, [4, 1]], weight[:, [0, 2]] * factor)
    torch.testing.assert_close(mean[:, 0], weight.mean(1) * 0.5)
    torch.testing.assert_close(copy[:, [0, 2, 3, 5]], weight[:, [0, 1, 2, 0]] * 0.5)
    assert (zero[:, [0, 2, 3, 5]] == 0).all()


def test_zero_for_channels_without_a_name_leaves_the_response_to_the_others_as_it_was() -> None:
    weight = torch.rand(4, 3, 3, 3)
    adapted = adapt_channels(weight, RGB, ["nir", *RGB], "zero")
    assert torch.equal(adapted[:, 1:], weight)
    with pytest.raises(MemberError, match="input_conv_init zero: expected inputs among red, green, blue"):
        adapt_channels(weight, RGB, ["nir", "swir"], "zero")


def test_input_conv_init_is_a_setting_of_pretrained_weights(tmp_path: Path) -> None:
    source = build_network(TINY, 3, 1)
    torch.save({f"encoder.{key}": tensor for key, tensor in source.encoder.state_dict().items()}, tmp_path / "rgb.pth")  # type: ignore[union-attr]
    settings = TINY.model_copy(update={"pretrained": str(tmp_path / "rgb.pth"), "input_conv_init": "zero"})
    network = build_network(settings, 4, 1)
    load_weights(network, settings, ["red", "nir", "green", "blue"], 1)
    first = network.encoder.state_dict()["model.stem.conv.weight"]  # type: ignore[union-attr]
    assert (first[:, 1] == 0).all()
    assert torch.equal(first[:, [0, 2, 3]], source.encoder.state_dict()["model.stem.conv.weight"])  # type: ignore[union-attr]


def test_attention_is_put_into_the_decoder_or_refused() -> None:
    settings = CnnSettings(encoder="resnet18", encoder_depth=3, attention="scse")
    network = build_network(settings, 2, 1)
    assert any(type(module).__name__ == "SCSEModule" for module in network.decoder.modules())  # type: ignore[union-attr]
    check_network(network, settings, 2, 1, 32)
    with pytest.raises(MemberError, match=r"attention scse: expected .* unet or unetplusplus, got fpn"):
        build_network(settings.model_copy(update={"architecture": "fpn", "encoder_depth": None}), 2, 1)


@pytest.mark.parametrize(
    ("encoder", "crop", "side", "others"),
    [
        ("resnet18", 100, 128, True),
        ("tu-swin_tiny_patch4_window7_224", 128, 224, False),
        ("tu-swinv2_tiny_window8_256", 200, 256, False),
        ("tu-maxvit_tiny_tf_224", 200, 224, False),
    ],
)
def test_a_crop_is_made_as_large_as_the_network_takes(encoder: str, crop: int, side: int, others: bool) -> None:
    settings = CnnSettings(encoder=encoder, crop=crop)
    network = build_network(settings, 3, 1)
    assert fitting_side(network, settings, 3, 1) == side
    assert takes_other_sizes(network, 3, side) == others


def test_a_crop_larger_than_the_only_size_that_a_network_takes_is_refused() -> None:
    settings = CnnSettings(encoder="tu-swin_tiny_patch4_window7_224", crop=256)
    with pytest.raises(MemberError, match=r"256 × 256 pixels.*img_size"):
        fitting_side(build_network(settings, 3, 1), settings, 3, 1)
