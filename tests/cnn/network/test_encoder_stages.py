from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from cnn.network.encoder_stages import encoder_stages, freeze, held_stages
from cnn.network.model_file import read_tensors
from cnn.network.network import build_network
from cnn.network.weights import load_weights
from cnn.settings import CnnSettings
from data.scenes.catalogue import Catalogue

from ..conftest import fit_member

OPTIONS: dict[str, Any] = {"seed": 3, "threads": 1, "device": "cpu", "folds": [0]}


@pytest.mark.parametrize(
    ("encoder", "side", "firsts"),
    [
        ("resnet18", 64, ["conv1", "layer1", "layer2", "layer3", "layer4"]),
        ("mit_b0", 64, ["patch_embed1", "patch_embed2", "patch_embed3", "patch_embed4"]),
        ("tu-regnetx_002", 64, ["model.stem", "model.s1", "model.s2", "model.s3", "model.s4"]),
        ("tu-convnext_atto", 64, ["model.stem", "model.stages_1", "model.stages_2", "model.stages_3"]),
    ],
)
def test_the_stages_of_an_encoder_are_those_that_its_authors_named(encoder: str, side: int, firsts: list[str]) -> None:
    network = build_network(CnnSettings(encoder=encoder), 4, 1)
    network.train()
    stages = encoder_stages(network, 4, side)
    assert set(stages) == {name for name, _ in network.named_parameters() if name.startswith("encoder.")}
    for number, first in enumerate(firsts):
        assert {stages[name] for name in stages if name.startswith(f"encoder.{first}")} == {number}
    assert all(module.training for module in network.modules()), "it is left as it was"
    assert all(weight.grad is None for weight in network.parameters())


def test_a_transformer_of_one_resolution_has_stages_too() -> None:
    settings = CnnSettings(
        architecture="dpt",
        encoder="tu-vit_tiny_patch16_224",
        encoder_depth=2,
        parameters={"img_size": 64, "decoder_intermediate_channels": [16, 16], "decoder_fusion_channels": 16},
    )
    stages = encoder_stages(build_network(settings, 3, 1), 3, 64)
    assert stages["encoder.model.patch_embed.proj.weight"] == stages["encoder.model.blocks.0.attn.qkv.weight"] == 0
    assert stages["encoder.model.blocks.11.attn.qkv.weight"] == 1


@pytest.mark.parametrize("how", ["none", "encoder", "batch_norm", "gradual"])
def test_what_is_frozen_neither_learns_nor_counts(how: Any) -> None:
    network = build_network(CnnSettings(encoder="resnet18", encoder_depth=3), 3, 1)
    stages = encoder_stages(network, 3, 64)
    norms = {name: module for name, module in network.named_modules() if isinstance(module, _BatchNorm)}
    for epoch in (0, 5, 11):
        freeze(network, how, stages, epoch, 12)
        held = held_stages(how, 4, epoch, 12)
        for name, weight in network.named_parameters():
            frozen = stages.get(name, 9) < held or (how == "batch_norm" and name in stages and weight.ndim == 1)
            assert weight.requires_grad != frozen, (epoch, name)
        for name, module in norms.items():
            assert module.training == module.weight.requires_grad, (epoch, name)
    assert held_stages("gradual", 4, 0, 1) == 4
    assert held_stages("gradual", 4, 49, 50) == 0


@pytest.mark.parametrize(
    ("how", "epochs", "fixed", "moves"),
    [
        ("encoder", 2, ["encoder."], ["decoder.", "segmentation_head."]),
        ("batch_norm", 2, ["encoder.model.stem.bn."], ["encoder.model.stem.conv.", "decoder."]),
        ("gradual", 1, ["encoder."], ["decoder.", "segmentation_head."]),
        ("gradual", 2, [], ["encoder.model.stem.conv.", "decoder."]),
    ],
)
def test_a_training_leaves_what_is_frozen_as_it_was(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path, how: Any, epochs: int, fixed: list[str], moves: list[str]
) -> None:
    torch.manual_seed(0)
    source = build_network(tiny, 3, 1)
    torch.save(source.state_dict(), tmp_path / "start.pth")
    changes = {"pretrained": str(tmp_path / "start.pth"), "freeze": how, "average": "ema", "epochs": epochs}
    settings = CnnSettings(**{**tiny.model_dump(exclude_unset=True), **changes})
    start = build_network(settings, 2, 1)
    load_weights(start, settings, ["red", "nir"], 1)
    fit_member("net", settings, catalogue, tmp_path, **OPTIONS)
    before, after = start.state_dict(), read_tensors(tmp_path / "fold0.safetensors")[0]
    for key, tensor in before.items():
        same = torch.equal(after[key], tensor)
        if any(key.startswith(prefix) for prefix in fixed):
            assert same, key
        if any(key.startswith(prefix) for prefix in moves) and key.endswith("weight"):
            assert not same, key


def test_freezing_without_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="expected pretrained weights to freeze"):
        CnnSettings(freeze="encoder")
