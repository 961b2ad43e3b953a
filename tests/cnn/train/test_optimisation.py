import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from cnn.network.encoder_stages import encoder_stages
from cnn.network.network import build_network
from cnn.settings import CnnSettings
from cnn.train.optimisation import (
    OPTIMIZERS,
    SCHEDULES,
    build_average,
    build_optimizer,
    build_schedule,
    lower_rate,
    lr_step_epochs,
    swa_start,
)

STEPS = 5


def rates_of(optimizer: Optimizer, settings: CnnSettings, cut_after: int | None = None) -> list[float]:
    """Return the rate of each step of a training."""
    schedule, rates = build_schedule(optimizer, settings, STEPS), []
    for step in range(settings.epochs * STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
        if step + 1 == cut_after:
            lower_rate(optimizer, schedule, settings.lr_factor)
    return rates


def one_weight(rate: float = 0.1) -> Optimizer:
    return SGD([nn.Parameter(torch.zeros(1))], rate)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_have_their_own_defaults_and_take_what_is_given(name: Any) -> None:
    kind = {"adamw": AdamW, "adam": Adam, "sgd": SGD}[name]
    settings = CnnSettings(optimizer=name)
    optimizer = build_optimizer(nn.Linear(2, 2), {}, settings)
    assert type(optimizer) is kind
    expected = {"adamw": (1e-3, 1e-2), "adam": (1e-3, 0.0), "sgd": (0.05, 1e-4)}[name]
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == expected
    given = CnnSettings(optimizer=name, learning_rate=0.5, weight_decay=0.25, momentum=0.5)
    group = build_optimizer(nn.Linear(2, 2), {}, given).param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)
    assert group.get("momentum", 0.5) == 0.5


def test_every_weight_learns_once_and_only_matrices_decay() -> None:
    network = build_network(CnnSettings(encoder="resnet18", encoder_depth=3), 3, 1)
    optimizer = build_optimizer(network, {}, CnnSettings(weight_decay=0.5))
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    assert {id(weight) for weight in weights} == {id(weight) for weight in network.parameters()}
    assert len(weights) == len(list(network.parameters()))
    for group in optimizer.param_groups:
        assert {group["weight_decay"]} == {0.5 if weight.ndim > 1 else 0.0 for weight in group["params"]}


def test_each_stage_of_the_encoder_learns_at_a_share_of_the_rate_of_the_next_deeper_one() -> None:
    settings = CnnSettings(encoder="resnet18", encoder_depth=3, learning_rate=1.0, layer_decay=0.5)
    network = build_network(settings, 3, 1)
    optimizer = build_optimizer(network, encoder_stages(network, 3, 64), settings)
    rates = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    names = {name: rates[id(weight)] for name, weight in network.named_parameters()}
    assert names["encoder.conv1.weight"] == 0.5**3
    assert names["encoder.layer1.0.conv1.weight"] == 0.5**2
    assert names["encoder.layer2.0.bn1.bias"] == 0.5
    assert {rate for name, rate in names.items() if not name.startswith("encoder.")} == {1.0}


def test_one_cycle_rises_for_a_third_and_ends_at_nothing() -> None:
    rates = rates_of(one_weight(), CnnSettings(epochs=20))
    assert rates.index(max(rates)) == round(0.3 * len(rates)) - 1
    assert max(rates) == pytest.approx(0.1)
    assert rates[-1] < 1e-5


def test_cosine_is_half_a_wave_after_a_linear_rise() -> None:
    rates = rates_of(one_weight(), CnnSettings(schedule="cosine", epochs=20, warmup=0.2))
    assert rates[:20] == pytest.approx([0.1 * (step + 1) / 21 for step in range(20)])
    assert rates[20:] == pytest.approx([0.05 * (1 + math.cos(math.pi * step / 80)) for step in range(80)])


def test_step_cuts_the_rate_after_every_so_many_epochs() -> None:
    rates = rates_of(one_weight(), CnnSettings(schedule="step", epochs=9, lr_factor=0.5, warmup=0))
    assert rates == pytest.approx([0.1] * 15 + [0.05] * 15 + [0.025] * 15)
    assert lr_step_epochs(CnnSettings(schedule="step", epochs=9, lr_step_epochs=2)) == 2


def test_constant_is_constant_and_a_cut_holds_from_the_next_step_on() -> None:
    settings = CnnSettings(schedule="constant", epochs=4, warmup=0)
    assert rates_of(one_weight(), settings) == pytest.approx([0.1] * 20)
    settings = CnnSettings(schedule="plateau", epochs=4, warmup=0, lr_factor=0.2)
    assert rates_of(one_weight(), settings, cut_after=10) == pytest.approx([0.1] * 10 + [0.02] * 10)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_schedules_keep_the_ratio_of_the_rates_of_stages(schedule: Any, optimizer: Any) -> None:
    settings = CnnSettings(schedule=schedule, optimizer=optimizer, epochs=4, momentum=0)
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": [weight], "lr": rate} for weight, rate in zip(weights, (0.1, 0.01), strict=True)]
    made = OPTIMIZERS[optimizer](groups, settings)
    plan = build_schedule(made, settings, STEPS)
    for _ in range(4 * STEPS - 1):
        first, second = (group["lr"] for group in made.param_groups)
        assert first == pytest.approx(10 * second)
        made.step()
        plan.step()


def network_of(value: float) -> nn.Module:
    network = nn.BatchNorm1d(1)
    nn.init.constant_(network.weight, value)
    network.running_mean.fill_(10 * value)  # type: ignore[union-attr]
    return network


def averaged(settings: CnnSettings, values: list[float]) -> tuple[float, float]:
    average = build_average(network_of(7.0), settings)
    assert average is not None
    for value in values:
        average.update_parameters(network_of(value))
    inner: Any = average.module
    return inner.weight.item(), inner.running_mean.item()


def test_the_moving_average_is_that_of_a_loop_and_forgets_where_it_began() -> None:
    values = [1.0, 4.0, 2.0, 8.0, 3.0]
    expected = values[0]
    for step, value in enumerate(values[1:], start=1):
        decay = min(0.25, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    settings = CnnSettings(average="ema", ema_decay=0.25)
    assert averaged(settings, values) == pytest.approx((expected, 10 * expected))


def test_swa_is_the_mean_of_weights_and_batch_statistics() -> None:
    assert averaged(CnnSettings(average="swa"), [1.0, 4.0, 4.0]) == pytest.approx((3.0, 30.0))
    assert [swa_start(CnnSettings(epochs=epochs)) for epochs in (1, 2, 8, 50)] == [0, 1, 6, 38]


def test_without_an_average_none_is_kept() -> None:
    assert build_average(network_of(1.0), CnnSettings()) is None
