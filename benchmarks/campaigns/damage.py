"""Damage bytes as disks, editors and copies do, and judge how reading them ends."""

import hashlib
import os
import random
import re
import signal
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data.errors import TerrablendError

__all__ = ["CLEAN", "Kind", "Read", "judge_copies"]

CLEAN = ("same", "clean", "noticed", "other")
"""Ends as they should be."""

SECONDS = 60
"""Of CPU that reading a file may take."""

LONGEST = 4000
"""Characters of a message."""

Read = Callable[[Path], object]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Parameters
    ----------
    name : str
    path : Path
        Of a sound file.
    read : callable
        Reads it and returns its content; equal contents have equal representations.
    sealed : bool
        Whether it has a checksum, so that other content is never read from it.
    verify : callable, optional
        Of files whose content can change unseen: raises once it has changed.
    part : bytes, optional
        What is damaged, where that is not the file as it lies.
    wrap : callable, optional
        Returns the bytes of the file that holds a damaged part.
    """

    name: str
    path: Path
    read: Read
    sealed: bool = True
    verify: Read | None = None
    part: bytes | None = None
    wrap: Callable[[bytes], bytes] = bytes


def damage(data: bytes, rng: random.Random) -> bytes:
    """Return bytes with the damage that disks, editors and copies do."""
    copy = bytearray(data)
    place, size = rng.randrange(len(data)), rng.choice([1, 4, 64, 512])
    what = rng.randrange(10)
    if what < 3:
        for _ in range(rng.choice([1, 1, 2, 8, 64])):
            copy[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif what == 3:
        del copy[rng.choice([place, len(data) - 1, len(data) // 2, 0]) :]
    elif what == 4:
        copy[place : place + size] = bytes(min(size, len(data) - place))
    elif what == 5:
        del copy[place : place + size]
    elif what == 6:
        copy[place:place] = rng.randbytes(size)
    elif what == 7:
        word = rng.choice([struct.pack("<I", 2**32 - 1), struct.pack("<Q", 1 << 40), struct.pack(">i", -1)])
        copy[place : place + len(word)] = word
    elif what == 8:
        numbers = list(re.finditer(rb"-?\d+(\.\d+)?|\w+", data))
        if numbers:
            match = rng.choice(numbers)
            copy[match.start() : match.end()] = rng.choice([b"", b"0", b"-1", b"1e308", b"nan", b"9" * 5000, b"null"])
    else:
        lines = data.splitlines(keepends=True)
        lines[rng.randrange(len(lines))] = rng.choice(lines) * rng.choice([0, 1, 2, 500])
        copy = bytearray(b"".join(lines))
    return bytes(copy)


def judge_copies(kind: Kind, count: int, seed: int) -> Iterator[tuple[int, str, str]]:
    """Yield number, end and message of damaged copies of a file, each read in a process that it may end.

    The first copy is empty, the second lacks its last byte. The file is left sound.
    """
    data = kind.path.read_bytes()
    part = data if kind.part is None else kind.part
    number = 0
    try:
        while number < count:
            reader, writer = os.pipe()
            process = os.fork()
            if process == 0:
                _judge_from(kind, part, number, count, seed, writer)
            os.close(writer)
            with os.fdopen(reader) as lines:
                for line in lines:
                    end, text = line.rstrip("\n").split("\t", 1)
                    yield number, end, text
                    number += 1
            status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            if status:
                yield number, "hang" if status == -signal.SIGPROF else "crash", f"status {status}"
                number += 1
            kind.path.write_bytes(data)
    finally:
        kind.path.write_bytes(data)


def _judge_from(kind: Kind, part: bytes, first: int, count: int, seed: int, pipe: int) -> None:
    """Judge copies from a number on, write a line for each to a pipe, and end the process."""
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        # Here, since threads that reading starts would not outlive a fork.
        sound = _digest(kind.read(kind.path))
        for number in range(first, count):
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            rng = random.Random(f"{seed} {kind.name} {number}")
            copy = (b"", part[:-1])[number] if number < 2 else damage(part, rng)
            kind.path.write_bytes(kind.wrap(copy))
            end, text = _judge(kind, sound)
            os.write(pipe, f"{end}\t{text!a}\n".encode())
        status = 0
    finally:
        os._exit(status)


def _judge(kind: Kind, sound: str) -> tuple[str, str]:
    """Read a damaged file; return how it ends, and what is said."""
    try:
        content = _digest(kind.read(kind.path))
        if content == sound:
            return "same", ""
        if kind.verify is None:
            return ("lost" if kind.sealed else "other"), ""
        kind.verify(kind.path)
    except TerrablendError as error:
        text = str(error)
        named = kind.path.name in text or str(kind.path.parent) in text
        if not named or len(text) > LONGEST:
            return "unnamed", text[:300]
        return "clean", text[:300]
    except Exception as error:  # whatever it is, it is what is counted
        return "unclean", f"{type(error).__name__}: {error}"[:300]
    return "lost", ""


def _digest(content: object) -> str:
    return hashlib.sha256(repr(content).encode("utf-8", "surrogatepass")).hexdigest()
