"""Put weights into a network to start from: of the hub, a package, a local file or an earlier run.

Weights that see the input channels are matched to ours *by name*: pretrained ones know red, green and blue, those of
an earlier run the channels it was trained on.
"""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from cnn.network.network import create
from cnn.network.weight_files import RGB, read_weights
from cnn.settings import CnnSettings, InputInitName
from data.errors import MemberError

__all__ = ["adapt_channels", "load_weights"]

logger = logging.getLogger(__name__)


def load_weights(network: nn.Module, settings: CnnSettings, channels: Sequence[str], outputs: int) -> None:
    """Put the weights that ``settings.pretrained`` names into a network, in place.

    The encoder is taken whole or not at all. Of an earlier run the decoder and the head are taken too, tensor by
    tensor where their shapes agree.

    Parameters
    ----------
    network : nn.Module
        As `build_network` made it.
    settings : CnnSettings
    channels : sequence of str
        Names of the input channels.
    outputs : int
        Logits a pixel.

    Raises
    ------
    MemberError
        If the weights cannot be loaded or are not those of this encoder.
    """
    if settings.pretrained is None:
        return
    weights = read_weights(settings, outputs)
    state, source_channels = weights.state, weights.channels
    state_dict = network.state_dict()
    loaded = {key: state[key] for key in state_dict if key in state}
    missing = [
        key for key in state_dict if key.startswith("encoder.") and key not in loaded and "num_batches" not in key
    ]
    if missing:
        raise MemberError(
            f"pretrained {settings.pretrained}: expected those of the encoder {settings.encoder}, got a file without "
            f"{len(missing)} of its tensors, such as {missing[0].removeprefix('encoder.')}. "
            "Name the encoder that the file was made for, or write `pretrained: null`."
        )
    for key in _channel_keys(state_dict, settings, len(channels), outputs):
        loaded[key] = adapt_channels(
            loaded[key], source_channels or _unnamed(loaded[key], settings), channels, settings.input_conv_init
        )
    taken = {key: tensor for key, tensor in loaded.items() if tensor.shape == state_dict[key].shape}
    misfits = [key for key in loaded if key.startswith("encoder.") and key not in taken]
    if misfits:
        name = misfits[0]
        raise MemberError(
            f"pretrained {settings.pretrained}: expected {name.removeprefix('encoder.')} of shape "
            f"{tuple(state_dict[name].shape)} for the encoder {settings.encoder}, got {tuple(loaded[name].shape)}. "
            "Name the encoder that the file was made for, or write `pretrained: null`."
        )
    network.load_state_dict(taken, strict=False)
    logger.info("weights %s: %d of %d tensors taken", settings.pretrained, len(taken), len(state_dict))


def adapt_channels(
    weight: Tensor, source: Sequence[str], channels: Sequence[str], others: InputInitName = "mean"
) -> Tensor:
    """Turn weights on some input channels into weights on others.

    A channel of a name that the source has takes its weights. All are scaled by the ratio of the numbers of channels
    with weights, as smp does, which keeps the size of what the next layer sees.

    Parameters
    ----------
    weight : (out, len(source), …)
    source, channels : sequence of str
        Names of the input channels that the weights are of, and that are wanted.
    others : {"mean", "copy", "zero"}
        What a channel of another name takes: the mean of the source's weights, those of the source's channels in turn,
        or zeros, so that at first the network does without it.

    Returns
    -------
    weight : (out, len(channels), …)

    Raises
    ------
    MemberError
        If all would be zero.
    """
    unnamed = [name for name in channels if name not in source]
    if others == "zero" and len(unnamed) == len(channels):
        raise MemberError(
            f"input_conv_init zero: expected inputs among {', '.join(source)}, which the weights know, got "
            f"{', '.join(channels)}: nothing would be seen. Write `input_conv_init: mean`."
        )
    fills: dict[InputInitName, Callable[[int], Tensor]] = {
        "mean": lambda place: weight.mean(dim=1),
        "copy": lambda place: weight[:, place % len(source)],
        "zero": lambda place: torch.zeros_like(weight[:, 0]),
    }
    columns = [
        weight[:, source.index(name)] if name in source else fills[others](unnamed.index(name)) for name in channels
    ]
    seen = len(channels) - len(unnamed) if others == "zero" else len(channels)
    return torch.stack(columns, dim=1) * (len(source) / seen)


def _channel_keys(state_dict: dict[str, Tensor], settings: CnnSettings, in_channels: int, outputs: int) -> list[str]:
    """Return the names of the weights that see the input channels: those whose shape goes with the channels' number."""
    with torch.random.fork_rng(devices=[]):
        wider = create(settings, in_channels + 1, outputs, None).state_dict()
    return [key for key in state_dict if key.startswith("encoder.") and state_dict[key].shape != wider[key].shape]


def _unnamed(weight: Tensor, settings: CnnSettings) -> tuple[str, ...]:
    if weight.shape[1] != len(RGB):
        raise MemberError(
            f"pretrained {settings.pretrained}: expected red, green and blue in a file without channel names, "
            f"got {weight.shape[1]} channels. Use a file that Terrablend wrote, or one for RGB images."
        )
    return RGB
