"""Whether there is a GPU, asked of its driver: this branch does without torch."""

import ctypes
import logging
from collections.abc import Callable
from functools import cache

from data.errors import MemberError
from trees.settings import Device, DeviceName

__all__ = ["choose_device", "count_gpus"]

logger = logging.getLogger(__name__)


def count_gpus() -> int:
    """Return the number of CUDA devices that the driver sees, 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def choose_device(wanted: DeviceName, library: str, usable: Callable[[], bool]) -> Device:
    """Decide where a booster is fitted, and say so.

    Parameters
    ----------
    wanted : {"auto", "cpu", "cuda"}
    library : str
        Name, for messages.
    usable : callable
        Tells whether the installed library can use a GPU; only asked when there is one.

    Raises
    ------
    MemberError
        If a GPU is wanted and cannot be had.
    """
    there = wanted != "cpu" and count_gpus() > 0
    able = there and usable()
    if wanted == "cuda" and not able:
        why = f"{library} was built without CUDA" if there else "there is no CUDA device"
        raise MemberError(
            f"device cuda: expected a GPU that {library} can use, got none: {why}. Use device: auto or cpu."
        )
    if there and not able:
        _say_once(f"{library} was built without CUDA: it runs on the CPU")
    chosen: Device = "cuda" if able else "cpu"
    logger.debug("%s runs on %s", library, chosen)
    return chosen


@cache
def _say_once(text: str) -> None:
    logger.info(text)
