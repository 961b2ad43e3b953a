"""The report's section on thresholds: cards on which any threshold can be tried."""

from collections.abc import Mapping, Sequence
from functools import partial

from data.pages.page import label_marks
from data.scenes.ground import pixel_area
from ensemble.decide.decision.blend import Blend
from ensemble.decide.decision.decision import Decision, calibrate
from ensemble.report.areas_section import HECTARE
from ensemble.report.explorer import Blendable, explorer_data, explorer_rows
from ensemble.report.score_counts import CELLS, Stored, gather_scores, threshold_edges
from ensemble.report.section import ReportSource, Row
from ensemble.score.evaluation import Evaluation

__all__ = ["threshold_values"]

USED, CALIBRATED = "what is used", "{}, calibrated"
"""Names of what is counted besides the members as they are."""


def threshold_values(source: ReportSource) -> Row | None:
    """Return a card for each class, what the page's script counts with, and the notes; None where rows have weights."""
    if source.maps.weighted:
        return None
    decision, nested, maps, classes = source.fitted.ensemble.decision, source.nested, source.maps, source.classes
    sets = source.fitted.ensemble.sets_
    names = maps.names
    calibrated = [name for name, curve in zip(names, decision.calibrations, strict=True) if curve.method != "none"]
    sources, pair = partial(_sources, decision, names, calibrated), partial(_pair, decision)
    exclusive = classes.exclusive
    decisions = [] if exclusive else [decision, *_finals(nested)]
    edges = threshold_edges(threshold for decided in decisions for threshold in decided.thresholds)
    counts, joint = gather_scores(
        maps, source.catalogue, sources, pair if len(names) == 2 else None, edges, source.track
    )
    blendable = None
    if joint is not None:
        blendable = Blendable(names[0], names[1], joint, _second_weights(decision, len(classes.names)))
    # A transform may be rounded a little differently in each file.
    areas = {float(f"{pixel_area(scene.grid) or 0:.6g}") for scene in source.catalogue.split("train")}
    hectares = max(areas) / HECTARE if len(areas) == 1 and max(areas) > 0 else None
    members = {name: (counts[name], counts.get(CALIBRATED.format(name))) for name in names}
    rows = explorer_rows(counts[USED], members, None if exclusive else decision.thresholds, hectares)
    marks = label_marks(classes)[-len(classes.names) :]
    return {
        "cards": [{**row, "mark": mark} for row, mark in zip(rows, marks, strict=True)],
        "data": explorer_data(counts[USED], hectares, blendable),
        "final": nested.final,
        "n_edges": len(edges),
        "blendable": blendable,
        "cells": CELLS,
        "hectares": hectares,
        "areas_differ": len(areas) > 1,
        "calibrated": bool(calibrated),
        "cleans": not decision.cleaning.idle,
        "sets": sets and sets.words(classes.label_names),
    }


def _sources(
    decision: Decision, names: Sequence[str], calibrated: Sequence[str], stored: Stored
) -> Mapping[str, Stored]:
    after = dict(zip(names, calibrate(decision.calibrations, stored), strict=True))
    return {
        USED: decision.proba(stored),
        **dict(zip(names, stored, strict=True)),
        **{CALIBRATED.format(name): after[name] for name in calibrated},
    }


def _pair(decision: Decision, stored: Stored) -> tuple[Stored, Stored]:
    first, second = calibrate(decision.calibrations, stored)
    return first, second


def _finals(nested: Evaluation) -> list[Decision]:
    return [decisions[nested.final] for decisions in nested.decisions.values()]


def _second_weights(decision: Decision, n_classes: int) -> tuple[float, ...]:
    """Return the weight of the second of two members for each class."""
    rows = decision.blend.weights if isinstance(decision.blend, Blend) else [decision.weights]
    return tuple(rows[place if len(rows) > 1 else 0][1] for place in range(n_classes))
