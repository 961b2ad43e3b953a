"""The page of a training: its curves, its confusion matrix, and the newest grid of predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cnn.train.heads import PIXELS, head_of
from data.pages.curves import Curve, draw_curves
from data.pages.page import label_marks, write_page
from data.scenes.classes import Classes

__all__ = ["write_training_page"]

INK, SOFT, ACCENT = "#0072b2", "#999999", "#d55e00"


def write_training_page(
    path: Path,
    rows: Sequence[Mapping[str, float]],
    batches: Sequence[float],
    sheets: Sequence[Path],
    classes: Classes,
    *,
    title: str,
    epochs: int,
    monitor: str,
) -> None:
    """Write the page of a training, of which some epochs are over.

    Parameters
    ----------
    path : Path
    rows : sequence of mappings
        The columns of each epoch; see `cnn.train.monitor.TrainingMonitor`.
    batches : sequence of float
        The loss of each batch.
    sheets : sequence of Path
        In order of their epochs.
    classes : Classes
    title : str
    epochs : int
        Of the whole training.
    monitor : str
        Name of the score.
    """
    held_out = "score" in rows[-1]
    best = max(rows, key=lambda row: row["score"]) if held_out else None
    write_page(
        path,
        "cnn.train",
        "training.html",
        title=title,
        rows=rows,
        epochs=epochs,
        monitor=monitor,
        best=best,
        charts=[
            {"title": heading, "curves": curves, "svg": draw_curves(curves, epochs)}
            for heading, curves in _charts(rows, batches, classes, monitor if held_out else None).items()
        ],
        marks=label_marks(classes),
        mark_of={mark.label: mark for mark in label_marks(classes)},
        confusion=_confusion(rows[-1], classes) if held_out and head_of(classes) is PIXELS else [],
        sheets=sheets,
    )


def _charts(
    rows: Sequence[Mapping[str, float]], batches: Sequence[float], classes: Classes, score: str | None
) -> dict[str, list[Curve]]:
    def curve(name: str, column: str, color: str = INK, mark: str = "") -> Curve:
        return Curve(name, color, [(row["epoch"], row[column]) for row in rows], mark=mark)

    a_batch = len(rows) / max(len(batches), 1)
    losses = [
        Curve("of batches", SOFT, [((number + 0.5) * a_batch, loss) for number, loss in enumerate(batches)], thin=True),
        curve("of epochs", "loss"),
    ]
    charts = {"Loss": [*losses, curve("of held-out scenes", "held_out_loss", ACCENT)] if score else losses}
    if score:
        charts["Score"] = [curve(score, "score")]
        for name, (title, _) in head_of(classes).class_scores.items():
            charts[title] = [
                curve(mark.label, f"{name}_{mark.label}", mark.color, str(mark.id)) for mark in label_marks(classes)
            ]
    charts["Learning rate"] = [curve("highest of all weights", "learning_rate")]
    return charts


def _confusion(row: Mapping[str, float], classes: Classes) -> list[list[tuple[float, int]]]:
    """Return each label's cells: share of the label's pixels, and pixels."""
    table = []
    for label in classes.label_names:
        counts = [int(row[f"pixels_{label}_as_{other}"]) for other in classes.label_names]
        table.append([(round(count / max(sum(counts), 1), 6), count) for count in counts])
    return table
