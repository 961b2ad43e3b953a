"""Export a trained member as an ONNX file, for use without torch.

The graph takes the input channels by their names, as they are measured, and gives probabilities: normalisation, the
networks of all folds and their mean are inside. Features and other members' probabilities are not: the card beside the
file says what each channel is.
"""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from cnn.member import CnnMember
from cnn.network.network import first_line
from cnn.predict.applied import D4Mean, Mean
from cnn.settings import CLASSIFIER
from data.errors import MemberError
from data.files import read_json, replacing, require_replaceable, require_suffix, write_json
from data.libraries import onnx_library
from features.tile_model import TileModel

__all__ = ["ByName", "export_member", "random_windows", "tile_model", "trace", "write_graph", "write_tiles"]

logger = logging.getLogger(__name__)

LIBRARIES = ("terrablend", "torch", "onnx", "onnxscript", "onnxruntime")
OPSET = 18
OUTPUT = "proba"
TOLERANCE = 1e-4
"""Largest difference of a probability from torch's; float32 on two runtimes differs by about 1e-6."""


class ByName(nn.Module):
    """A model that is given each input channel by itself.

    Parameters
    ----------
    model : nn.Module
        Channels (N, C, H, W) to probabilities (N, K, H, W), or of tags (N, K).
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *channels: Tensor) -> Tensor:
        """Turn C channels (N, H, W) float32, NaN where there is no data, into probabilities (N, K, H, W)."""
        proba: Tensor = self.model(torch.stack(channels, dim=1))
        return proba


def export_member(
    member: CnnMember, path: Path, folds: Sequence[int] | None = None, most_bytes: int = 2**31 - 2**20
) -> float:
    """Write a member as an ONNX file, with a card of the same name in JSON that says how to use it.

    Parameters
    ----------
    member : CnnMember
        On the CPU.
    path : Path
        Ends in ``.onnx``.
    folds : sequence of int, optional
        Whose networks to take the mean of; all by default.
    most_bytes : int
        Of all weights; a file of protocol buffers holds less than 2 GiB.

    Returns
    -------
    difference : float
        Largest difference of a probability from torch's, over random windows.

    Raises
    ------
    MemberError
        If the file cannot be made or does not say what the member says, or a library that makes it is missing.
    OutputError
        If there is a file of one of these names that is no earlier export.
    """
    require_suffix(path, ".onnx")
    for file in (path, path.with_suffix(".json")):
        require_replaceable(file, lambda _: _is_card(path.with_suffix(".json")))
    onnx_library("onnx")
    onnx_library("onnxscript")
    runtime = onnx_library("onnxruntime")
    folds = member.folds if folds is None else tuple(folds)
    names = member.channels.names
    applied = [member.apply_fold(fold) for fold in folds]
    size = sum(tensor.numel() * tensor.element_size() for model in applied for tensor in model.state_dict().values())
    if size > most_bytes:
        raise MemberError(
            f"member {member.name}: expected at most {most_bytes / 1e9:.3g} GB of weights in one file, got "
            f"{size / 1e9:.3g} GB. Write fewer folds: --fold."
        )
    model = ByName(Mean(applied)).eval()
    program, any_size = trace(model, member)
    with replacing(path) as temporary:
        write_graph(program, temporary, names, OUTPUT, f"member {member.name}")
        session = runtime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        differences = []
        for windows in random_windows(member, folds[0], any_size):
            inputs = dict(zip(names, windows, strict=True))
            with torch.inference_mode():
                wanted = model(*map(torch.from_numpy, windows)).numpy()
            differences.append(np.abs(session.run([OUTPUT], inputs)[0] - wanted).max())
        difference = float(np.max(differences))
        if not difference <= TOLERANCE:
            raise MemberError(
                f"{path}: expected the probabilities of torch to within {TOLERANCE:g}, got some {difference:.1e} off, "
                "and wrote nothing. Try other versions of torch, onnxscript and onnxruntime."
            )
    write_json(path.with_suffix(".json"), _card(member, folds, any_size, difference))
    logger.info("member %s: folds %s, probabilities within %.1e of torch's → %s", member.name, folds, difference, path)
    return difference


def tile_model(member: CnnMember) -> TileModel:
    """Return the networks of all folds of a member, on the CPU, as one that maps tiles."""
    mean, settings = Mean([member.apply_fold(fold) for fold in member.folds]), member.settings
    seen = member.normalisation(member.folds[0])
    return TileModel(
        member.name,
        (D4Mean(mean) if settings.tta == "d4" else mean).eval(),
        member.channels.names,
        side=member.crop if member.fixed_size else max(member.crop, settings.tile),
        multiple=member.multiple,
        fixed=member.fixed_size,
        overlap=settings.overlap / settings.tile,
        ranges=tuple(zip(seen.offset, seen.scale, strict=True)),
        whole=settings.normalise.per_scene or settings.resize != 1,
        write=write_tiles,
    )


def write_tiles(module: nn.Module, shape: tuple[int, ...], path: Path, names: tuple[str, str]) -> None:
    """Write a module that maps one tile (1, C, H, W) as an ONNX file, its input and output called by two names."""
    onnx_library("onnxscript")
    with torch.no_grad():
        program = torch.export.export(module, (torch.zeros(shape),), strict=False)
    write_graph(program, path, names[:1], names[1], "the ensemble")


def write_graph(program: ExportedProgram, path: Path, inputs: Sequence[str], output: str, whose: str) -> None:
    """Write a recorded graph as an ONNX file with all weights inside; ``whose`` names it in an error.

    Raises
    ------
    MemberError
        If ONNX lacks an operation of it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # What torch and onnxscript say to those who develop them.
            torch.onnx.export(
                program,
                (),
                path,
                input_names=inputs,
                output_names=[output],
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise MemberError(
            f"{whose}: expected a network that ONNX has all operations of, got: {first_line(error)}. "
            "Try other versions of torch and onnxscript, or another architecture."
        ) from error


def trace(model: ByName, member: CnnMember) -> tuple[ExportedProgram, bool]:
    """Record what a model computes, for windows of any size, or of the training crops' if it takes no others.

    Returns
    -------
    program : ExportedProgram
    any_size : bool
    """
    number, sides = Dim("n"), [Dim(name, min=_least(member) // member.multiple) for name in ("height", "width")]
    if not member.fixed_size:
        try:
            dynamic = {0: number, **{axis: member.multiple * side for axis, side in enumerate(sides, start=1)}}
            return _trace(model, member, dynamic), True
        except (AssertionError, RuntimeError, ValueError) as error:
            logger.warning(
                "member %s: a file for windows of %d × %d pixels alone, since %s cannot be recorded for others: %s",
                member.name,
                member.crop,
                member.crop,
                member.settings.architecture,
                first_line(error),
            )
    try:
        return _trace(model, member, {0: number}), False
    except (AssertionError, RuntimeError, ValueError) as error:
        raise MemberError(
            f"member {member.name}: expected {member.settings.architecture} with {member.settings.encoder} to be a "
            f"graph that torch.export can record, got: {first_line(error)}. Choose another encoder."
        ) from error


def random_windows(member: CnnMember, fold: int, any_size: bool) -> list[list[NDArray[np.float32]]]:
    """Return some windows, each as its channels (N, H, W) of plausible values, with a corner of nodata."""
    rng, seen = np.random.default_rng(0), member.normalisation(fold)
    windows = []
    for shape in _shapes(member, any_size):
        channels = [
            rng.normal(middle, spread, shape).astype(np.float32)
            for middle, spread in zip(seen.offset, seen.scale, strict=True)
        ]
        for channel in channels:
            channel[:, :5, :7] = np.nan
        windows.append(channels)
    return windows


def _trace(model: ByName, member: CnnMember, dynamic: dict[int, Any]) -> ExportedProgram:
    channels, any_size = len(member.channels.names), len(dynamic) > 1
    # Neither side is the least, nor are both the same: torch takes such numbers for a must.
    shape = (2, member.crop, member.crop)
    if any_size:
        shape = (2, _least(member) + member.multiple, _least(member) + 2 * member.multiple)
    # Tensors of their own: the same one given twice is taken for a single input.
    example = tuple(torch.zeros(shape) for _ in range(channels))
    with torch.no_grad():
        program = torch.export.export(model, example, dynamic_shapes={"channels": (dynamic,) * channels}, strict=False)
        for other in _shapes(member, any_size):
            program.module()(*(torch.zeros(other) for _ in range(channels)))
    return program


def _shapes(member: CnnMember, any_size: bool) -> list[tuple[int, int, int]]:
    """Return the numbers, heights and widths of windows that the file is tried with."""
    if not any_size:
        return [(1, member.crop, member.crop), (2, member.crop, member.crop)]
    least, more = _least(member), _least(member) + member.multiple
    return [(1, least, least), (2, least, more), (3, more + member.multiple, least), (1, 2 * least, 2 * more)]


def _least(member: CnnMember) -> int:
    """Return the least side of a window; a side of one pixel at the deepest level would be taken for a must."""
    return max(member.crop, 2 * member.multiple)


def _card(member: CnnMember, folds: Sequence[int], any_size: bool, difference: float) -> dict[str, Any]:
    tags = member.settings.architecture.lower() == CLASSIFIER
    sides: dict[str, Any] = {"equal": member.crop}
    if any_size:
        sides = {"multiple_of": member.multiple, "at_least": _least(member)}
    return {
        "member": member.name,
        "folds": folds,
        "inputs": {
            "shape": ["n", "height", "width"],
            "type": "float32",
            "nodata": "NaN",
            "sides": sides,
            "resize": member.settings.resize,
            "channels": member.channels.describe(),
        },
        "bands": member.feature_set.scene_bands,
        "formulas": member.feature_set.formulas,
        "output": {
            "name": OUTPUT,
            "shape": ["n", len(member.classes), *([] if tags else ["height", "width"])],
            "type": "float32",
            "classes": member.classes,
            "of": "sigmoid" if tags or len(member.classes) == 1 else "softmax",
        },
        "normalisation": {fold: asdict(member.normalisation(fold)) for fold in folds},
        "architecture": member.settings.architecture,
        "encoder": member.settings.encoder,
        "opset": OPSET,
        "difference_from_torch": difference,
        "versions": {library: version(library) for library in LIBRARIES},
    }


def _is_card(path: Path) -> bool:
    try:
        card = read_json(path)
        return card["output"]["name"] == OUTPUT and "terrablend" in card["versions"]
    except (OSError, ValueError, LookupError, TypeError):
        return False
