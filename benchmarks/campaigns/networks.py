"""Change the facts and the tensors of a network's file, whose checksum is made anew."""

import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cnn.network.model_file import read_tensors, write_tensors

__all__ = ["write_changed"]


def write_changed(data: bytes, rng: random.Random, change: Callable[[Any], Any]) -> bytes:
    """Return the bytes of a network's file with other facts, or another tensor."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fold0.safetensors"
        path.write_bytes(data)
        tensors, facts = read_tensors(path)
        if rng.random() < 0.5:
            facts = change(facts)
            facts = facts if isinstance(facts, dict) else {"normalisation": facts}
            facts = json.loads(json.dumps(facts))
        else:
            name = rng.choice(sorted(tensors))
            tensor = tensors.pop(name).float()
            other = [tensor * float("nan"), tensor[None], tensor.double(), tensor.reshape(-1)[:1], torch.zeros(0)]
            if rng.random() < 0.8:
                tensors[rng.choice([name, name, "x"])] = rng.choice(other)
        write_tensors(path, tensors, facts)
        return path.read_bytes()
