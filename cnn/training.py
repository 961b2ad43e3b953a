"""Training of one network on the scenes of all folds but one.

The weights of the last step are kept. Which epoch is best could only be told by looking at labels, and those of the
fold held out must stay unseen: the one-cycle schedule ends at a learning rate of nearly nothing, and there it is over.
"""

import csv
import logging
import math
import signal
import time
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cnn.losses import LOSSES
from cnn.patches import Crops, CropSampler
from cnn.settings import CnnSettings, PrecisionName
from data.errors import MemberError
from data.files import replacing
from data.progress import Track, untracked

__all__ = ["Segmenter", "choose_device", "choose_precision", "limit_threads", "train_network"]

logger = logging.getLogger(__name__)


def choose_device(name: str) -> torch.device:
    """Return the device that ``auto``, ``cpu`` or ``cuda`` means on this machine.

    Raises
    ------
    MemberError
        If a GPU is asked for and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise MemberError("device cuda: expected a GPU that torch can use, got none. Write `device: auto` or `cpu`.")
    return torch.device(name)


def choose_precision(name: PrecisionName, device: torch.device) -> torch.dtype:
    """Return the type that the network's products are computed in; weights are float32 in any case.

    float16 is for GPUs: in its place a CPU computes in float32.
    """
    if name == "float16" and device.type == "cpu":
        return torch.float32
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


class Segmenter(pl.LightningModule):
    """A network, its loss and how it is optimised: AdamW under a one-cycle learning rate.

    Parameters
    ----------
    network : nn.Module
    settings : CnnSettings
    steps : int
        Steps of the whole training.
    """

    def __init__(self, network: nn.Module, settings: CnnSettings, steps: int) -> None:
        super().__init__()
        self.network, self.settings, self.steps = network, settings, steps
        self.loss = LOSSES[settings.loss]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch: inputs (N, C, H, W) float32, label (N, H, W) uint8."""
        inputs, label = batch
        return self.loss(self.network(inputs.contiguous(memory_format=torch.channels_last)), label)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW, without decay of biases and normalisation weights, and its schedule."""
        weights = [weight for weight in self.network.parameters() if weight.requires_grad]
        groups = [
            {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": self.settings.weight_decay},
            {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.settings.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.settings.learning_rate, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Watch(pl.Callback):
    """Pass steps on to the progress bar and write the mean loss of each epoch to a CSV file."""

    def __init__(self, csv_path: Path, track: Track, what: str, steps: int) -> None:
        self.csv = csv_path
        self.ticks = track(range(steps), what, steps)
        self.rows: list[tuple[int, float, float, float]] = []
        self.losses: list[Tensor] = []
        self.interrupted = False
        self.start = time.perf_counter()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        next(self.ticks, None)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(outputs["loss"].detach())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loss = torch.stack(self.losses).mean().item()
        self.losses.clear()
        if not math.isfinite(loss):
            raise MemberError(
                f"{self.csv.stem}, epoch {trainer.current_epoch}: expected a finite loss, got {loss}. "
                "Lower learning_rate, or write `precision: float32`."
            )
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.rows.append((trainer.current_epoch, loss, rate, time.perf_counter() - self.start))
        with replacing(self.csv) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["epoch", "loss", "learning_rate", "seconds"])
            writer.writerows([epoch, f"{loss:.6f}", f"{rate:.3e}", f"{s:.1f}"] for epoch, loss, rate, s in self.rows)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        next(self.ticks, None)  # One more than there are, so that the bar ends.

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.interrupted = isinstance(exception, KeyboardInterrupt)


def train_network(
    network: nn.Module, crops: Crops, settings: CnnSettings, log: Path, *, device: torch.device, seed: int,
    workers: int = 0, track: Track = untracked, what: str = "training",
) -> None:  # fmt: skip
    """Train a network in place for ``settings.epochs`` epochs; it ends on the CPU, in evaluation mode.

    The same seed gives the same weights on a CPU, whatever the number of workers.

    Parameters
    ----------
    network : nn.Module
    crops : Crops
        Whose number is a multiple of the batch size.
    settings : CnnSettings
    log : Path
        CSV file for epoch, mean loss, learning rate and seconds since the start.
    device : torch.device
    seed : int
        Of dropout and its like.
    workers : int
        Processes that cut crops; 0 cuts them in this one.
    track : Track
    what : str
        Shown by ``track``.

    Raises
    ------
    MemberError
        If the loss is no number any more.
    """
    loader = DataLoader(
        crops, settings.batch_size, sampler=CropSampler(len(crops)), num_workers=workers,
        persistent_workers=workers > 0, pin_memory=device.type == "cuda",
    )  # fmt: skip
    steps = settings.epochs * len(loader)
    watch = _Watch(log, track, what, steps)
    precision = choose_precision(settings.precision, device)
    network.to(memory_format=torch.channels_last).train()
    interrupt = signal.getsignal(signal.SIGINT)
    with _quiet_lightning(), _own_randomness(seed):
        trainer = pl.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1,
            precision={torch.float32: "32-true", torch.bfloat16: "bf16-mixed", torch.float16: "16-mixed"}[precision],  # type: ignore[arg-type]
            max_epochs=settings.epochs,
            gradient_clip_val=settings.gradient_clip or None,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[watch],
            # One process, whatever cluster the environment speaks of.
            plugins=[LightningEnvironment()],
            default_root_dir=log.parent,
        )
        try:
            trainer.fit(Segmenter(network, settings, steps), loader)
        except SystemExit as ended:
            # Lightning turns Ctrl-C into an exit of the whole program, and turns Ctrl-C off.
            if watch.interrupted:
                signal.signal(signal.SIGINT, interrupt)
                raise KeyboardInterrupt from ended
            raise
        finally:
            if isinstance(watch.ticks, Generator):
                watch.ticks.close()
    network.cpu().eval()


@contextmanager
def limit_threads(threads: int) -> Iterator[None]:
    """Let torch use so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence what Lightning says about choices that were made on purpose."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers")
            warnings.filterwarnings("ignore", "GPU available but not used")
            # Lightning 2.6 asks torch 2.15 for something by its old name.
            warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
