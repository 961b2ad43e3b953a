import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnn.inputs.d4 import TURNS, turn, unturn
from cnn.inputs.normalisation import Normalisation
from cnn.predict.applied import Applied, Mean, Turned

NORMALISATION = Normalisation((500.0, 80.0), (50.0, 33.0), clip=1.5)


class Seen(nn.Module):
    """Keeps what it was given, and says a third of it."""

    def forward(self, inputs: Tensor) -> Tensor:
        self.inputs = inputs
        return inputs / 3


@pytest.fixture
def planes() -> Tensor:
    """Two windows of two planes, NaN here and there."""
    values = np.random.default_rng(0).normal([[[[500]], [[80]]]], 60, (2, 2, 16, 24)).astype(np.float32)
    values[0, 0, :3, :5] = np.nan
    return torch.from_numpy(values)


@pytest.mark.parametrize("clip", [None, 1.5])
def test_a_network_is_given_what_it_was_given_in_training(planes: Tensor, clip: float | None) -> None:
    normalisation = Normalisation(NORMALISATION.offset, NORMALISATION.scale, clip)
    network = Seen()
    Applied(network, normalisation)(planes)
    for window, seen in zip(planes.numpy(), network.inputs.numpy(), strict=True):
        np.testing.assert_array_equal(seen, normalisation.apply(window))


def test_logits_become_probabilities(planes: Tensor) -> None:
    two = Applied(Seen(), NORMALISATION)(planes)
    torch.testing.assert_close(two.sum(dim=1), torch.ones(2, 16, 24))
    one = Applied(nn.Conv2d(2, 1, 1), NORMALISATION)(planes)
    assert one.shape == (2, 1, 16, 24)
    assert ((one > 0) & (one < 1)).all()


@pytest.mark.parametrize(("resize", "wanted"), [(2.0, (32, 48)), (0.5, (8, 16)), (1.3, (24, 32))])
def test_a_network_sees_multiples_of_what_it_must(planes: Tensor, resize: float, wanted: tuple[int, int]) -> None:
    network = Seen()
    proba = Applied(network, NORMALISATION, resize, multiple=8)(planes)
    assert network.inputs.shape[-2:] == wanted
    assert not network.inputs.isnan().any()
    assert proba.shape == planes.shape


def test_the_mean_of_models_is_that_of_their_probabilities_each_with_its_own_normalisation(planes: Tensor) -> None:
    other = Normalisation((500.0, 100.0), (50.0, 33.0))
    models = [Applied(Seen(), NORMALISATION), Applied(Seen(), other)]
    torch.testing.assert_close(Mean(models)(planes), (models[0](planes) + models[1](planes)) / 2)


def test_turns_are_averaged_over_probabilities_and_turned_back(planes: Tensor) -> None:
    torch.manual_seed(0)
    model = Applied(nn.Conv2d(2, 3, 3, padding=1), NORMALISATION)
    each = torch.stack([unturn(model(turn(planes, way)), way) for way in TURNS])
    turned = Turned(model)
    torch.testing.assert_close(turned(planes), each.mean(dim=0))
    assert (each - each[0]).abs().max() > 0.01, "or the test shows nothing"
    # All eight together do not care how the window lies.
    torch.testing.assert_close(turned(turn(planes, 5)), turn(turned(planes), 5))
