"""Small campaigns of `benchmarks/robustness.py`; docs/reliability.md says what the long ones found."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROBUSTNESS = Path(__file__).parents[1] / "benchmarks" / "robustness.py"


@pytest.mark.parametrize(
    ("campaign", "count", "counted"),
    [
        ("kill", 3, r"kill: 3 kills, seed 0: .* files compared; 0 unclean"),
        pytest.param("faults", 4, r"faults: 4 faults, seed 0: .*; 0 unclean", marks=pytest.mark.slow),
        ("bundles", 30, r"bundles: 30 changed bundles of \d+ kinds, seed 0: .*'clean': \d+.*; 0 unclean"),
        ("fuzz", 35, r"fuzz: 35 inputs of \d+ kinds, seed 0: .*'clean': \d+.*; 0 unclean"),
    ],
)
def test_whatever_happens_ends_in_a_named_error_and_the_same_bytes(campaign, count, counted):
    # In a process of its own, since it forks: threads of this one would not outlive that.
    command = [sys.executable, ROBUSTNESS, campaign, "--count", str(count), "--seed", "0", "--no-network"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.fullmatch(counted, ended.stdout.splitlines()[-1])
