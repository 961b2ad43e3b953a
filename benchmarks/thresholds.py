"""The search for a threshold, measured against a loop over some, in one run.

Machines are noisy, so the two take turns and medians are compared; results are checked to agree first.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np

from data.metrics import METRICS
from ensemble.thresholds import best_threshold, score_histogram

TURNS = 5


def compare(what: str, ours: Callable[[], object], plain: Callable[[], object]) -> None:
    """Time two functions in turn and print the ratio of their medians."""
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(TURNS):
        for name, function in (("ours", ours), ("plain", plain)):
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    own, other = (statistics.median(times[name]) for name in ("ours", "plain"))
    print(f"{what:<66} {own:8.3f} s against {other:8.3f} s: {other / own:5.1f} ×")


def benchmark_threshold() -> None:
    """The threshold with the best Dice over 20 million pixels."""
    rng = np.random.default_rng(0)
    label = (rng.random(20_000_000) < 0.01).astype(np.uint8)
    stored = (rng.beta(1 + 3 * label, 4 - 2 * label) * 65534).astype(np.uint16)

    def ours() -> float:
        return best_threshold(score_histogram(stored, label), METRICS["dice"])[1]

    def plain() -> float:
        best = 0.0
        for threshold in np.linspace(0, 1, 41):
            positive = stored >= threshold * 65534
            hits = np.count_nonzero(positive & (label == 1))
            best = max(best, 2 * hits / (np.count_nonzero(positive) + np.count_nonzero(label)))
        return best

    assert ours() >= plain()
    compare("best of all 65535 thresholds on 20 Mpx, against a loop over 41", ours, plain)


if __name__ == "__main__":
    benchmark_threshold()
