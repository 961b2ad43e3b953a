"""Train a network step by step under Lightning: its loss, its optimizer, its batches, its average."""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from cnn.crops.augmentation_params import AugmentationParams
from cnn.crops.crops import CropSampler
from cnn.losses.pixel_losses import Loss
from cnn.machine import Machine, choose_precision
from cnn.network.encoder_stages import encoder_stages, freeze
from cnn.settings import CnnSettings
from cnn.train.fold_plan import FoldPlan
from cnn.train.heads import Head, head_of
from cnn.train.optimisation import build_average, build_optimizer, build_schedule, swa_start
from cnn.train.validation import Validation, infer, validate

__all__ = ["Segmenter"]


class Segmenter(pl.LightningModule):
    """A network under training.

    Each epoch begins with a seed of its own, so that one that is repeated after a kill is what it was.

    Parameters
    ----------
    network : nn.Module
        As `cnn.network.network.build_network` made it.
    plan : FoldPlan
    settings : CnnSettings
    machine : Machine

    Attributes
    ----------
    average : nn.Module or None
        The average of the network's weights, if one is kept.
    """

    def __init__(self, network: nn.Module, plan: FoldPlan, settings: CnnSettings, machine: Machine) -> None:
        super().__init__()
        self.network, self.settings = network, settings
        self.loss: Loss = plan.loss
        self.classes, self.crops, self.tiles, self.seed = plan.classes, plan.crops, plan.tiles, plan.seed
        self.precision, self.workers = choose_precision(settings.precision, machine.device), machine.workers
        by_stage = settings.freeze != "none" or settings.layer_decay < 1
        self.stages = encoder_stages(network, len(plan.crops.store.names), plan.crops.plan.side) if by_stage else {}
        self.average = build_average(network, settings)
        self._call: Callable[[Tensor], Tensor] = network.__call__
        self._held_out: DataLoader[Any] | None = None

    @property
    def head(self) -> Head:
        """Its kind of prediction; not stored, since it cannot be sent to other processes."""
        return head_of(self.classes)

    @property
    def applied(self) -> nn.Module:
        """The network that is applied to other scenes: the average as soon as there is one, else itself."""
        begun = self.average is not None and self.average.n_averaged > 0
        return self.average.module if self.average is not None and begun else self.network

    def validate(self) -> Validation | None:
        """Apply what would be applied to the scenes that are held out, if any, in all processes together."""
        if self.tiles is None:
            return None
        trainer = self.trainer
        if self._held_out is None:
            share = Subset(self.tiles, range(trainer.global_rank, len(self.tiles), trainer.world_size))
            self._held_out = self._batches(share)
        return validate(
            self.applied,
            self._held_out,
            self.tiles,
            self.head.tally(len(self.classes.label_names)),
            self.loss,
            device=self.device,
            precision=self.precision,
            total=lambda sums: trainer.strategy.reduce(sums, reduce_op="sum"),
        )

    def predict(self, inputs: Tensor) -> NDArray[Any]:
        """Return the predictions of inputs (N, C, H, W); see `cnn.train.heads.Head`."""
        self.applied.eval()
        with torch.inference_mode():
            logits = infer(self.applied, inputs.to(self.device), self.crops.plan.side, self.precision)
            return self.head.decode(logits, inputs.shape[-1])

    def setup(self, stage: str) -> None:
        """Compile the network for training, in each process by itself."""
        if self.settings.compile:
            self._call = torch.compile(self.network.forward)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor, AugmentationParams]]:
        """Return the crops of this process, batch by batch."""
        trainer = self.trainer
        sampler = CropSampler(len(self.crops), trainer.global_rank, trainer.world_size)
        # Workers read ahead before Lightning tells the sampler the epoch with which a training goes on.
        progress: Any = trainer.fit_loop.epoch_progress.current
        sampler.set_epoch(progress.processed)
        return self._batches(self.crops, sampler)

    def training_step(self, batch: tuple[Tensor, Tensor, AugmentationParams], batch_idx: int) -> Tensor:
        """Return the loss of a batch of `Crops`."""
        inputs, truth = self.crops.augmentation(batch)
        return self.loss(self._call(inputs.contiguous(memory_format=torch.channels_last)), truth)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer and what sets its rates at each step."""
        optimizer = build_optimizer(self.network, self.stages, self.settings)
        steps = -(-self.crops.plan.steps // self.settings.accumulate)
        schedule = build_schedule(optimizer, self.settings, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Seed what is random in the network, and let those parts learn that do so now."""
        torch.manual_seed(self.seed + self.current_epoch * self.trainer.world_size + self.trainer.global_rank)
        freeze(self.network, self.settings.freeze, self.stages, self.current_epoch, self.settings.epochs)

    def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:
        """Take the weights into their average where they are due."""
        if self.average is None:
            return
        last = self.trainer.is_last_batch
        stepped = last or (batch_idx + 1) % self.settings.accumulate == 0
        if stepped if self.settings.average == "ema" else last and self.current_epoch >= swa_start(self.settings):
            self.average.update_parameters(self.network)

    def _batches(self, data: Dataset[Any], sampler: Sampler[int] | None = None) -> DataLoader[Any]:
        """Return data in batches, of which each process has its share."""
        processes = self.trainer.world_size
        workers = self.workers // processes
        return DataLoader(
            data,
            self.crops.plan.batch // processes,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.on_gpu,
            generator=torch.Generator(),
        )
