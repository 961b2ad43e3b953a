"""Networks by name: every architecture and encoder of segmentation-models-pytorch and timm."""

import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

from cnn.network.classifier import Classifier
from cnn.settings import CLASSIFIER, CnnSettings
from data.errors import MemberError
from data.names import nearest

__all__ = [
    "InputSize",
    "architecture_names",
    "build_network",
    "check_network",
    "create",
    "encoder_names",
    "first_line",
    "fitting_side",
    "input_multiple",
    "measure_input",
    "takes_other_sizes",
]

logger = logging.getLogger(__name__)

ATTENTION = "decoder_attention_type"

LARGEST = 512
"""Pixels on a side up to which an input is looked for that a network takes."""

NOT_TAKEN = (AssertionError, RuntimeError, ValueError)
"""Errors that networks raise on inputs that they do not take."""

ARCHITECTURES: Mapping[str, Any] = {**smp.MODEL_ARCHITECTURES_MAPPING, CLASSIFIER: Classifier}

# Arguments that other settings give; and networks must end in logits alone.
TAKEN = {"self", "kwargs", "encoder_name", "encoder_weights", "in_channels", "classes", "activation", "aux_params"}


def architecture_names() -> tuple[str, ...]:
    """Return the names that ``architecture`` can take."""
    return tuple(ARCHITECTURES)


@cache
def encoder_names() -> tuple[str, ...]:
    """Return the names that ``encoder`` can take; after ``tu-`` timm's tag of a weights variant may follow a dot."""
    return (*smp.encoders.get_encoder_names(), *(f"tu-{name}" for name in timm.list_models()))


def build_network(settings: CnnSettings, in_channels: int, outputs: int) -> nn.Module:
    """Build a network with random weights.

    Parameters
    ----------
    settings : CnnSettings
    in_channels : int
        Number of input channels.
    outputs : int
        Logits a pixel, 1 when the task is binary, else one a class; or a scene, one a tag.

    Returns
    -------
    network : nn.Module
        Maps (N, in_channels, H, W) to (N, outputs, H, W), with H and W multiples of `input_multiple`; a classifier to
        (N, outputs). It has an ``encoder``, all the rest goes with the task.

    Raises
    ------
    MemberError
        If a name is unknown (the nearest known ones are given), or architecture, encoder and their parameters
        do not go together.
    """
    network: nn.Module = create(settings, in_channels, outputs, None)
    return network


def create(settings: CnnSettings, in_channels: int, outputs: int, encoder_weights: str | bool | None) -> Any:
    """Build a network, its encoder with weights of the hub if they are named; see `build_network`."""
    _check_name("architecture", settings.architecture, settings.architecture.lower(), architecture_names())
    encoder = settings.encoder
    _check_name("encoder", encoder, encoder.split(".")[0] if encoder.startswith("tu-") else encoder, encoder_names())
    _check_parameters(settings)
    parameters = dict(settings.parameters)
    if settings.attention is not None:
        parameters[ATTENTION] = settings.attention
    if settings.encoder_depth is not None:
        parameters["encoder_depth"] = settings.encoder_depth
    decoder_channels = settings.decoder_channels or _shallow_decoder(settings)
    if decoder_channels is not None:
        parameters["decoder_channels"] = decoder_channels
    network: nn.Module
    try:
        with _quiet():
            network = ARCHITECTURES[settings.architecture.lower()](
                encoder_name=encoder,
                encoder_weights=encoder_weights,
                in_channels=in_channels,
                classes=outputs,
                **parameters,
            )
    except (
        AssertionError,
        AttributeError,
        KeyError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise MemberError(
            f"{settings.architecture} with the encoder {encoder}: expected a network, got: {first_line(error)}. "
            "Change architecture, encoder, encoder_depth, decoder_channels or parameters."
        ) from error
    return network


@dataclass(frozen=True)
class InputSize:
    """Inputs that a network takes.

    Parameters
    ----------
    side : int
        Of the square inputs that it learns from, pixels.
    multiple : int
        What the sides of an input must be multiples of.
    fixed : bool
        Whether it takes no other size.
    """

    side: int
    multiple: int
    fixed: bool


def measure_input(network: nn.Module, settings: CnnSettings, in_channels: int, outputs: int) -> InputSize:
    """Find the inputs that a network takes; see `fitting_side`."""
    side = fitting_side(network, settings, in_channels, outputs)
    return InputSize(side, input_multiple(network), not takes_other_sizes(network, in_channels, side))


def fitting_side(network: nn.Module, settings: CnnSettings, in_channels: int, outputs: int) -> int:
    """Return the smallest side of a square input, at least ``settings.crop``, that a network maps to such logits.

    Sides must be multiples of `input_multiple`, of a transformer's windows too, and some have but one.

    Raises
    ------
    MemberError
        If it takes none up to `LARGEST` pixels, or to ``settings.crop`` where that is more.
    """
    multiple = input_multiple(network)
    least = -(-settings.crop // multiple) * multiple
    for side in range(least, max(LARGEST, least) + 1, multiple):
        try:
            if _output_shape(network, in_channels, side, side) == _wanted_shape(network, outputs, side):
                return side
        except NOT_TAKEN:
            continue
    check_network(network, settings, in_channels, outputs, least)  # Says what is wrong with the first.
    return least


def check_network(network: nn.Module, settings: CnnSettings, in_channels: int, outputs: int, side: int) -> None:
    """Make sure that a network maps inputs of some size to logits of the same size, a classifier to one a tag.

    Raises
    ------
    MemberError
        If it does not, as architectures with a fixed input size do.
    """
    wanted = _wanted_shape(network, outputs, side)
    try:
        got = _output_shape(network, in_channels, side, side)
    except NOT_TAKEN as error:
        raise MemberError(
            f"{settings.architecture} with the encoder {settings.encoder}: expected it to take inputs of "
            f"{side} × {side} pixels, got: {first_line(error)}. Change crop, or give parameters such as img_size."
        ) from error
    if got != wanted:
        raise MemberError(
            f"{settings.architecture} with the encoder {settings.encoder}: expected logits of shape {wanted}, "
            f"got {got}. Change encoder_depth or parameters such as upsampling."
        )


def takes_other_sizes(network: nn.Module, in_channels: int, side: int) -> bool:
    """Return whether a network that takes inputs of ``side`` × ``side`` pixels takes others; some do not."""
    try:
        _output_shape(network, in_channels, side, side + input_multiple(network))
    except NOT_TAKEN:
        return False
    return True


def input_multiple(network: nn.Module) -> int:
    """Return the number of pixels that the sides of an input must be a multiple of."""
    multiple: int = network.encoder.output_stride  # type: ignore[union-attr,assignment]
    return multiple


def _output_shape(network: nn.Module, in_channels: int, height: int, width: int) -> tuple[int, ...]:
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            return tuple(network(torch.zeros(1, in_channels, height, width)).shape)
    finally:
        network.train(was_training)


def _wanted_shape(network: nn.Module, outputs: int, side: int) -> tuple[int, ...]:
    return (1, outputs) if isinstance(network, Classifier) else (1, outputs, side, side)


def _check_name(key: str, name: str, bare: str, known: Sequence[str]) -> None:
    if bare not in known:
        raise MemberError(
            f"{key}: expected a name that segmentation-models-pytorch or timm knows, got {name}. "
            f"Nearest: {nearest(bare, known)}."
        )


def _check_parameters(settings: CnnSettings) -> None:
    """Refuse parameters that would be ignored in silence, or that would contradict other settings."""
    known = set(_signature(settings.architecture)) - TAKEN
    if settings.attention is not None and ATTENTION not in known:
        able = [name for name in architecture_names() if ATTENTION in _signature(name)]
        raise MemberError(
            f"attention {settings.attention}: expected an architecture that has it in its decoder, "
            f"{' or '.join(able)}, got {settings.architecture}. Change architecture, or leave attention out."
        )
    for key in settings.parameters:
        # What an architecture does not know goes to the encoder: timm's refuse what they do not know either.
        if key in TAKEN or (key not in known and not settings.encoder.startswith("tu-")):
            raise MemberError(
                f"parameters: expected those of {settings.architecture} in segmentation-models-pytorch, got {key}. "
                f"Nearest: {nearest(key, known)}."
            )


def _signature(architecture: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(ARCHITECTURES[architecture.lower()].__init__).parameters


def _shallow_decoder(settings: CnnSettings) -> tuple[int, ...] | None:
    """Return the finest blocks of a decoder that has one block for each halving of the input.

    smp's default widths fit its default depth alone.
    """
    parameter = _signature(settings.architecture).get("decoder_channels")
    if settings.encoder_depth is None or parameter is None or not isinstance(parameter.default, tuple):
        return None
    widths: tuple[int, ...] = parameter.default
    return widths[-settings.encoder_depth :]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what smp and timm warn of that nobody here can act on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`timm-` encoders are deprecated", DeprecationWarning)
        yield


def first_line(error: BaseException) -> str:
    """Return the first line of what a library says of an error, without a full stop."""
    return (str(error.args[0] if error.args else error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
