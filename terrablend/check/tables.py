"""Write what `terrablend check` found as tables on the terminal."""

from collections import Counter
from collections.abc import Iterator, Sequence

from data.pages.numbers import format_count, format_number, format_percent, format_short
from data.scenes.catalogue import Catalogue
from data.scenes.scene import Scene
from data.survey.overview import FAR, Outlier, Overview, Part

__all__ = ["describe_overview"]

SHOWN = 12
"""Lines of a list that are shown."""

Row = list[str]


def describe_overview(catalogue: Catalogue, overview: Overview) -> str:
    """Return tables: class balance, bands, scenes without positives, outliers, groups."""
    return "\n".join(_lines(catalogue, overview))


def _lines(catalogue: Catalogue, overview: Overview) -> Iterator[str]:
    yield from _balance(catalogue, overview)
    if overview.annotated:
        yield from _agreement(catalogue, overview.annotated)
    if overview.bands:
        yield from _bands(catalogue, overview)
    for title, names in blank_scenes(catalogue, overview).values():
        yield from ("", f"{title}:", f"  {_first(names)}")
    if overview.outliers:
        yield from _outliers(overview)
    if overview.groups:
        yield from _groups(overview)


def blank_scenes(catalogue: Catalogue, overview: Overview) -> dict[str, tuple[str, list[str]]]:
    """Return, of each split with scenes that have nothing to learn from, how many these are and their names."""
    classes, found = catalogue.classes, {}
    lacking = {"binary": f"a pixel of {classes.names[0]}", "multiclass": "a labelled pixel", "multilabel": "a tag"}
    for part in overview.parts:
        if part.blank and not part.name.startswith("fold"):
            ids = frozenset(part.blank)
            blank = [scene for scene in catalogue.scenes if scene.split == part.name and scene.id in ids]
            counts = f"{format_count(len(blank))} of {format_count(part.scenes)} {part.name} {_noun(blank)}"
            found[part.name] = f"{counts} without {lacking[classes.task]}", _names(blank)
    return found


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


def _agreement(catalogue: Catalogue, parts: Sequence[Part]) -> Iterator[str]:
    rows = [["pixels alike", *(format_percent(part.agreed) for part in parts)]]
    # The background of a binary task has the kappa of its class.
    for label, name in [*enumerate(catalogue.classes.label_names)][-len(catalogue.classes.names) :]:
        rows.append([f"kappa of {name}", *(format_number(part.kappas[label], 2) for part in parts)])
    yield ""
    yield "agreement of annotators: share of the pixels of two, and of each class by kappa, 1 all and 0 as by chance"
    yield from _table(["", *(part.name for part in parts)], rows)


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
    what = _noun([outlier.scene for outlier in overview.outliers])
    yield f"{what} unlike the training scenes, by {FAR:g} or more robust z-scores: {len(overview.outliers)}"
    found: dict[tuple[str, str], list[Outlier]] = {}
    for outlier in overview.outliers:
        found.setdefault((outlier.scene.split, outlier.scene.whole.id), []).append(outlier)
    rows = [
        [
            f"{split} {_names([outlier.scene for outlier in outliers])[0]}",
            outliers[0].measure.name,
            *map(format_short, (outliers[0].value, outliers[0].measure.usual)),
            format_number(outliers[0].score, 1, "+"),
        ]
        for (split, _), outliers in [*found.items()][:SHOWN]
    ]
    yield from _table(["", "measure", "value", "median", "z"], rows, left=2)


def _groups(overview: Overview) -> Iterator[str]:
    parts = dict[tuple[str, str], list[Sequence[Scene]]]()
    for group in overview.groups:
        first, wholes = group[0], {scene.whole.id for scene in group}
        # Groups within one scene are a line together.
        key = first.whole.id if first.block and len(wholes) == 1 else first.group
        parts.setdefault((first.split, key), []).append(group)
    rows = [
        [
            f"{split} {name}" + (f", {len(groups)} groups" if len(groups) > 1 else ""),
            str(len(groups[0])),
            _first(_names(groups[0]), 4),
        ]
        for (split, name), groups in [*parts.items()][:SHOWN]
    ]
    what = _noun([group[0] for group in overview.groups])
    yield ""
    yield f"{len(overview.groups)} groups of several {what}, largest first"
    yield from _table(["", what, ""], rows)


def _noun(scenes: Sequence[Scene]) -> str:
    return "blocks" if any(scene.block for scene in scenes) else "scenes"


def _names(scenes: Sequence[Scene]) -> list[str]:
    """Return the names of scenes, of blocks those of their whole scenes with how many of them there are."""
    counts = Counter(scene.whole.id for scene in scenes)
    blocks = {scene.whole.id for scene in scenes if scene.block}
    return [
        f"{name} ({count} block{'s' if count > 1 else ''})" if name in blocks else name
        for name, count in counts.items()
    ]


def _first(names: Sequence[str], count: int = SHOWN) -> str:
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
