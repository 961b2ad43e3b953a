"""Choose the device, the precision and the threads that a network runs with."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from cnn.settings import PrecisionName
from data.errors import MemberError
from data.workers import cores

__all__ = ["Machine", "choose_device", "choose_precision", "describe_machine", "fast_on_cpu", "limit_threads"]

logger = logging.getLogger(__name__)

MOST_WORKERS = 8
"""Processes that read crops for a GPU at most: more only wait."""


@dataclass(frozen=True)
class Machine:
    """The device that trains a network, and its helpers.

    Parameters
    ----------
    device : torch.device
    workers : int
        Processes that read crops, on all devices together; 0 reads them where the network is.
    """

    device: torch.device
    workers: int = 0

    @classmethod
    def of(cls, device: torch.device, threads: int) -> "Machine":
        """Return a device with as many workers as threads and cores allow."""
        return cls(device, min(threads - 1, cores(), MOST_WORKERS) if device.type == "cuda" else 0)


def choose_device(name: str) -> torch.device:
    """Return the device that ``auto``, ``cpu`` or ``cuda`` means on this machine.

    Raises
    ------
    MemberError
        If a GPU is asked for that torch cannot use.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise MemberError("device cuda: expected a GPU that torch can use, got none. Write `device: auto` or `cpu`.")
    return torch.device(name)


def choose_precision(name: PrecisionName, device: torch.device, on_cpu: torch.dtype = torch.float32) -> torch.dtype:
    """Return the type that the network's products are computed in; weights are float32 in any case.

    Parameters
    ----------
    name : {"auto", "float32", "bfloat16", "float16"}
        float16 is for GPUs, bfloat16 for processors that have instructions for it: else a CPU computes in float32.
    device : torch.device
    on_cpu : torch.dtype
        What auto means on a CPU. On a GPU it is 16 bits wide, bfloat16 where there are instructions for it.
    """
    if name == "float16" and device.type == "cpu":
        return torch.float32
    if name == "bfloat16" and device.type == "cpu" and fast_on_cpu() != torch.bfloat16:
        logger.warning("precision bfloat16: this CPU has no instructions for it, so float32 is used: it is faster here")
        return torch.float32
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
    if device.type == "cpu":
        return on_cpu
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def fast_on_cpu() -> torch.dtype:
    """Return bfloat16 if this CPU has instructions for it, AVX-512 BF16 or AMX; else it is emulated, and slow."""
    # Releases of torch that cannot tell what a CPU has are given float32.
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if known.get("avx512_bf16") or known.get("amx_bf16") else torch.float32


def describe_machine() -> Iterator[tuple[str, str, str]]:
    """Yield what this machine offers networks: subject, fact, and what is odd about it, if anything."""
    built = torch.version.cuda
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        yield "GPU", f"{', '.join(names)}; CUDA {built}", ""
    else:
        odd = (
            "torch is the CUDA build, of several GB, and there is no GPU: the CPU build serves as well "
            "(uv pip install --torch-backend cpu --reinstall torch)"
        )
        yield "GPU", "none", odd if built else ""
    fast = fast_on_cpu() == torch.bfloat16
    yield "bfloat16 on the CPU", "yes" if fast else "no instructions for it: float32 is used", ""


@contextmanager
def limit_threads(threads: int) -> Iterator[None]:
    """Let torch use ``threads`` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
