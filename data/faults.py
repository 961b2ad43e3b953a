"""Faults of the machine, in words that say what to free or where to write."""

import errno

__all__ = ["describe_fault"]

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
TAKEN = {errno.EEXIST, errno.ENOTDIR}


def describe_fault(error: OSError) -> str:
    """Return what the system refused, and what to do about it.

    >>> describe_fault(OSError(errno.ENOSPC, "No space left on device", "runs/kelp/pixels"))
    'runs/kelp/pixels: No space left on device. Free space there and give the same command again, or write elsewhere: \
--run or -o; temporary files go to TMPDIR.'
    """
    where = f"{error.filename}: " if error.filename else ""
    what = error.strerror or str(error) or type(error).__name__
    if error.errno in FULL:
        advice = (
            "Free space there and give the same command again, or write elsewhere: --run or -o; "
            "temporary files go to TMPDIR."
        )
    elif error.errno in FORBIDDEN:
        advice = "Allow it, or choose another place: --run or -o."
    elif error.errno in TAKEN:
        advice = "A file stands where a folder is to be: choose another place, --run or -o."
    elif error.errno in (errno.ENAMETOOLONG, errno.EINVAL):
        advice = "The system has no such name: choose another, --run or -o."
    else:
        advice = "What was finished is kept: give the same command again, with -v to see where this comes from."
    return f"{where}{what}. {advice}"
