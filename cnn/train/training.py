"""Training of one network on the scenes of all folds but one.

Which epoch is best can only be told by looking at labels, and those of the fold held out must stay unseen: it takes
groups held out among the others. Without any the weights of the last step are kept, or their average: the one-cycle
schedule ends at a learning rate of nearly nothing, and there it is over.
"""

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from cnn.crops.crops import Crops
from cnn.losses.pixel_losses import Loss
from cnn.machine import choose_precision
from cnn.settings import CnnSettings
from cnn.train.checkpoints import Keeper, Kept, can_resume, read_kept
from cnn.train.monitor import Watch
from cnn.train.segmenter import Segmenter
from cnn.train.validation import Tiles
from data.errors import MemberError
from data.progress import Track, untracked
from data.scenes.classes import Classes

__all__ = ["check_devices", "train_network"]

logger = logging.getLogger(__name__)

NAMES = {torch.float32: "32-true", torch.bfloat16: "bf16-mixed", torch.float16: "16-mixed"}
"""Lightning's."""


def train_network(
    network: nn.Module, crops: Crops, tiles: Tiles | None, loss: Loss, settings: CnnSettings, classes: Classes,
    stem: Path, *, device: torch.device, seed: int, made_from: str, workers: int = 0, track: Track = untracked,
    what: str = "training",
) -> Kept:  # fmt: skip
    """Train a network in place; it ends on the CPU, in evaluation mode, with the weights that are kept.

    The same seed gives the same weights on a CPU, whatever the number of workers, and whether it was killed on the
    way and started again or not.

    Parameters
    ----------
    network : nn.Module
    crops : Crops
        Whose number is a multiple of the batch size.
    tiles : Tiles, optional
        Of scenes that are held out to watch the training.
    loss : callable
        (logits, truth) → scalar.
    settings : CnnSettings
    classes : Classes
    stem : Path
        Of the files written on the way: this with ``.csv``, ``.html`` and ``.ckpt``, and the folder ``<stem>-scenes``.
        The checkpoint stays; the caller removes it when the weights are safe.
    device : torch.device
    seed : int
        Of dropout and its like.
    made_from : str
        Fingerprint of all that the weights depend on: a checkpoint of something else is refused.
    workers : int
        Processes that cut crops; 0 cuts them in this one.
    track : Track
    what : str
        Shown by ``track``.

    Returns
    -------
    kept : Kept

    Raises
    ------
    MemberError
        If the loss is no number any more, or there is a checkpoint of another training.
    """
    checkpoint = stem.with_suffix(".ckpt")
    resumes = can_resume(checkpoint, made_from)
    precision = choose_precision(settings.precision, device)
    network.to(memory_format=torch.channels_last).train()
    segmenter = Segmenter(
        network, crops, tiles, loss, settings, classes=classes, precision=precision, seed=seed, workers=workers
    )
    # The progress bar cannot be reached from the processes of several devices.
    watch = Watch(stem, settings, classes, segmenter, untracked if settings.devices > 1 else track, what)
    keeper = Keeper(checkpoint, settings, segmenter, watch, made_from)
    interrupt = signal.getsignal(signal.SIGINT)
    with _quiet_lightning(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        trainer = pl.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            precision=NAMES[precision],  # type: ignore[arg-type]
            max_epochs=settings.epochs,
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=settings.gradient_clip or None,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[watch, keeper],
            # This machine alone, whatever cluster the environment speaks of.
            plugins=[LightningEnvironment()],
            default_root_dir=stem.parent,
            **_share(settings, device),
        )
        try:
            trainer.fit(segmenter, ckpt_path=checkpoint if resumes else None, weights_only=True)
        except SystemExit as ended:
            # Lightning turns Ctrl-C into an exit of the whole program, and turns Ctrl-C off.
            if watch.interrupted:
                signal.signal(signal.SIGINT, interrupt)
                raise KeyboardInterrupt from ended
            raise
        finally:
            watch.close()
    kept = read_kept(checkpoint)
    network.load_state_dict(kept.weights)
    network.cpu().eval()
    return kept


def check_devices(settings: CnnSettings, device: torch.device) -> None:
    """Make sure that there are as many devices as are to share the work.

    Raises
    ------
    MemberError
        If there are fewer.
    """
    if device.type == "cuda" and torch.cuda.device_count() < settings.devices:
        raise MemberError(
            f"devices: expected at most the {torch.cuda.device_count()} GPUs of this machine, got {settings.devices}. "
            "Lower devices."
        )


def _share(settings: CnnSettings, device: torch.device) -> dict[str, Any]:
    """Return what tells Lightning how many devices share the work, and how.

    Each device has a process of its own, which gets its part of each batch. Batch normalisation sees the whole batch.
    """
    if settings.devices == 1:
        return {"devices": 1}
    # Weights may have no say: those that are frozen, and those of an encoder's stages below its depth.
    strategy = DDPStrategy(start_method="spawn", find_unused_parameters=True)
    return {
        "devices": settings.devices,
        "strategy": strategy,
        "use_distributed_sampler": False,
        "sync_batchnorm": device.type == "cuda",
    }


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
