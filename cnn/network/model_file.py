"""The file of one fitted model: tensors in safetensors, with all that is needed to apply them in its header."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from data.errors import MemberError
from data.files import fingerprint, replacing
from data.records import CHECKSUM

__all__ = ["model_path", "read_about", "read_saved", "read_tensors", "write_tensors"]

KEY = "terrablend"
"""One header entry holds everything: the order of several entries is not the same from run to run."""


def model_path(directory: Path, fold: int) -> Path:
    """Return the file of a fold's network in its member's folder."""
    return directory / f"fold{fold}.safetensors"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and facts about them, atomically; the same content gives the same bytes."""
    # Copies, since safetensors takes neither channels-last tensors nor two that share memory.
    plain = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    facts = json.loads(json.dumps(about))
    text = json.dumps({**facts, CHECKSUM: _checksum(facts, plain)}, sort_keys=True, ensure_ascii=False)
    with replacing(path) as temporary:
        save_file(plain, temporary, {KEY: text})


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
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        if about is None:
            return tensors, {}
        facts: dict[str, Any] = json.loads(about)
        if facts.pop(CHECKSUM, None) != _checksum(facts, tensors):
            raise ValueError("its checksum is not that of its content")
    except (SafetensorError, OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise MemberError(f"{path}: expected a safetensors file, got: {error}. Remove it and train again.") from error
    return tensors, facts


def read_saved(path: Path, mmap: bool = False) -> Any:
    """Read what `torch.save` wrote, tensors and plain values alone, once the checksum of each entry agrees.

    Raises
    ------
    Exception
        What torch raises on a file that it cannot read has no common base.
    """
    # As torch writes them since version 1.6, files are zips; of earlier ones nothing tells whether they are sound.
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"the checksum of {damaged} is not that of its content")
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def read_about(path: Path) -> dict[str, Any]:
    """Read the facts that a file holds about its tensors, which are compared with their checksum.

    Raises
    ------
    MemberError
        If the file cannot be read, is damaged, or is not one of ours.
    """
    _, facts = read_tensors(path)
    if not facts:
        raise MemberError(
            f"{path}: expected a model that Terrablend trained, got another file. Remove it and train again."
        )
    return facts


def _checksum(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of facts and of tensors with their names, kinds and shapes."""
    digest = hashlib.sha256(fingerprint(facts).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
