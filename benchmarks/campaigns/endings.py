"""How a process that was disturbed must end."""

import signal
from collections.abc import Container

from campaigns.lab import Process

__all__ = ["judge_end", "tell"]

SAID = ("error:", "interrupted:")
"""What the one message of exit status 2 begins with."""


def judge_end(process: Process, allowed: Container[int | None]) -> list[str]:
    """Wait for the end of a process and of its workers; return what is unclean in it."""
    problems = []
    if not process.wait():
        process.kill()
        process.wait()
        problems.append("it hangs")
    if left := process.survivors():
        problems.append(f"{len(left)} of its workers live on")
    said, status = process.said, process.status
    # Before it has begun, a process ends as the system ends any.
    if status not in allowed and not (status == -signal.SIGTERM and not said):
        problems.append(f"exit status {status}: {said[-300:]}")
    if "Traceback" in said:
        problems.append(f"traceback: {said[-300:]}")
    messages = sum(said.count(one) for one in SAID)
    if status == 2 and messages != 1:
        problems.append(f"{messages} messages: {said[-600:]}")
    return problems


def tell(problems: list[str]) -> list[str]:
    """Print problems, and return them."""
    for problem in problems:
        print(f"  {problem}", flush=True)
    return problems
