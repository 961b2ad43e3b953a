"""Monitor a training while it runs: a line of a CSV file, curves, grids of predictions and a progress bar."""

import csv
import math
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor

from cnn.settings import CnnSettings
from cnn.train.heads import head_of, monitor_name, score_of
from cnn.train.loggers import close_loggers, open_loggers
from cnn.train.prediction_grid import render_grid
from cnn.train.segmenter import Segmenter
from cnn.train.training_page import write_training_page
from cnn.train.validation import Validation
from data.errors import MemberError
from data.files import TIMINGS, read_json, replacing, write_json
from data.progress import Track
from data.scenes.classes import Classes

__all__ = ["Row", "TrainingMonitor"]

Row = dict[str, float]
"""An epoch, by column of the CSV file."""

GRIDS = 5
"""Grids of predictions that a training renders unless the settings say otherwise."""


class TrainingMonitor(pl.Callback):
    """Score each epoch when it is over, and write down how it went.

    Parameters
    ----------
    stem : Path
        Of the files that are written: this with ``.csv`` and ``.html``, and the folder ``<stem>-scenes``.
    settings : CnnSettings
    classes : Classes
    segmenter : Segmenter
    track : Track
    what : str
        Shown by ``track``.

    Attributes
    ----------
    rows : list of Row
        One an epoch; the first epoch is 1.
    measured : list of Row
        What each epoch took: seconds since the training began, and images a second while it trained.
    score : float
        Of the last epoch, higher is better; without held-out scenes - its training loss.
    """

    def __init__(
        self, stem: Path, settings: CnnSettings, classes: Classes, segmenter: Segmenter, track: Track, what: str
    ) -> None:
        self.stem, self.settings, self.classes, self.segmenter = stem, settings, classes, segmenter
        self.monitor, self.track, self.what = monitor_name(settings, classes), track, what
        self.rows: list[Row] = []
        self.measured: list[Row] = []
        self.batches: list[float] = []
        self.score = -math.inf
        self.interrupted = False
        self._losses: list[Tensor] = []
        self._ticks: Iterator[int] = iter(())
        self._loggers: list[Logger] = []
        self._spent = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return what a training that goes on must know."""
        return {"rows": self.rows, "measured": self.measured, "batches": torch.tensor(self.batches)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what `state_dict` returned."""
        self.rows, self.measured = state_dict["rows"], state_dict["measured"]
        self.batches, self._spent = state_dict["batches"].tolist(), self.measured[-1]["seconds"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open what is written to, and let the progress bar catch up with a training that goes on."""
        steps = self.settings.epochs * int(trainer.num_training_batches)
        self._start = time.perf_counter() - self._spent
        if trainer.is_global_zero:
            self._ticks = iter(self.track(range(steps), self.what, steps))
            self._loggers = open_loggers(self.settings.loggers, self.stem.parent, self.stem.name)
        for _ in self.batches:
            next(self._ticks, None)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._epoch_start = time.perf_counter()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Move the progress bar."""
        next(self._ticks, None)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the loss."""
        self._losses.append(outputs["loss"].detach() * trainer.accumulate_grad_batches)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate, score the epoch and write down how it went."""
        losses = torch.stack(self._losses)
        losses = trainer.strategy.reduce(losses, reduce_op="mean").float()
        loss = losses.mean().item()
        seconds = time.perf_counter() - self._epoch_start
        self._losses.clear()
        if not math.isfinite(loss):
            raise MemberError(
                f"{self.stem.name}, epoch {trainer.current_epoch + 1}: expected a finite loss, got {loss}. "
                "Lower learning_rate, or write `precision: float32`."
            )
        self.batches += losses.tolist()
        row: Row = {
            "epoch": trainer.current_epoch + 1,
            "loss": loss,
            "learning_rate": max(group["lr"] for group in trainer.optimizers[0].param_groups),
        }
        self.score = -loss
        validation = self.segmenter.validate()
        if validation is not None:
            self.score = score_of(self.monitor, validation, head_of(self.classes))
            row |= self._describe(validation)
        self.rows.append(row)
        rate = len(losses) * self.segmenter.crops.plan.batch / seconds
        self.measured.append({"seconds": time.perf_counter() - self._start, "images_per_second": rate})
        if trainer.is_global_zero:
            self._write(validation)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close what is written to."""
        if len(self.rows) == self.settings.epochs:
            next(self._ticks, None)  # One more than there are, so that the bar ends.
        close_loggers(self._loggers)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Note whether it was Ctrl-C."""
        self.interrupted = isinstance(exception, KeyboardInterrupt)

    def close(self) -> None:
        """End the progress bar where it is."""
        if isinstance(self._ticks, Generator):
            self._ticks.close()

    def _write(self, validation: Validation | None) -> None:
        row, epoch, epochs = self.rows[-1], len(self.rows), self.settings.epochs
        plain = [
            {key: value if isinstance(value, int) else f"{value:.7g}" for key, value in record.items()}
            for record in self.rows
        ]
        csv_path = self.stem.with_suffix(".csv")
        with replacing(csv_path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(row), lineterminator="\n")
            writer.writeheader()
            writer.writerows(plain)
        note_timings(self.stem, self.measured)
        metrics = {key: value for key, value in {**row, **self.measured[-1]}.items() if key != "epoch"}
        for service in self._loggers:
            service.log_metrics(metrics, step=epoch)
        folder = self.stem.with_name(f"{self.stem.name}-scenes")
        every = self.settings.pictures or max(1, epochs // GRIDS)
        if validation is not None and self.segmenter.tiles is not None and (epoch % every == 0 or epoch == epochs):
            path = folder / f"epoch{epoch:0{len(str(epochs))}}.png"
            panels = head_of(self.classes).panels
            render_grid(path, self.segmenter.tiles, validation, self.segmenter.predict, self.classes, panels)
        write_training_page(
            self.stem.with_suffix(".html"),
            self.rows,
            self.batches,
            sorted(folder.glob("*.png")),
            self.classes,
            title=self.what,
            epochs=epochs,
            monitor=self.monitor,
        )

    def _describe(self, validation: Validation) -> Row:
        """Return the columns of held-out scenes: loss, score, scores and confusion counts of each class."""
        row: Row = {"held_out_loss": validation.loss, "score": self.score}
        labels, head = self.classes.label_names, head_of(self.classes)
        for name, (_, score) in head.class_scores.items():
            row |= {
                f"{name}_{label}": float(value) for label, value in zip(labels, score(validation.counts), strict=True)
            }
        row |= head.columns(labels, validation.counts)
        return row


def note_timings(stem: Path, measured: Sequence[Row]) -> None:
    """Write down what the epochs of a training took, beside those of the member's other folds."""
    path = stem.parent / TIMINGS
    others = read_json(path) if path.exists() else {}
    write_json(path, {**others, stem.name: list(measured)})
