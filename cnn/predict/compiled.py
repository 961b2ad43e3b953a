"""Compile a model by OpenVINO, which computes on a CPU what torch does, and faster."""

import importlib
import logging
import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnn.network.network import first_line
from data.errors import MemberError
from data.progress import logging_errors_alone

__all__ = ["Compiled", "require_openvino"]

logger = logging.getLogger(__name__)

PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}
"""OpenVINO's names."""


def require_openvino() -> ModuleType:
    """Return the library.

    Raises
    ------
    MemberError
        If it is not installed.
    """
    # Without this package OpenVINO works and is silent; with it each import is reported to its makers.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise MemberError(
            "predict_engine openvino: expected OpenVINO, got no such library. "
            "Install it with `pip install terrablend[openvino]`, or leave predict_engine out."
        ) from error


class Compiled(nn.Module):
    """A model that is compiled for each shape of input when it first comes.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode, on the CPU: channels (N, C, H, W) to probabilities (N, K, H, W).
    precision : torch.dtype
        Of the arithmetic, float32 or bfloat16.
    threads : int
        Cores to use.
    at_once : int
        Threads that may ask at the same time.
    """

    def __init__(self, model: nn.Module, precision: torch.dtype, threads: int, at_once: int) -> None:
        super().__init__()
        self.model = model
        self._options = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": min(at_once, threads),
            "ENABLE_CPU_PINNING": False,
        }
        self._core = require_openvino().Core()
        self._lock = threading.Lock()
        self._by_shape: dict[torch.Size, Any] = {}

    def forward(self, channels: Tensor) -> Tensor:
        """Return the probabilities of channels of any shape that the model takes.

        Raises
        ------
        MemberError
            If the model has an operation that OpenVINO does not know.
        """
        with self._lock:
            if channels.shape not in self._by_shape:
                self._by_shape[channels.shape] = self._compile(channels)
        # A request is of one thread alone.
        request = self._by_shape[channels.shape].create_infer_request()
        proba: np.ndarray = request.infer([np.ascontiguousarray(channels.numpy())])[0]
        return torch.from_numpy(proba.copy())

    def _compile(self, channels: Tensor) -> Any:
        frontend = importlib.import_module("openvino.frontend")
        decoder = importlib.import_module("openvino.frontend.pytorch.fx_decoder").TorchFXPythonDecoder
        logger.info("compiled by OpenVINO for windows of %s", " × ".join(map(str, channels.shape[1:])))
        try:
            # OpenVINO writes about operations that this torch does not have.
            with logging_errors_alone(), torch.inference_mode(False), torch.no_grad():
                program = torch.export.export(self.model, (torch.zeros(channels.shape),), strict=False)
                reader = frontend.FrontEndManager().load_by_framework("pytorch")
                source = decoder.from_exported_program(program, dynamic_shapes=False)
                # OpenVINO does not hold what it reads from: it has to live until the graph is converted.
                graph = reader.convert(reader.load(source))
                return self._core.compile_model(graph, "CPU", self._options)
        except (AssertionError, RuntimeError, ValueError) as error:
            raise MemberError(
                f"expected a network that OpenVINO has all operations of, got: {first_line(error)}. "
                "Leave predict_engine out, or choose another architecture."
            ) from error
