"""Libraries of extras, which need not be installed."""

import importlib
from types import ModuleType

from data.errors import MemberError

__all__ = ["onnx_library"]


def onnx_library(name: str) -> ModuleType:
    """Import a library of the extra `onnx`; raises MemberError if it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MemberError(
            f"expected {name}, which writes or checks ONNX files, got no such library. "
            "Install it with `pip install terrablend[onnx]`."
        ) from error
