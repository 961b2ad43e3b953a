"""One run at a time in a run folder."""

import errno
import fcntl
import json
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data.errors import RunError

__all__ = ["lock_folder"]

logger = logging.getLogger(__name__)

LOCK = ".lock"
BUSY = {errno.EACCES, errno.EAGAIN}


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep other processes, of this machine and of others that mount the folder, from working in it.

    The system holds the lock and gives it back when this process ends, however that is. On NFS it is the server's,
    from version 4 on or with lockd; where there is none, a warning says so.

    Raises
    ------
    RunError
        If another process works in the folder, naming it and its host.
    """
    with (folder / LOCK).open("a+", encoding="utf-8") as stream:
        try:
            # Unlike `flock`, this is not handed on to processes that are forked here, which may outlive this one.
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in BUSY:
                stream.seek(0)
                raise RunError(
                    f"{folder}: expected a run folder in which nothing else works, got one in use by "
                    f"{_describe(stream.read())}. Wait for its end, or choose another folder: --run."
                ) from error
            logger.warning(
                "%s: this file system has no locks (%s). Start no second run in this folder.", folder, error.strerror
            )
        else:
            stream.truncate(0)
            stream.write(json.dumps({"process": os.getpid(), "host": platform.node()}))
            stream.flush()
        yield


def _describe(text: str) -> str:
    try:
        owner = json.loads(text)
        return f"process {owner['process']} on {owner['host']}"
    except (ValueError, LookupError, TypeError):
        return "another process"
