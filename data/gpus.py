"""Count GPUs by asking the driver: what needs no torch does without it."""

import ctypes

__all__ = ["count_gpus"]


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
