"""Apply models to windows on a device, with its fastest arithmetic and as many windows at once as it can hold."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cnn.machine import limit_threads
from cnn.predict.compiled import Compiled
from data.errors import MemberError

__all__ = ["Runner"]

logger = logging.getLogger(__name__)

Pixels = NDArray[np.float32]

MOST_ON_CPU = 8
"""Windows that a CPU works on at once, however many cores it has: each takes memory. Further cores share their work."""

FIRST_ON_GPU = 64
"""Windows that a GPU is given at first."""


class Runner:
    """Applies a model to windows.

    Many small windows keep a CPU busier than one large pass: each runs on a thread of its own, where no core waits
    for another. A GPU takes them as one batch.

    Parameters
    ----------
    device : torch.device
    precision : torch.dtype
    threads : int
        Cores to use.
    at_once : int, optional
        Windows worked on at once. By default one a core, 8 at most; and on a GPU as many as fit its memory, found by
        halving.
    """

    def __init__(
        self, device: torch.device, precision: torch.dtype, threads: int = 1, at_once: int | None = None
    ) -> None:
        self.device, self.precision, self.threads = device, precision, threads
        self.at_once = at_once or (min(threads, MOST_ON_CPU) if device.type == "cpu" else FIRST_ON_GPU)

    def __str__(self) -> str:
        name = str(self.precision).removeprefix("torch.")
        return f"{name} on {self.device}, {self.at_once} windows at once"

    def compile(self, model: nn.Module) -> Compiled:
        """Return a model that OpenVINO computes on the CPU, with the arithmetic and cores of this runner."""
        return Compiled(model, self.precision, self.threads, self.at_once)

    def apply(self, model: nn.Module, windows: Sequence[Pixels]) -> Iterator[Pixels]:
        """Yield what a model, on the device and in evaluation mode, makes of each window (C, H, W), in their order.

        Raises
        ------
        MemberError
            If a single window does not fit the GPU's memory.
        """
        return self._in_threads(model, windows) if self.device.type == "cpu" else self._in_batches(model, windows)

    def _in_threads(self, model: nn.Module, windows: Sequence[Pixels]) -> Iterator[Pixels]:
        lanes = max(1, min(self.at_once, len(windows)))
        threads = max(1, self.threads // lanes)
        pool = ThreadPoolExecutor(lanes, initializer=torch.set_num_threads, initargs=(threads,))
        with limit_threads(threads), pool:
            for proba in pool.map(lambda window: self._forward(model, [window]), windows):
                yield proba[0]

    def _in_batches(self, model: nn.Module, windows: Sequence[Pixels]) -> Iterator[Pixels]:
        done = 0
        while done < len(windows):
            proba: Pixels | None = None
            some = windows[done : done + self.at_once]
            try:
                proba = self._forward(model, some)
            except torch.OutOfMemoryError as error:
                if len(some) == 1:
                    raise MemberError(
                        f"expected a window of {' × '.join(map(str, some[0].shape[1:]))} pixels to fit the memory of "
                        f"the GPU, got: {str(error).splitlines()[0]} Write a smaller tile, or device: cpu."
                    ) from error
            # After the error is gone, and with it all that its traceback holds.
            if proba is None:
                self.at_once = len(some) // 2
                torch.cuda.empty_cache()
                logger.info("%d windows at once do not fit the GPU's memory: now %d", len(some), self.at_once)
                continue
            yield from proba
            done += len(some)

    def _forward(self, model: nn.Module, windows: Sequence[Pixels]) -> Pixels:
        batch = torch.from_numpy(np.stack(windows)).to(self.device)
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32),
        ):
            proba: Pixels = model(batch).float().cpu().numpy()
        return proba
