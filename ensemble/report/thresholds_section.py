"""The report's section on thresholds: what is counted for it, and of what."""

from collections.abc import Mapping
from typing import Any

from data.pages.page import label_marks
from data.progress import Track
from data.scenes.catalogue import Catalogue
from ensemble.decide.blend import Blend
from ensemble.decide.decision import Decision, calibrate
from ensemble.maps import MemberMaps
from ensemble.report.explorer import Blendable, explorer_data, explorer_rows
from ensemble.report.score_counts import CELLS, Stored, gather_scores, threshold_edges
from ensemble.report.scores_section import HECTARE
from ensemble.score.areas import pixel_area
from ensemble.score.evaluation import Evaluation

__all__ = ["threshold_section"]

USED, CALIBRATED = "what is used", "{}, calibrated"
"""Names of what is counted besides the members as they are."""


def threshold_section(
    decision: Decision, nested: Evaluation, maps: MemberMaps, catalogue: Catalogue, track: Track
) -> dict[str, Any]:
    """Return what the section on thresholds shows.

    Parameters
    ----------
    decision : Decision
        The one that is used.
    nested : Evaluation
    maps : MemberMaps
    catalogue : Catalogue
    track : Track
    """
    classes, names = catalogue.classes, maps.names
    calibrated = [name for name, one in zip(names, decision.calibrations, strict=True) if one.method != "none"]

    def sources(stored: Stored) -> Mapping[str, Stored]:
        found = {USED: decision.proba(stored), **dict(zip(names, stored, strict=True))}
        after = dict(zip(names, calibrate(decision.calibrations, stored), strict=True))
        return {**found, **{CALIBRATED.format(name): after[name] for name in calibrated}}

    def pair(stored: Stored) -> tuple[Stored, Stored]:
        first, second = calibrate(decision.calibrations, stored)
        return first, second

    exclusive = classes.task == "multiclass"
    decided = [] if exclusive else [one.thresholds for one in (decision, *_finals(nested))]
    edges = threshold_edges(threshold for some in decided for threshold in some)
    counts, joint = gather_scores(maps, catalogue, sources, pair if len(names) == 2 else None, edges, track)
    blendable = None
    if joint is not None:
        blendable = Blendable(names[0], names[1], joint, _second_weights(decision, len(classes.names)))
    # A transform may be rounded a little differently in each file.
    areas = {float(f"{pixel_area(scene.grid) or 0:.6g}") for scene in catalogue.split("train")}
    hectares = max(areas) / HECTARE if len(areas) == 1 and max(areas) > 0 else None
    members = {name: (counts[name], counts.get(CALIBRATED.format(name))) for name in names}
    rows = explorer_rows(counts[USED], members, None if exclusive else decision.thresholds, hectares)
    marks = label_marks(classes)[-len(classes.names) :]
    return {
        "explorer": [{**row, "mark": mark} for row, mark in zip(rows, marks, strict=True)],
        "explorer_data": explorer_data(counts[USED], hectares, blendable),
        "n_edges": len(edges),
        "blendable": blendable,
        "cells": CELLS,
        "hectares": hectares,
        "areas_differ": len(areas) > 1,
        "calibrated": bool(calibrated),
        "cleans": not decision.cleaning.idle,
    }


def _finals(nested: Evaluation) -> list[Decision]:
    return [found[nested.final] for found in nested.decisions.values()]


def _second_weights(decision: Decision, n_classes: int) -> tuple[float, ...]:
    """Return the weight of the second of two members for each class."""
    rows = decision.blend.weights if isinstance(decision.blend, Blend) else [decision.weights]
    return tuple(rows[place if len(rows) > 1 else 0][1] for place in range(n_classes))
