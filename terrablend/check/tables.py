"""Write what `terrablend check` found as tables on the terminal."""

from collections.abc import Iterator

from data.pages.numbers import format_count, format_number, format_percent, format_short
from data.scenes.catalogue import Catalogue
from data.survey.overview import FAR, Overview

__all__ = ["describe_overview"]

SHOWN = 12
"""Lines of a list that are shown."""

Row = list[str]


def describe_overview(catalogue: Catalogue, overview: Overview) -> str:
    """Return tables: class balance, bands, scenes without positives, outliers, groups."""
    return "\n".join(_lines(catalogue, overview))


def _lines(catalogue: Catalogue, overview: Overview) -> Iterator[str]:
    yield from _balance(catalogue, overview)
    if overview.bands:
        yield from _bands(catalogue, overview)
    for part in overview.parts:
        if part.blank and not part.name.startswith("fold"):
            yield ""
            yield f"{len(part.blank)} of {part.scenes} {part.name} scenes without {blank_of(catalogue)}:"
            yield f"  {_first(part.blank)}"
    if overview.outliers:
        yield from _outliers(overview)
    if overview.groups:
        yield from _groups(overview)


def blank_of(catalogue: Catalogue) -> str:
    """Return what a scene lacks that has nothing to learn from."""
    classes = catalogue.classes
    return {"binary": f"a pixel of {classes.names[0]}", "multiclass": "a labelled pixel", "multilabel": "a tag"}[
        classes.task
    ]


def _balance(catalogue: Catalogue, overview: Overview) -> Iterator[str]:
    labels, parts = catalogue.classes.label_names, overview.parts
    tags = catalogue.classes.task == "multilabel"
    yield "scenes that have each tag" if tags else "share of labelled pixels, and number of scenes with the class"
    head = ["", *(part.name for part in parts)]
    rows = [
        ["scenes", *(format_count(part.scenes) for part in parts)],
        ["groups", *(format_count(part.groups) for part in parts)],
        [
            "labelled scenes" if tags else "labelled pixels",
            *(format_count(part.whole) if part.labels else "–" for part in parts),
        ],
    ]
    for label, name in enumerate(labels):
        rows.append(
            [
                name,
                *(
                    f"{format_percent(part.share(label))} {format_count(part.shown_by[label]):>4}"
                    if part.labels
                    else "–"
                    for part in parts
                ),
            ]
        )
    yield from _table(head, rows)


def _bands(catalogue: Catalogue, overview: Overview) -> Iterator[str]:
    splits = list(dict.fromkeys(facts.split for facts in overview.bands))
    others = [split for split in splits if split != "train"]
    histograms = {histogram.band: histogram for histogram in catalogue.histograms}
    rows = []
    for band in catalogue.bands:
        facts = {part.split: part for part in overview.bands if part.band == band}
        train, histogram = facts["train"], histograms.get(band)
        alike = [
            format_percent(histogram.overlap("train", split))
            if histogram and {"train", split} <= set(histogram.shares)
            else "–"
            for split in others
        ]
        values = [train.minimum, train.mean, train.deviation, train.maximum]
        rows.append(
            [band, *map(format_short, values), *(format_percent(facts[split].invalid) for split in splits), *alike]
        )
    yield ""
    likeness = "; overlap of the histograms with those of train" if others else ""
    yield f"bands of the training scenes; share of pixels without data{likeness}"
    head = ["", "minimum", "mean", "deviation", "maximum", *(f"{split}: no data" for split in splits)]
    yield from _table([*head, *(f"{split}: overlap" for split in others)], rows)


def _outliers(overview: Overview) -> Iterator[str]:
    yield ""
    yield f"scenes unlike the training scenes, by {FAR:g} or more robust z-scores: {len(overview.outliers)}"
    rows = [
        [
            f"{outlier.scene.split} {outlier.scene.id}",
            outlier.measure.name,
            *map(format_short, (outlier.value, outlier.measure.usual)),
            format_number(outlier.score, 1, "+"),
        ]
        for outlier in overview.outliers[:SHOWN]
    ]
    yield from _table(["", "measure", "value", "median", "z"], rows, left=2)


def _groups(overview: Overview) -> Iterator[str]:
    yield ""
    yield f"{len(overview.groups)} groups of several scenes, largest first"
    rows = [
        [f"{group[0].split} {group[0].group}", str(len(group)), _first([scene.id for scene in group], 4)]
        for group in overview.groups[:SHOWN]
    ]
    yield from _table(["", "scenes", ""], rows)


def _first(names: "tuple[str, ...] | list[str]", count: int = SHOWN) -> str:
    return ", ".join(names[:count]) + (" …" if len(names) > count else "")


def _table(head: Row, rows: list[Row], left: int = 1) -> Iterator[str]:
    """Set a table in columns of equal width, the first ones to the left."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
