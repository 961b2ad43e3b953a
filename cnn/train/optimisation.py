"""Optimizers, schedules of the learning rate and averages of the weights, by name."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cnn.settings import CnnSettings, OptimizerName, ScheduleName

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "MovingAverage",
    "Schedule",
    "build_average",
    "build_optimizer",
    "build_schedule",
    "lower_rate",
    "lr_step_epochs",
    "swa_start",
]

Tensors = tuple[Tensor, ...] | list[Tensor]

OPTIMIZERS: dict[OptimizerName, Callable[[list[dict[str, Any]], CnnSettings], Optimizer]] = {
    "adamw": lambda groups, settings: AdamW(groups, settings.learning_rate),
    "adam": lambda groups, settings: Adam(groups, settings.learning_rate),
    "sgd": lambda groups, settings: SGD(groups, settings.learning_rate, settings.momentum),
}


@dataclass(frozen=True)
class Schedule:
    """A course of the learning rate.

    Parameters
    ----------
    warmup : float
        Share of the steps in which the rate rises, unless the settings say otherwise.
    factor : callable
        (share of the steps after the warm-up, epoch, settings) → what the rate is multiplied with. None where torch
        has the whole course.
    """

    warmup: float
    factor: Callable[[float, int, CnnSettings], float] | None = None


SCHEDULES: dict[ScheduleName, Schedule] = {
    # Smith and Topin 2018, Super-convergence, arXiv:1708.07120.
    "one_cycle": Schedule(0.3),
    # Loshchilov and Hutter 2017, SGDR, arXiv:1608.03983, without restarts.
    "cosine": Schedule(0.05, lambda share, epoch, settings: (1 + math.cos(math.pi * share)) / 2),
    "step": Schedule(0.05, lambda share, epoch, settings: settings.lr_factor ** (epoch // lr_step_epochs(settings))),
    # The scores of the epochs lower its rate; see `lower_rate`.
    "plateau": Schedule(0.05, lambda share, epoch, settings: 1.0),
    "constant": Schedule(0.05, lambda share, epoch, settings: 1.0),
}


def build_optimizer(network: nn.Module, stages: Mapping[str, int], settings: CnnSettings) -> Optimizer:
    """Return the optimizer of a network's weights.

    Biases and the weights of normalisation, those of one dimension, do not decay. A weight of stage k of n of the
    encoder learns at ``layer_decay ** (n - k)`` times the rate of the decoder.

    Parameters
    ----------
    network : nn.Module
    stages : mapping
        Of the encoder's weights; see `cnn.network.encoder_stages.encoder_stages`. Empty where all learn at one rate.
    settings : CnnSettings
    """
    depth = max(stages.values(), default=-1) + 1
    groups: dict[tuple[int, bool], list[Tensor]] = {}
    for name, weight in network.named_parameters():
        groups.setdefault((depth - stages.get(name, depth), weight.ndim > 1), []).append(weight)
    return OPTIMIZERS[settings.optimizer](
        [
            {
                "params": weights,
                "lr": settings.learning_rate * settings.layer_decay**height,
                "weight_decay": settings.weight_decay if decays else 0.0,
            }
            for (height, decays), weights in groups.items()
        ],
        settings,
    )


def build_schedule(optimizer: Optimizer, settings: CnnSettings, steps: int) -> LRScheduler:
    """Return what sets the learning rates before each step of an epoch of ``steps``."""
    schedule, total = SCHEDULES[settings.schedule], settings.epochs * steps
    warmup = schedule.warmup if settings.warmup is None else settings.warmup
    if schedule.factor is None:
        highest = [group["lr"] for group in optimizer.param_groups]
        cycle = optimizer.defaults.get("momentum") != 0
        return OneCycleLR(optimizer, highest, total, pct_start=warmup, cycle_momentum=cycle)
    factor, rise = schedule.factor, round(warmup * total)

    def rate(step: int) -> float:
        if step < rise:
            return (step + 1) / (rise + 1)
        return factor((step - rise) / max(total - rise, 1), step // steps, settings)

    return LambdaLR(optimizer, rate)


def lower_rate(optimizer: Optimizer, schedule: LRScheduler, factor: float) -> None:
    """Multiply the rates of a schedule by a factor from the next step on."""
    schedule.base_lrs = [rate * factor for rate in schedule.base_lrs]
    for group in optimizer.param_groups:
        group["lr"] *= factor


@dataclass(frozen=True)
class MovingAverage:
    """Exponential moving average of weights that forgets its first steps faster.

    After n steps it keeps ``min(decay, (1 + n) / (10 + n))`` of itself, or few steps would leave it where it began
    (as TensorFlow's ExponentialMovingAverage does).
    """

    decay: float

    def __call__(self, averaged: Tensors, present: Tensors, count: Tensor | int) -> None:
        """Move the averaged tensors, of which ``count`` steps are part, towards the present ones."""
        taken = int(count)
        average: Any = get_ema_multi_avg_fn(min(self.decay, (1 + taken) / (10 + taken)))  # type: ignore[no-untyped-call]
        average(averaged, present, count)


def build_average(network: nn.Module, settings: CnnSettings) -> AveragedModel | None:
    """Return the average of a network's weights and batch statistics that is applied in its place, if any."""
    if settings.average == "none":
        return None
    how = MovingAverage(settings.ema_decay) if settings.average == "ema" else None
    average = AveragedModel(network, multi_avg_fn=how, use_buffers=True)
    average.requires_grad_(False)
    return average


def swa_start(settings: CnnSettings) -> int:
    """Return the first epoch at whose end swa takes the weights into its mean.

    Izmailov et al. 2018, Averaging weights leads to wider optima and better generalization, arXiv:1803.05407.
    """
    return min(settings.epochs - 1, math.ceil(settings.epochs * (1 - settings.swa_share)))


def lr_step_epochs(settings: CnnSettings) -> int:
    """Return the epochs after which the rate is lowered (step), or without a gain (plateau)."""
    share = 3 if settings.schedule == "step" else 10
    return settings.lr_step_epochs or max(1, settings.epochs // share)
