"""Keep the best weights of a training, and all that is needed to go on after a kill."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from cnn.network.model_file import read_saved
from cnn.settings import CnnSettings
from cnn.train.monitor import TrainingMonitor
from cnn.train.optimisation import lower_rate, lr_step_epochs
from cnn.train.segmenter import Segmenter
from data.errors import MemberError
from data.files import replacing

__all__ = ["CheckpointKeeper", "KeptWeights", "can_resume", "read_kept"]


@dataclass(frozen=True)
class KeptWeights:
    """The weights that a training ends with.

    Parameters
    ----------
    weights : dict of str to Tensor
        State of the network.
    epoch : int
        After which they were these; the first is 1.
    score : float or None
        Of the scenes held out, if any.
    """

    weights: dict[str, Tensor]
    epoch: int
    score: float | None


class CheckpointKeeper(pl.Callback):
    """Judge each epoch when it is over: keep its weights, lower the learning rate, stop, write a checkpoint.

    With scenes held out the weights of the best epoch are kept, else those of the last. A checkpoint holds tensors
    and plain values alone, and is all that leaves a training: what it ends with is read from it.

    Parameters
    ----------
    path : Path
        Of the checkpoint; that of the last epoch is replaced.
    settings : CnnSettings
    segmenter : Segmenter
    monitor : TrainingMonitor
        Comes first, and scores the epoch.
    made_from : str
        Fingerprint of all that the weights depend on.
    """

    def __init__(
        self, path: Path, settings: CnnSettings, segmenter: Segmenter, monitor: TrainingMonitor, made_from: str
    ) -> None:
        self.path, self.settings, self.made_from = path, settings, made_from
        self.segmenter, self.monitor = segmenter, monitor
        self.best: dict[str, Tensor] | None = None
        self.best_epoch, self.best_score, self.waited = 0, -math.inf, 0

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept, and what a training that goes on must know."""
        held_out = self.segmenter.tiles is not None
        return {
            "made_from": self.made_from,
            "weights": self.best if held_out else self.segmenter.applied.state_dict(),
            "epoch": self.best_epoch if held_out else len(self.monitor.rows),
            "score": self.best_score if held_out else None,
            "best_score": self.best_score,
            "waited": self.waited,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what `state_dict` returned."""
        self.best, self.best_epoch = state_dict["weights"], state_dict["epoch"]
        self.best_score, self.waited = state_dict["best_score"], state_dict["waited"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop at once if the training had stopped already when it was killed."""
        trainer.should_stop = self._is_over()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Judge the epoch by the score that it has."""
        self.waited += 1
        if self.monitor.score > self.best_score + self.settings.min_delta:
            self.best_score, self.best_epoch, self.waited = self.monitor.score, len(self.monitor.rows), 0
            if self.segmenter.tiles is not None:
                self.best = {key: value.cpu().clone() for key, value in self.segmenter.applied.state_dict().items()}
        if self.settings.schedule == "plateau" and self.waited and self.waited % lr_step_epochs(self.settings) == 0:
            lower_rate(trainer.optimizers[0], trainer.lr_scheduler_configs[0].scheduler, self.settings.lr_factor)
        trainer.should_stop = self._is_over()
        if trainer.is_global_zero:
            with replacing(self.path) as temporary:
                trainer.save_checkpoint(temporary, weights_only=False)
        else:
            trainer.save_checkpoint(self.path, weights_only=False)  # Only takes part: the first process writes.

    def _is_over(self) -> bool:
        patience = None if self.segmenter.tiles is None else self.settings.patience
        return patience is not None and self.waited >= patience


def can_resume(path: Path, made_from: str) -> bool:
    """Return whether there is a checkpoint to go on from.

    Raises
    ------
    MemberError
        If it was made from something else, or cannot be read.
    """
    if not path.is_file():
        return False
    if _read(path)["made_from"] != made_from:
        raise MemberError(
            f"{path}: expected a training begun with the present settings and scenes, got one of others. "
            "Train again with --overwrite, or take the changes back."
        )
    return True


def read_kept(path: Path) -> KeptWeights:
    """Read the weights that a training ended with from its last checkpoint."""
    state = _read(path)
    return KeptWeights(state["weights"], state["epoch"], state["score"])


def _read(path: Path) -> dict[str, Any]:
    try:
        # Of the tensors only what is used is read.
        state: dict[str, Any] = read_saved(path, mmap=True)["callbacks"]
        kept: dict[str, Any] = state[CheckpointKeeper.__qualname__]
        return kept
    except Exception as error:  # What torch raises on a file that it cannot read has no common base.
        raise MemberError(f"{path}: expected a checkpoint, got: {error}. Remove it and train again.") from error
