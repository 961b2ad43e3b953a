"""Choose CPU or GPU: this branch does without torch."""

import logging
from collections.abc import Callable
from functools import cache

from data.errors import MemberError
from data.gpus import count_gpus
from trees.settings import Device, DeviceName

__all__ = ["choose_device", "predicts_on"]

logger = logging.getLogger(__name__)


def predicts_on(wanted: DeviceName) -> Device:
    """Return where boosters of libraries that can predict on a GPU do."""
    return "cuda" if wanted != "cpu" and count_gpus() else "cpu"


def choose_device(wanted: DeviceName, library: str, usable: Callable[[], bool]) -> Device:
    """Choose the device on which a booster is fitted, and log it.

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
    present = predicts_on(wanted) == "cuda"
    able = present and usable()
    if wanted == "cuda" and not able:
        why = f"{library} was built without CUDA" if present else "there is no CUDA device"
        raise MemberError(
            f"device cuda: expected a GPU that {library} can use, got none: {why}. Use device: auto or cpu."
        )
    if present and not able:
        _log_once(f"{library} was built without CUDA: it runs on the CPU")
    chosen: Device = "cuda" if able else "cpu"
    logger.debug("%s runs on %s", library, chosen)
    return chosen


@cache
def _log_once(text: str) -> None:
    logger.info(text)
