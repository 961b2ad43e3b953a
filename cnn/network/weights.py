"""Load the weights that a network starts from: from the hub, a local file, or an earlier run.

Weights that see the input channels are matched to ours *by name*: pretrained ones know red, green and blue, those of
an earlier run the channels it was trained on.
"""

import logging
import socket
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub.constants
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from cnn.network.model_file import read_tensors
from cnn.network.network import create
from cnn.settings import CnnSettings, InputInitName
from data.errors import MemberError

__all__ = ["adapt_channels", "load_weights"]

logger = logging.getLogger(__name__)

RGB = ("red", "green", "blue")
FILE_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
PATIENCE = 0.5
"""Seconds that a connection to the hub may take; its own client tries for half a minute before it gives up."""


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
    path = Path(settings.pretrained).expanduser()
    if path.suffix in FILE_SUFFIXES:
        state, source_channels = _read_file(path, settings)
    else:
        state, source_channels = _read_hub(settings, outputs), RGB
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


def _read_file(path: Path, settings: CnnSettings) -> tuple[dict[str, Tensor], tuple[str, ...] | None]:
    """Return the tensors of a file under our names, and its input channels if it names them."""
    if not path.is_file():
        raise MemberError(
            f"pretrained {path}: expected a file, got no such file. Correct the path, or `pretrained: null`."
        )
    if path.suffix == ".safetensors":
        state, about = read_tensors(path)
        channels = tuple(about["inputs"]) if about else None
    else:
        state, channels = _load_torch(path), None
    if not any(key.startswith("encoder.") for key in state):
        # timm's and torchvision's files hold the encoder alone; smp keeps a timm encoder in `encoder.model`.
        prefix = "encoder.model." if settings.encoder.startswith("tu-") else "encoder."
        state = {prefix + key.removeprefix("model."): tensor for key, tensor in state.items()}
    return state, channels


def _load_torch(path: Path) -> dict[str, Tensor]:
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # What torch raises on a file that it cannot read has no common base.
        raise MemberError(
            f"pretrained {path}: expected tensors as torch.save writes them, got: {error}. "
            "Save the model's state_dict again, or as safetensors."
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise MemberError(
            f"pretrained {path}: expected the state_dict of a model, got something else. Save that alone."
        )
    return state


def _read_hub(settings: CnnSettings, outputs: int) -> dict[str, Tensor]:
    """Return an encoder's weights from the hub's cache on this machine, or from the hub."""
    # timm names the variant within the encoder's name, and takes no other.
    tag = True if settings.encoder.startswith("tu-") else settings.pretrained
    advice = (
        f"Write `pretrained: null`, or a local file's path, or run once where {huggingface_hub.constants.ENDPOINT} "
        "can be reached: the weights are kept."
    )
    try:
        with torch.random.fork_rng(devices=[]):
            try:
                with _offline():
                    network = create(settings, len(RGB), outputs, tag)
            except OSError:
                _reach_hub()
                network = create(settings, len(RGB), outputs, tag)
    except (OSError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MemberError(
            f"pretrained {settings.pretrained}: expected those of the encoder {settings.encoder} in the hub's cache or "
            f"on the hub, got neither: {reason}. {advice}"
        ) from error
    return {f"encoder.{key}": tensor for key, tensor in network.encoder.state_dict().items()}


@contextmanager
def _offline() -> Iterator[None]:
    """Let the hub's client look into its cache only."""
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = before


def _reach_hub() -> None:
    """Raise OSError at once if there is no way to the hub, or to the proxy that stands before it."""
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set")
    hub = urlsplit(huggingface_hub.constants.ENDPOINT)
    proxies = {} if urllib.request.proxy_bypass(hub.hostname or "") else urllib.request.getproxies()
    proxy = proxies.get(hub.scheme) or proxies.get("all")
    gate = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else hub
    address = gate.hostname or "", gate.port or (443 if gate.scheme == "https" else 80)
    failures: list[OSError | None] = []

    def connect() -> None:
        try:
            socket.create_connection(address, PATIENCE).close()
        except OSError as error:
            failures.append(error)
        else:
            failures.append(None)

    # In a thread of its own: nothing limits the time that looking up a name takes.
    attempt = Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(PATIENCE)
    failure = failures[0] if failures else TimeoutError(f"no answer from {address[0]} in {PATIENCE} s")
    if failure is not None:
        raise failure
