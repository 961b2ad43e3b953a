"""The report: one HTML file that works offline, verdict first, then scenes and scores; the rest is folded."""

from functools import partial
from pathlib import Path

from data.pages.numbers import format_percent
from data.pages.page import label_marks, write_page
from data.pages.quicklook import ERROR_COLORS
from data.scenes.colors import hex_color
from ensemble.report.applicability_section import applicability_values
from ensemble.report.areas_section import area_values
from ensemble.report.audit_section import audit_values
from ensemble.report.features_section import feature_values
from ensemble.report.folds_section import fold_values
from ensemble.report.gallery_section import gallery_values
from ensemble.report.scores_section import score_values
from ensemble.report.section import ReportSource, Section
from ensemble.report.thresholds_section import threshold_values
from ensemble.report.trees_section import tree_values

__all__ = ["SECTIONS", "write_report"]

SECTIONS = (
    Section("scenes", "Scenes", "report_scenes.html", gallery_values),
    Section("train", "Out of fold", "report_scores.html", partial(score_values, split="train")),
    Section("val", "Validation split", "report_scores.html", partial(score_values, split="val")),
    Section(
        "areas", "Area of each class", "report_areas.html", area_values, "as mapped, and corrected for the map's errors"
    ),
    Section(
        "audit", "Labels to check", "report_audit.html", audit_values, "where predictions contradict the label most"
    ),
    Section(
        "thresholds", "Thresholds", "report_thresholds.html", threshold_values, "what another threshold would score"
    ),
    Section(
        "folds", "Fold by fold", "report_folds.html", fold_values, "scores and decisions of each, groups and leakage"
    ),
    Section("features", "Features", "report_features.html", feature_values, "how well each column separates by itself"),
    Section("trees", "Feature importance", "report_trees.html", tree_values, "which columns the trees use, and how"),
    Section(
        "applicability",
        "Unlike the training scenes",
        "report_applicability.html",
        applicability_values,
        "where the scores on this page say nothing",
    ),
)
"""The parts of the page, in order; those without values are left out."""


def write_report(path: Path, source: ReportSource) -> None:
    """Write the report of a fitted ensemble.

    Parameters
    ----------
    path : Path
        Ends in ``.html``.
    source : ReportSource
    """
    ensemble, classes = source.fitted.ensemble, source.classes
    marks = label_marks(classes)
    sections = [
        {"key": section.key, "title": section.title, "about": section.about, "template": section.template, **values}
        for section in SECTIONS
        if (values := section.values(source)) is not None
    ]
    write_page(
        path,
        "ensemble.report",
        "report.html",
        name=source.run.name,
        verdict=ensemble.verdict_,
        weights=ensemble.weights_,
        thresholds=ensemble.thresholds_,
        n_folds=len(source.nested.decisions),
        task=classes.task,
        unit=source.run.unit,
        metric=source.objective,
        confidence_level=format_percent(source.settings.confidence_level),
        marks=marks,
        mark_of={mark.label: mark for mark in marks},
        error_colors={kind: hex_color(color) for kind, color in ERROR_COLORS.items()},
        sections=sections,
        nested=next(section for section in sections if section["key"] == "train"),
    )
