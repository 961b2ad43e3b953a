"""Kill every command at random moments, start it again until it is done, and compare every file with undisturbed ones.

A kill comes just before a random operation on files (exact, whatever the machine is busy with), or after a random time:
SIGKILL, or SIGTERM and SIGINT, which must end in one message and exit status 2. After each kill every file that is
there must have its final bytes already.
"""

import os
import random
import shutil
import signal
from collections import Counter
from pathlib import Path

from campaigns.endings import judge_end, tell
from campaigns.lab import Lab, watch_operations

__all__ = ["kill"]

TRIES = 4
"""Most kills of a command before it is left to end."""

SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
HOWS = ("operation", "operation", "operation", *SIGNALS)


def kill(lab: Lab, count: int, seed: int) -> bool:
    """Kill commands so often; print how each round ends, and return whether all ends were clean."""
    rng = random.Random(seed)
    kills: Counter[str] = Counter()
    unclean: list[str] = []
    rounds = 0
    while kills.total() < count:
        home = lab.folder / f"home{rounds}"
        for name in lab.commands:
            tries = 0
            while (left := min(TRIES - tries, count - kills.total())) >= 0:
                how = rng.choice(HOWS) if left else "nothing"
                ended, problems = _strike(lab, name, home, how, rng)
                unclean += tell(problems)
                if ended:
                    break
                kills[name] += 1
                tries += 1
        different = lab.differences(home, lab.commands[-1])
        unclean += tell([f"round {rounds}: {file} differs, is missing or is left over" for file in different])
        print(f"round {rounds}: {kills.total()} kills so far, {len(different)} files differ", flush=True)
        shutil.rmtree(home)
        rounds += 1
    total = rounds * len(lab.after[lab.commands[-1]])
    print(f"kill: {kills.total()} kills, seed {seed}: {dict(kills)}; {total} files compared; {len(unclean)} unclean")
    return not unclean


def _strike(lab: Lab, name: str, home: Path, how: str, rng: random.Random) -> tuple[bool, list[str]]:
    """Kill a command, or nothing; return whether it came to its own end, and what is unclean."""
    last, after = rng.randint(1, lab.operations[name]), rng.uniform(0, lab.seconds[name])

    def end(done: int) -> None:
        if done == last:
            os.killpg(0, signal.SIGKILL)

    process = lab.start(name, home, watch_operations(home, end) if how == "operation" else None)
    if how in SIGNALS and not process.wait(after):
        process.kill(SIGNALS[how], group=how == "SIGKILL")
    allowed = {"nothing": (0,), "operation": (0, -signal.SIGKILL), "SIGKILL": (0, -signal.SIGKILL)}.get(how, (0, 2))
    problems = judge_end(process, allowed)
    if process.status:
        problems += [f"{torn} is torn" for torn in lab.find_torn(home)]
    when = {"nothing": "", "operation": f" at operation {last}"}.get(how, f" after {after:.2f} s")
    return process.status == 0 or how == "nothing", [f"{name}, {how}{when}: {problem}" for problem in problems]
