"""The report's section on labels that the ensemble contradicts: the worst regions, drawn."""

from data.scenes.windows import Window
from ensemble.report.section import ReportSource, Row
from ensemble.report.thumbnails import draw_crop, draw_scene

__all__ = ["audit_values"]

CROPS, CROP_SIDE = 20, 128
"""Regions of the audit that are shown, and pixels on a side of a picture of one."""


def audit_values(source: ReportSource) -> Row | None:
    """Return the worst regions of the label audit, drawn; None where no label is contradicted."""
    audit, nested, classes, quicklook = source.fitted.audit, source.nested, source.classes, source.run.quicklook
    if audit is None or not audit.regions or quicklook is None:
        return None
    scenes, tagged = {scene.id: scene for scene in source.catalogue.split("train")}, classes.task == "multilabel"
    regions = []
    for region, window in audit.crops(source.catalogue, CROPS):
        scene, decision = scenes[region.scene], nested.decisions[nested.folds[region.scene]][nested.final]
        pictures = (
            [draw_scene(scene, quicklook, CROP_SIDE)]
            if tagged
            else draw_crop(scene, window, source.maps, decision, classes, quicklook, CROP_SIDE, source.masks)
        )
        regions.append(
            {
                "region": region,
                "gap": region.error / region.area,
                "pictures": pictures,
                "box": None if tagged else _place_within(region.window, window),
            }
        )
    return {"regions": regions, "expected": audit.words(), "columns": ("scene", "label", "map")}


def _place_within(part: Window, whole: Window) -> tuple[float, float, float, float]:
    """Return top, left, height and width of a window in percent of another."""
    return (
        round(100 * (part.row - whole.row) / whole.height, 1),
        round(100 * (part.col - whole.col) / whole.width, 1),
        round(100 * part.height / whole.height, 1),
        round(100 * part.width / whole.width, 1),
    )
