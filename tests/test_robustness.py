"""Small campaigns of `benchmarks/robustness.py`; docs/reliability.md says what the long ones found."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROBUSTNESS = Path(__file__).parents[1] / "benchmarks" / "robustness.py"


KILL = r"kill: 3 kills, seed 0: .* files compared; 0 unclean"
FUZZ = r"fuzz: 35 inputs of \d+ kinds, seed 0: .*'clean': \d+.*; 0 unclean"
BUNDLES = r"bundles: 30 changed bundles of \d+ kinds, seed 0: .*'clean': \d+.*; 0 unclean"
FAULTS = r"faults: 4 faults, seed 0: .*; 0 unclean"


@pytest.mark.parametrize(
    "campaigns",
    [
        # One after another on one coast, which takes as long as they do.
        {"kill": (3, KILL), "fuzz": (35, FUZZ), "bundles": (30, BUNDLES)},
        pytest.param({"faults": (4, FAULTS)}, marks=pytest.mark.slow),
    ],
    ids="-".join,
)
def test_whatever_happens_ends_in_a_named_error_and_the_same_bytes(campaigns):
    # In a process of its own, since it forks: threads of this one would not outlive that.
    counts = [str(count) for count, _ in campaigns.values()]
    command = [sys.executable, ROBUSTNESS, *campaigns, "--count", *counts, "--seed", "0", "--no-network"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = [line for line in ended.stdout.splitlines() if line.split(":")[0] in campaigns]
    assert len(told) == len(campaigns)
    for line, (_, counted) in zip(told, campaigns.values(), strict=True):
        assert re.fullmatch(counted, line)
