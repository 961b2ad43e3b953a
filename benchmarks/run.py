"""Side-by-side benchmarks: each prints how many times faster ours is than the plain way, in one run.

Machines are noisy, so the two take turns and medians are compared; results are checked to agree first.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ensemble.metrics import METRICS
from ensemble.thresholds import best_threshold, score_histogram
from features.context import local_statistics

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


def plain_context(plane: NDArray[np.float32], radius: int) -> dict[str, NDArray[np.float64]]:
    """Local statistics by scipy in float64, nodata left out of account by normalised filtering."""
    size, finite = 2 * radius + 1, np.isfinite(plane)
    filled = np.where(finite, plane, 0).astype(np.float64)
    share = ndimage.uniform_filter(finite.astype(np.float64), size, mode="constant")
    mean = ndimage.uniform_filter(filled, size, mode="constant") / share
    square = ndimage.uniform_filter(filled**2, size, mode="constant") / share
    return {
        "mean": mean,
        "std": np.sqrt(np.maximum(square - mean**2, 0)),
        "min": ndimage.minimum_filter(np.where(finite, plane, np.inf), size, mode="constant", cval=np.inf),
        "max": ndimage.maximum_filter(np.where(finite, plane, -np.inf), size, mode="constant", cval=-np.inf),
    }


def benchmark_context() -> None:
    """16 context features of a plane of 1024 × 1024 pixels."""
    rng = np.random.default_rng(0)
    plane = rng.random((1024, 1024), np.float32)
    plane[rng.random(plane.shape) < 0.05] = np.nan
    names, radii = ("mean", "std", "min", "max"), (1, 3, 7, 15)
    for radius in radii:
        ours, plain = local_statistics(plane, radius, names), plain_context(plane, radius)
        for name in names:
            np.testing.assert_allclose(ours[name], plain[name], rtol=1e-4, atol=1e-5)
    compare(
        "16 context features of 1 Mpx, against scipy.ndimage in float64",
        lambda: [local_statistics(plane, radius, names) for radius in radii],
        lambda: [plain_context(plane, radius) for radius in radii],
    )


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
    benchmark_context()
    benchmark_threshold()
