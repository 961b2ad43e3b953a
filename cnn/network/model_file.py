"""The file of one fitted model: tensors in safetensors, with all that is needed to apply them in its header."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from data.errors import MemberError
from data.files import replacing

__all__ = ["model_path", "read_about", "read_tensors", "write_tensors"]

KEY = "terrablend"
"""One header entry holds everything: the order of several entries is not the same from run to run."""


def model_path(directory: Path, fold: int) -> Path:
    """Return the file of a fold's network in its member's folder."""
    return directory / f"fold{fold}.safetensors"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and facts about them, atomically; the same content gives the same bytes."""
    # Copies, since safetensors takes neither channels-last tensors nor two that share memory.
    plain = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    with replacing(path) as temporary:
        save_file(plain, temporary, {KEY: json.dumps(about, sort_keys=True, ensure_ascii=False)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors of a safetensors file and the facts about them: none if Terrablend did not write it.

    Raises
    ------
    MemberError
        If the file cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = (file.metadata() or {}).get(KEY)
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(about) if about else {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise MemberError(f"{path}: expected a safetensors file, got: {error}. Remove it and train again.") from error


def read_about(path: Path) -> dict[str, Any]:
    """Read the facts that a file holds about its tensors, without the tensors.

    Raises
    ------
    MemberError
        If the file cannot be read or is not one of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError) as error:
        raise MemberError(f"{path}: expected a safetensors file, got: {error}. Remove it and train again.") from error
    if about is None:
        raise MemberError(
            f"{path}: expected a model that Terrablend trained, got another file. Remove it and train again."
        )
    facts: dict[str, Any] = json.loads(about)
    return facts
