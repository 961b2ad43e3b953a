"""Thresholds and weights, measured against searches through all of them, in one run; and how much memory it takes.

Machines are noisy, so ours and the other take turns and medians are compared; results are checked to agree first. A
search that is much slower runs on a part of the pixels, one turn, and its time is scaled up: by which factor is said.
"""

import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import TOP
from data.scenes.classes import IGNORE, Classes
from ensemble.decide.decision.blend import Blend
from ensemble.decide.decision.thresholds import best_threshold, score_histogram
from ensemble.decide.thresholds.threshold_tuning import tune_binary
from ensemble.decide.weights.joint import joint_histogram, score_weights
from ensemble.objective import Objective, objective_of
from ensemble.settings import EnsembleSettings

PIXELS = 187_000_000
"""Of 1 526 tiles of 350 × 350."""
WINDOW = 350 * 350 * 8
TURNS = 3
CLASSES = Classes("binary", (1,), ("kelp",), ((230, 159, 0),))
WEIGHTS = [number / 20 for number in range(21)]
THRESHOLDS = np.linspace(0, 1, 41)

Stored = NDArray[np.uint16]
Label = NDArray[np.uint8]


def make_maps(n_pixels: int, n_members: int) -> tuple[Stored, Label]:
    """Return made-up maps (n_members, n_pixels) that err together and apart, and the label, 0.7 % of it positive."""
    rng = np.random.default_rng(0)
    n = min(n_pixels, PIXELS // 10)
    label = (rng.random(n) < 0.007).astype(np.uint8)
    label[rng.random(n) < 0.01] = IGNORE
    common = 4.0 * (label == 1) - 4.5 + rng.normal(0, 1.2, n)
    stored = np.empty((n_members, n_pixels), np.uint16)
    for member in stored:
        logits = common + rng.normal(0, 1.0, n)
        member[:] = np.resize(np.rint(TOP / (1 + np.exp(-logits))), n_pixels)
    return stored, np.resize(label, n_pixels)


def seconds(function: Callable[[], object]) -> float:
    """Time one call."""
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def compare(what: str, ours: Callable[[], object], plain: Callable[[], object], scale: float = 1) -> None:
    """Time two functions in turn and print the ratio of their medians; the plain one did 1/scale of the work."""
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    for turn in range(TURNS):
        times["ours"].append(seconds(ours))
        if scale == 1 or turn == 0:
            times["plain"].append(seconds(plain) * scale)
    own, other = (statistics.median(times[name]) for name in ("ours", "plain"))
    scaled = f" (measured on 1/{scale:g})" if scale > 1 else ""
    print(f"{what:<60} {own:8.3f} s against {other:9.2f} s{scaled}: {other / own:6.1f} ×", flush=True)


def loop_thresholds(proba: NDArray[np.float32], label: Label) -> float:
    """Return the best Dice of 41 thresholds, each found from the pixels."""
    best = 0.0
    for threshold in THRESHOLDS:
        positive = proba >= threshold
        hits = np.count_nonzero(positive & (label == 1))
        both = np.count_nonzero(positive & (label != IGNORE)) + np.count_nonzero(label == 1)
        best = max(best, 2 * int(hits) / max(int(both), 1))
    return best


def benchmark_threshold(objective: Objective) -> None:
    """The threshold with the best Dice: all 65 536 against 41 in a loop."""
    (stored,), label = make_maps(PIXELS, 1)
    part = slice(0, PIXELS // 10)

    def ours() -> float:
        return best_threshold(score_histogram(stored, label), objective)[1]

    proba = stored[part].astype(np.float32) / np.float32(TOP)
    assert best_threshold(score_histogram(stored[part], label[part]), objective)[1] >= loop_thresholds(
        proba, label[part]
    )
    compare(
        "best of 65 536 thresholds on 187 Mpx, against 41 in a loop",
        ours,
        lambda: loop_thresholds(proba, label[part]),
        10,
    )


def benchmark_weights(objective: Objective) -> None:
    """Weight and threshold of two members: the joint histogram against every blend recomputed."""
    stored, label = make_maps(PIXELS, 2)
    part = slice(0, PIXELS // 10)

    def ours() -> NDArray[np.float64]:
        return score_weights(joint_histogram(stored[0], stored[1], label)[None], WEIGHTS, objective)

    def blend(weight: float, pixels: slice) -> Stored:
        blended: Stored = Blend(((weight, 1 - weight),)).apply(stored[:, None, pixels])[0]
        return blended

    def exhaustive() -> NDArray[np.float64]:
        return np.array(
            [best_threshold(score_histogram(blend(one, part), label[part]), objective)[1] for one in WEIGHTS]
        )

    exact = exhaustive()
    found = score_weights(joint_histogram(stored[0, part], stored[1, part], label[part])[None], WEIGHTS, objective)
    each, best = np.abs(found - exact).max(), abs(found.max() - exact.max())
    lost = exact.max() - exact[int(np.argmax(found))]
    print(
        f"joint histogram: best Dice {best:.1e} from the exact one, that of any weight at most {each:.1e}; the chosen "
        f"weight loses {lost:.1e}"
    )
    assert best <= 1e-4
    assert lost <= 1e-4
    compare("21 weights × thresholds on 187 Mpx, against every blend", ours, exhaustive, 10)


def benchmark_memory(objective: Objective, n_members: int = 20, n_pixels: int = 200_000_000) -> None:
    """Thresholds of many members and their mean: window by window, as in a run; nothing but histograms is kept.

    The pixels are those of one made-up window over and over, which changes neither the time nor the memory.
    """
    histograms = np.zeros((n_members + 1, 5, 1, 2, 65536))
    blend = Blend(((1 / n_members,) * n_members,))
    stored, label = make_maps(WINDOW, n_members)
    begun = time.perf_counter()
    for number in range(n_pixels // WINDOW):
        for member, one in enumerate([*stored, blend.apply(stored[:, None])[0]]):
            histograms[member, number % 5, 0] += score_histogram(one, label)
    for each in histograms:
        tune_binary(each, objective)
    taken = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"{n_members} members and their mean × {n_pixels / 1e6:.0f} Mpx tuned in {taken:.1f} s, peak {peak:.2f} GB")
    assert peak < 4


if __name__ == "__main__":
    dice = objective_of(EnsembleSettings(metric="dice"), CLASSES)
    benchmark_memory(dice)
    benchmark_threshold(dice)
    benchmark_weights(dice)
