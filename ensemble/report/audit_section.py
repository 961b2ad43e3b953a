"""The report's section on labels that the ensemble contradicts: the worst regions, drawn."""

from typing import Any

from data.scenes.catalogue import Catalogue
from data.scenes.windows import Window
from ensemble.audit.label_audit import Audit
from ensemble.decide.cleaning import Masks
from ensemble.maps import MemberMaps
from ensemble.report.thumbnails import Quicklook, draw_crop, draw_scene
from ensemble.score.evaluation import Evaluation

__all__ = ["crop_rows"]

CROPS, CROP_SIDE = 20, 128
"""Regions of the audit that are shown, and pixels on a side of a picture of one."""

Row = dict[str, Any]


def crop_rows(
    audit: Audit, nested: Evaluation, maps: MemberMaps, catalogue: Catalogue, quicklook: Quicklook, masks: Masks
) -> list[Row]:
    """Return the worst regions of the label audit, drawn."""
    classes, scenes = catalogue.classes, {scene.id: scene for scene in catalogue.split("train")}
    rows = []
    for region, window in audit.crops(catalogue, CROPS):
        scene, decision = scenes[region.scene], nested.decisions[nested.folds[region.scene]][nested.final]
        pictures = (
            [draw_scene(scene, quicklook, CROP_SIDE)]
            if classes.task == "multilabel"
            else draw_crop(scene, window, maps, decision, classes, quicklook, CROP_SIDE, masks)
        )
        rows.append(
            {
                "region": region,
                "gap": region.error / region.area,
                "pictures": pictures,
                "box": None if classes.task == "multilabel" else _place_within(region.window, window),
            }
        )
    return rows


def _place_within(part: Window, whole: Window) -> tuple[float, float, float, float]:
    """Return top, left, height and width of a window in percent of another."""
    return (
        round(100 * (part.row - whole.row) / whole.height, 1),
        round(100 * (part.col - whole.col) / whole.width, 1),
        round(100 * part.height / whole.height, 1),
        round(100 * part.width / whole.width, 1),
    )
