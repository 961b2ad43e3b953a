"""The report: one HTML file that works offline, verdict first."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import polars as pl
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from data.catalogue import Catalogue
from data.classes import IGNORE
from data.files import replacing
from data.maps import NODATA, TOP
from data.progress import Track, untracked
from data.scene import Scene, read_label
from data.windows import Window
from ensemble.blend import blend_stored
from ensemble.ensemble import Ensemble
from ensemble.evaluation import BLEND, Evaluation
from ensemble.maps import MemberMaps
from ensemble.metrics import CLASS_METRICS, METRICS
from ensemble.scores import suitable_metrics
from ensemble.settings import EnsembleSettings
from ensemble.thresholds import decide

__all__ = ["write_report"]

Picture = NDArray[np.uint8]
Quicklook = Callable[[Scene, Window | None], Picture]

SIDE = 256
"""Pixels on a side of a thumbnail."""
CROP = 512
"""Of a larger scene its middle is shown."""
EXAMPLES = 2
"""Scenes shown of the best, the middling and the worst each."""

HIT, MISS, FALSE_ALARM, RIGHT, UNKNOWN = (0, 158, 115), (213, 94, 0), (86, 180, 233), (238, 238, 238), (120, 120, 120)


@dataclass(frozen=True)
class Bar:
    """A score and its interval on an axis from 0 to 100.

    Parameters
    ----------
    text, interval : str
    value, low, high : float
        Positions on the axis.
    """

    text: str
    interval: str
    value: float
    low: float
    high: float


def write_report(
    path: Path,
    ensemble: Ensemble,
    evaluations: Sequence[Evaluation],
    scores: pl.DataFrame,
    maps: MemberMaps,
    catalogue: Catalogue,
    settings: EnsembleSettings,
    *,
    name: str,
    quicklook: Quicklook,
    notes: Sequence[str] = (),
    track: Track = untracked,
) -> None:
    """Write the report of a fitted ensemble.

    Parameters
    ----------
    path : Path
        Ends in ``.html``.
    ensemble : Ensemble
    evaluations : sequence of Evaluation
        As `ensemble.fit.fit_ensemble` returns them.
    scores : DataFrame
        As `ensemble.scores.score_table` returns it.
    maps : MemberMaps
    catalogue : Catalogue
    settings : EnsembleSettings
    name : str
        Of the experiment.
    quicklook : callable
        (scene, window) → picture (H, W, 3) uint8; this folder never reads imagery itself.
    notes : sequence of str
        What else the reader should know, such as on folds and leakage.
    track : Track
    """
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = resources.files("ensemble").joinpath("report.html").read_text("utf-8")
    nested = evaluations[0]
    examples = _choose_examples(nested, ensemble)
    scenes = {scene.id: scene for scene in catalogue.split("train")}
    page = template.from_string(source).render(
        name=name,
        ensemble=ensemble,
        metric=METRICS[ensemble.metric],
        label_names=catalogue.classes.label_names,
        colors=["#{:02x}{:02x}{:02x}".format(*color) for color in catalogue.classes.label_colors],
        coverage=f"{settings.interval:.0%}",
        sections=[_section(evaluation, scores, ensemble, catalogue) for evaluation in evaluations],
        class_metrics=CLASS_METRICS,
        folds=_fold_rows(scores, ensemble),
        examples=[
            (title, scene, score, _thumbnails(scenes[scene], maps, ensemble, catalogue, quicklook))
            for title, scene, score in track(examples, "report", len(examples))
        ],
        columns=["scene", "label", *maps.names, "map", "errors"],
        binary=catalogue.classes.task == "binary",
        notes=notes,
        error_colors={name: "#{:02x}{:02x}{:02x}".format(*color) for name, color in
                      {"hit": HIT, "miss": MISS, "false": FALSE_ALARM, "unknown": UNKNOWN}.items()},
    )  # fmt: skip
    with replacing(path) as temporary:
        temporary.write_text(page, "utf-8")


def _section(
    evaluation: Evaluation, scores: pl.DataFrame, ensemble: Ensemble, catalogue: Catalogue
) -> dict[str, object]:
    """Return the tables of one split."""
    part = scores.filter(pl.col("split") == evaluation.split)
    pooled = part.filter((pl.col("metric") == ensemble.metric) & (pl.col("label") == ""))
    whole = {row["candidate"]: row for row in pooled.filter(pl.col("scope") == "all").rows(named=True)}
    gains = {row["candidate"]: row for row in pooled.filter(pl.col("scope") == "gain").rows(named=True)}
    low = min(row["low"] for row in whole.values())
    high = max(row["high"] for row in whole.values())
    final = BLEND if len(ensemble.used) > 1 else ensemble.used[0]
    shown = ("iou", "macro_iou", "accuracy")
    others = [name for name in suitable_metrics(catalogue.classes.task) if name in shown and name != ensemble.metric]
    candidates = []
    for candidate, row in sorted(whole.items(), key=lambda item: -item[1]["value"]):
        own = part.filter((pl.col("candidate") == candidate) & (pl.col("label") == "") & (pl.col("scope") == "all"))
        values = dict(zip(own["metric"], own["value"], strict=True))
        gain = gains.get(candidate)
        candidates.append(
            {
                "name": candidate,
                "final": candidate == final,
                "bar": _bar(row, low, high),
                "gain": gain and f"{gain['value']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f})",
                "others": [f"{values[other]:.3f}" for other in others],
            }
        )
    by_class = part.filter((pl.col("label") != "") & (pl.col("scope") == "all"))
    classes = [
        (label, [
            (candidate, [_class_value(by_class, candidate, label, metric) for metric in CLASS_METRICS])
            for candidate in whole
        ])
        for label in catalogue.classes.label_names
    ]  # fmt: skip
    counts = evaluation.total(final)
    return {
        "split": evaluation.split,
        "candidates": candidates,
        "others": [METRICS[other].title for other in others],
        "classes": classes,
        "final": final,
        "confusion": _confusion(counts),
        "unseen": bool(counts[:, -1].any()),
        "scenes": len(evaluation.groups),
        "groups": len(set(evaluation.groups.values())),
    }


def _bar(row: dict[str, float], low: float, high: float) -> Bar:
    span = max(high - low, 1e-9)
    place = [100 * (row[key] - low) / span for key in ("value", "low", "high")]
    return Bar(f"{row['value']:.4f}", f"{row['low']:.4f} – {row['high']:.4f}", *(round(one, 2) for one in place))


def _class_value(scores: pl.DataFrame, candidate: str, label: str, metric: str) -> str:
    found = scores.filter(
        (pl.col("candidate") == candidate) & (pl.col("label") == label) & (pl.col("metric") == metric)
    )
    value = found["value"][0]
    return f"{value:.3f}" if np.isfinite(value) else "–"


def _confusion(counts: NDArray[np.int64]) -> list[list[tuple[str, int, float]]]:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return [
        [(f"{100 * share:.1f}", int(count), round(float(share), 3)) for share, count in zip(*rows, strict=True)]
        for rows in zip(shares, counts, strict=True)
    ]


def _fold_rows(scores: pl.DataFrame, ensemble: Ensemble) -> list[tuple[str, list[str], str]]:
    part = scores.filter(
        (pl.col("split") == "train") & (pl.col("metric") == ensemble.metric) & pl.col("scope").str.starts_with("fold")
    )
    rows = []
    for candidate in part["candidate"].unique(maintain_order=True):
        values = part.filter(pl.col("candidate") == candidate)["value"].to_list()
        spread = f"{np.nanmin(values):.3f} – {np.nanmax(values):.3f}"
        rows.append((candidate, [f"{value:.3f}" for value in values], spread))
    return rows


def _choose_examples(evaluation: Evaluation, ensemble: Ensemble) -> list[tuple[str, str, str]]:
    """Return the best, the middling and the worst scenes by the metric, where it has a meaning."""
    counts = evaluation.counts[BLEND if len(ensemble.used) > 1 else ensemble.used[0]]
    scores = {scene: float(METRICS[ensemble.metric].of(one)) for scene, one in counts.items()}
    ranked = sorted((scene for scene in scores if np.isfinite(scores[scene])), key=lambda scene: -scores[scene])
    middle = max(0, len(ranked) // 2 - EXAMPLES // 2)
    places = {
        "best": ranked[:EXAMPLES], "middling": ranked[middle : middle + EXAMPLES], "worst": ranked[-EXAMPLES:]
    }  # fmt: skip
    chosen: dict[str, tuple[str, str, str]] = {}
    for title, some in places.items():
        for scene in some:
            chosen.setdefault(scene, (title, scene, f"{scores[scene]:.3f}"))
    return list(chosen.values())


def _thumbnails(
    scene: Scene, maps: MemberMaps, ensemble: Ensemble, catalogue: Catalogue, quicklook: Quicklook
) -> list[str]:
    """Draw scene, label, each member, the map and its errors, as data URIs."""
    height, width = min(scene.grid.height, CROP), min(scene.grid.width, CROP)
    window = Window((scene.grid.height - height) // 2, (scene.grid.width - width) // 2, height, width)
    stored, label = maps.read(scene, window), read_label(scene, window)
    weights = tuple(ensemble.weights_[name] for name in maps.names)
    prediction = decide(blend_stored(stored, weights), ensemble.thresholds_)
    colors = np.full((256, 3), 255, np.uint8)
    colors[: len(catalogue.classes.label_names)] = catalogue.classes.label_colors
    colors[IGNORE] = UNKNOWN
    if catalogue.classes.task == "binary":
        grey = [np.where(one[0] == NODATA, 0, one[0] / TOP * 255).astype(np.uint8) for one in stored]
        members = [np.repeat(one[..., None], 3, axis=2) for one in grey]
        errors = _binary_errors(label, prediction)
    else:
        members = [colors[np.where(one[0] == NODATA, IGNORE, one.argmax(axis=0))] for one in stored]
        errors = np.where((prediction == label)[..., None], np.array(RIGHT), np.array(MISS)).astype(np.uint8)
        errors[label == IGNORE] = UNKNOWN
    pictures = [quicklook(scene, window), colors[label], *members, colors[prediction], errors]
    return [_data_uri(picture, smooth=position == 0) for position, picture in enumerate(pictures)]


def _binary_errors(label: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> Picture:
    errors = np.full((*label.shape, 3), RIGHT, np.uint8)
    positive = prediction == 1
    errors[(label == 1) & positive] = HIT
    errors[(label == 1) & ~positive] = MISS
    errors[(label == 0) & positive] = FALSE_ALARM
    errors[label == IGNORE] = UNKNOWN
    return errors


def _data_uri(picture: Picture, smooth: bool) -> str:
    image = Image.fromarray(picture)
    scale = SIDE / max(image.size)
    if scale < 1:
        size = (round(image.width * scale), round(image.height * scale))
        image = image.resize(size, Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST)
    stream = io.BytesIO()
    # A photograph is small as JPEG; flat colours stay exact as PNG.
    image.save(stream, "JPEG" if smooth else "PNG", **({"quality": 80} if smooth else {"optimize": True}))
    kind = "jpeg" if smooth else "png"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
