"""Train one network on the scenes of all folds but one.

Labels alone show which epoch is best, and those of the fold held out must stay unseen: it takes groups held out among
the others. Without any the weights of the last step are kept, or their average: the one-cycle
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

from cnn.machine import Machine, choose_precision
from cnn.settings import CnnSettings
from cnn.train.checkpoints import CheckpointKeeper, KeptWeights, can_resume, read_kept
from cnn.train.fold_plan import FoldPlan
from cnn.train.monitor import TrainingMonitor
from cnn.train.segmenter import Segmenter
from data.errors import MemberError
from data.progress import Track, untracked

__all__ = ["check_devices", "train_network"]

logger = logging.getLogger(__name__)

NAMES = {torch.float32: "32-true", torch.bfloat16: "bf16-mixed", torch.float16: "16-mixed"}
"""Lightning's."""


def train_network(
    network: nn.Module,
    plan: FoldPlan,
    settings: CnnSettings,
    machine: Machine,
    stem: Path,
    *,
    made_from: str,
    track: Track = untracked,
    title: str = "training",
) -> KeptWeights:
    """Train a network in place; it ends on the CPU, in evaluation mode, with the weights that are kept.

    The same seed gives the same weights on a CPU, whatever the number of workers, and whether it was killed on the
    way and started again or not.

    Parameters
    ----------
    network : nn.Module
    plan : FoldPlan
        Its number of crops is a multiple of the batch size.
    settings : CnnSettings
    machine : Machine
    stem : Path
        Of the files written on the way: this with ``.csv``, ``.html`` and ``.ckpt``, and the folder ``<stem>-scenes``.
        The checkpoint stays; the caller removes it when the weights are safe.
    made_from : str
        Fingerprint of all that the weights depend on: a checkpoint of something else is refused.
    track : Track
    title : str
        Shown by ``track``.

    Returns
    -------
    kept : KeptWeights

    Raises
    ------
    MemberError
        If the loss is not finite any more, or the checkpoint is that of another training.
    """
    checkpoint = stem.with_suffix(".ckpt")
    resumes = can_resume(checkpoint, made_from)
    device, precision = machine.device, choose_precision(settings.precision, machine.device)
    network.to(memory_format=torch.channels_last).train()
    segmenter = Segmenter(network, plan, settings, machine)
    # The progress bar cannot be reached from the processes of several devices.
    shown = untracked if settings.devices > 1 else track
    monitor = TrainingMonitor(stem, settings, plan.classes, segmenter, shown, title)
    keeper = CheckpointKeeper(checkpoint, settings, segmenter, monitor, made_from)
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
            callbacks=[monitor, keeper],
            # This machine alone, whatever cluster the environment speaks of.
            plugins=[LightningEnvironment()],
            default_root_dir=stem.parent,
            **_share(settings, device),
        )
        try:
            trainer.fit(segmenter, ckpt_path=checkpoint if resumes else None, weights_only=True)
        except SystemExit as ended:
            # Lightning turns Ctrl-C into an exit of the whole program, and turns Ctrl-C off.
            if monitor.interrupted:
                signal.signal(signal.SIGINT, interrupt)
                raise KeyboardInterrupt from ended
            raise
        finally:
            monitor.close()
    kept = read_kept(checkpoint)
    network.load_state_dict(kept.weights)
    network.cpu().eval()
    return kept


def check_devices(settings: CnnSettings, device: torch.device) -> None:
    """Make sure that this machine has the devices that share the work.

    Raises
    ------
    MemberError
        If it has fewer.
    """
    if device.type == "cuda" and torch.cuda.device_count() < settings.devices:
        raise MemberError(
            f"devices: expected at most the {torch.cuda.device_count()} GPUs of this machine, got {settings.devices}. "
            "Lower devices."
        )


def _share(settings: CnnSettings, device: torch.device) -> dict[str, Any]:
    """Return the options of Lightning's trainer by which several devices share the work.

    Each device has a process of its own, which gets its part of each batch. Batch normalisation sees the whole batch.
    """
    if settings.devices == 1:
        return {"devices": 1}
    # Some weights affect nothing: those that are frozen, and those of an encoder's stages below its depth.
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
    levels = [talker.level for talker in loggers]
    for talker in loggers:
        talker.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers")
            warnings.filterwarnings("ignore", "GPU available but not used")
            # Lightning 2.6 asks torch 2.15 for something by its old name.
            warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
            yield
    finally:
        for talker, level in zip(loggers, levels, strict=True):
            talker.setLevel(level)
