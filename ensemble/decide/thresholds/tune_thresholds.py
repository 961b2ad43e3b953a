"""Tune the thresholds of decisions on histograms of every pixel where these suffice, else on sampled pixels."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import NODATA
from data.progress import Track, untracked
from data.scenes.classes import IGNORE
from data.scenes.scene import Scene
from ensemble.decide.decision.calibration import Calibration
from ensemble.decide.decision.decision import Decision
from ensemble.decide.decision.stacked import Stacked
from ensemble.decide.decision.thresholds import plain_thresholds, score_histogram
from ensemble.decide.sample.inner_folds import InnerFolds, Parts
from ensemble.decide.sample.pool import PixelPool
from ensemble.decide.thresholds.one_standard_error import CAUTION
from ensemble.decide.thresholds.promised_recall import promise_recall
from ensemble.decide.thresholds.threshold_curves import block_histograms
from ensemble.decide.thresholds.threshold_tuning import TunedThresholds, tune_binary, tune_pool
from ensemble.maps import MemberMaps

__all__ = ["tune_each"]

MULTIPLIED = 80_000
"""Most pixels that multipliers are found and tried on, many times over."""

FEW = 2**14
"""Pixels of a scene up to which the cells of a histogram are looked up that they fall in: most others are empty."""

Wanted = tuple[Parts, Decision]
"""Parts, and what was decided on them; its thresholds do not matter yet."""

Cells = tuple[NDArray[np.intp], NDArray[np.float64]]
"""Cells of a histogram (2, 65536), flat, that are not empty, and what is in each."""


def tune_each(
    wanted: Iterable[Wanted],
    inner: InnerFolds,
    maps: MemberMaps,
    scenes: Sequence[Scene],
    centred: bool = True,
    track: Track = untracked,
) -> dict[Wanted, TunedThresholds]:
    """Find the thresholds of decisions, each on the pixels of its parts alone.

    Binary, pooled scores: exact, from histograms of every pixel. All else: on sampled pixels, which of tags are all.
    Where the objective promises a recall, see `promise_recall`.

    Parameters
    ----------
    wanted : iterable of (parts, Decision)
    inner : InnerFolds
    maps : MemberMaps
    scenes : sequence of Scene
        The training scenes that have labels.
    centred : bool
        See `tune_pool`; if not, thresholds may be half as much worse than the best.
    track : Track
    """
    asked = list(dict.fromkeys(wanted))
    if inner.fixed_thresholds:
        plain = plain_thresholds(inner.classes)
        return dict.fromkeys(asked, TunedThresholds(plain, (0.0,) * len(plain), kept_default=False))
    if inner.objective.promise is not None:
        return {
            (parts, decision): _promise(inner, parts, decision)
            for parts, decision in track(asked, "thresholds", len(asked))
        }
    caution = CAUTION if centred else CAUTION / 2
    histograms: Mapping[Decision, Mapping[int, NDArray[np.float64]]] = {}
    if inner.classes.task == "binary" and not inner.objective.by_scene:
        histograms = _part_histograms({_bare(decision) for _, decision in asked}, inner, maps, scenes, track)
    tuned: dict[Wanted, TunedThresholds] = {}
    for parts, decision in track(asked, "thresholds", len(asked)):
        if histograms:
            counts = np.stack([_carry(histograms[_bare(decision)][part], decision)[None] for part in parts])
            blocks = _blocks(inner, parts, decision)
            tuned[parts, decision] = tune_binary(counts, inner.objective, blocks, caution, centred, decision.sharpness)
        else:
            chosen = np.flatnonzero(np.isin(inner.whole.fold, parts))
            if centred and inner.classes.exclusive:
                chosen = chosen[:: -(-len(chosen) // MULTIPLIED)]
            blended = decision.proba(inner.whole.stored[:, :, chosen])
            pool = _bare_pool(inner.whole, chosen)
            tuned[parts, decision] = tune_pool(
                pool, blended, inner.objective, inner.classes, inner.blocks, caution, centred, decision.sharpness
            )
    return tuned


def _promise(inner: InnerFolds, parts: Parts, decision: Decision) -> TunedThresholds:
    chosen = np.flatnonzero(np.isin(inner.whole.fold, parts))
    blended = decision.proba(inner.whole.stored[:, :, chosen])
    return promise_recall(_bare_pool(inner.whole, chosen), blended, inner.groups, inner.classes, inner.objective)


def _bare_pool(pool: PixelPool, chosen: NDArray[np.intp]) -> PixelPool:
    """Return some pixels of a pool, without what the members say of them, which is not copied."""
    return replace(pool, stored=pool.stored[:0]).take(chosen)


def _bare(decision: Decision) -> Decision:
    """Return a decision without calibrations where it is a single member: one count then serves all of them."""
    if isinstance(decision.blend, Stacked) or sum(weight > 0 for weight in decision.weights) > 1:
        return decision
    return replace(decision, calibrations=(Calibration(),) * len(decision.calibrations))


def _carry(histogram: NDArray[np.float64], decision: Decision) -> NDArray[np.float64]:
    """Return the histogram (2, 65536) of a decision from that of what `_bare` returns for it."""
    if _bare(decision) == decision:
        return histogram
    member = int(np.argmax(decision.weights))
    table = decision.calibrations[member].apply(np.arange(NODATA + 1, dtype=np.uint16)[None])[0]
    return np.stack([np.bincount(table, row, minlength=NODATA + 1) for row in histogram]).astype(np.float64)


def _blocks(inner: InnerFolds, parts: Parts, decision: Decision) -> NDArray[np.float64]:
    """Return histograms of sampled pixels by block of groups, which say how far a score can be trusted."""
    pool = inner.pool.take(inner.where(parts))
    _, block = np.unique(inner.blocks[pool.scene], return_inverse=True)
    return block_histograms(decision.proba(pool.stored), pool.label, pool.weight, block)


def _part_histograms(
    decisions: set[Decision], inner: InnerFolds, maps: MemberMaps, scenes: Sequence[Scene], track: Track
) -> Mapping[Decision, Mapping[int, NDArray[np.float64]]]:
    """Return the exact histograms (2, 65536) of each binary blend by part, all from one pass over the maps."""
    parts = sorted(set(inner.part_of.values()))
    histograms = {decision: {part: np.zeros((2, NODATA + 1)) for part in parts} for decision in decisions}
    counted = maps.each(partial(_scene_histograms, list(histograms)), scenes)
    for scene, found in zip(scenes, track(counted, "thresholds", len(scenes)), strict=True):
        for by_part, (cells, counts) in zip(histograms.values(), found, strict=True):
            by_part[inner.part_of[scene.id]].reshape(-1)[cells] += counts
    return histograms


def _scene_histograms(decisions: Sequence[Decision], maps: MemberMaps, scene: Scene) -> list[Cells]:
    """Return the histogram of a scene by each decision."""
    grid = maps.grid(scene)
    if grid.height * grid.width <= FEW:
        stored, [label] = maps.read(scene), maps.label(scene)
        known = label != IGNORE
        weight = maps.weight(scene)[known] if maps.weighted else None
        return [_count_cells(decision.proba(stored)[0][known], label[known], weight) for decision in decisions]
    histograms = np.zeros((len(decisions), 2, NODATA + 1))
    for window, stored in maps.windows(scene):
        [label] = maps.label(scene, window)
        weight = maps.weight(scene, window) if maps.weighted else None
        for decision, histogram in zip(decisions, histograms, strict=True):
            histogram += score_histogram(decision.proba(stored)[0], label, weight)
    filled = [(np.flatnonzero(histogram), histogram.ravel()) for histogram in histograms]
    return [(cells, counts[cells]) for cells, counts in filled]


def _count_cells(stored: NDArray[np.uint16], label: NDArray[np.uint8], weight: NDArray[np.float64] | None) -> Cells:
    """Return of `score_histogram` what is not empty."""
    cells, place = np.unique(label.astype(np.intp) * (NODATA + 1) + stored, return_inverse=True)
    return cells, np.bincount(place, weight, len(cells)).astype(np.float64)
