"""Class areas of a run: of the labelled scenes by their own labels, of the test scenes by the out-of-fold ones."""

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from data.csv_cells import quote_formula
from data.files import replacing
from data.progress import Track, untracked
from data.scenes.catalogue import Catalogue
from data.scenes.scene import Split
from ensemble.decide.decision.cleaning import Masks, no_masks
from ensemble.decide.decision.decision import Decision
from ensemble.maps import MemberMaps
from ensemble.score.area_estimates import areas_of_evaluation
from ensemble.score.areas import Areas
from ensemble.score.evaluation import Evaluation, mapped_pixels
from ensemble.settings import EnsembleSettings

__all__ = ["areas_of_run", "write_areas"]

logger = logging.getLogger(__name__)

SPLITS: tuple[Split, ...] = ("train", "val", "test")


def areas_of_run(
    evaluations: Sequence[Evaluation],
    maps: MemberMaps,
    catalogue: Catalogue,
    decision: Decision,
    settings: EnsembleSettings,
    *,
    masks: Masks = no_masks,
    track: Track = untracked,
) -> dict[Split, Areas]:
    """Estimate how much of each class there is in the scenes of each split.

    Training scenes are mapped out of fold, val scenes by the ensemble; where they are labelled the area is known, and
    their labels are taken for a sample of the rest. Test scenes have no labels: it is taken for granted that their map
    errs, class by class, as often as the out-of-fold maps do. Where test scenes are of other landscapes, draw a design
    sample there instead: ``terrablend evaluate --sample``.

    Parameters
    ----------
    evaluations : sequence of Evaluation
        As `ensemble.fit.fit_ensemble` returns them: the first is nested.
    maps : MemberMaps
    catalogue : Catalogue
    decision : Decision
        The one that is used.
    settings : EnsembleSettings
    masks : callable
        Scene → where the condition of each cleaning rule holds.
    track : Track

    Returns
    -------
    areas : dict of str to Areas
        By split, those that there are; empty when the task is multilabel: tags have no area.
    """
    classes = catalogue.classes
    if classes.task == "multilabel":
        return {}
    by_split = {evaluation.split: evaluation for evaluation in evaluations}
    areas: dict[Split, Areas] = {}
    for split in SPLITS:
        scenes = catalogue.split(split)
        if not scenes:
            continue
        evaluation = by_split.get(split, evaluations[0])
        if split in by_split:
            pixels = evaluation.mapped[evaluation.final]
        else:
            pixels = mapped_pixels(maps, scenes, decision, classes, masks, track)
        labelled = split in by_split
        areas[split] = found = areas_of_evaluation(evaluation, pixels, scenes, classes, settings, labelled=labelled)
        assumed = "if their labels are a fair sample" if labelled else "if their maps err as those out of fold"
        if found.labelled == 1:
            assumed = "by their labels"
        logger.info("areas of %d %s scenes, %s: %s", len(scenes), split, assumed, found.words())
    return areas


def write_areas(areas: Mapping[Split, Areas], path: Path) -> None:
    """Write the areas as CSV, one line a split and class; areas in m², or in pixels where grids are not metric."""
    text = io.StringIO()
    rows = [row for split, of_split in areas.items() for row in _rows(split, of_split)]
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), "utf-8")


def _rows(split: Split, areas: Areas) -> list[dict[str, str | float]]:
    rows = []
    for place, label in enumerate(areas.labels):
        row: dict[str, str | float] = {
            "split": split,
            "class": str(quote_formula(label)),
            "unit": "m2" if areas.metric else "pixels",
        }
        row["mapped"] = areas.mapped[place]
        for name, intervals in (("area", areas.area), ("user", areas.user), ("producer", areas.producer)):
            value, low, high = asdict(intervals[place]).values()
            row |= {name: value, f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return rows
