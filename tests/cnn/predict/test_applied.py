import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnn.inputs.d4 import D4, apply_d4, invert_d4
from cnn.inputs.normalisation import Normalisation
from cnn.predict.applied import Applied, D4Mean, Mean

NORMALISATION = Normalisation((500.0, 80.0), (50.0, 33.0), clip=1.5)


class Seen(nn.Module):
    """Keeps what it was given, and says a third of it."""

    def forward(self, inputs: Tensor) -> Tensor:
        self.inputs = inputs
        return inputs / 3


@pytest.fixture
def channels() -> Tensor:
    """Two windows of two channels, NaN here and there."""
    values = np.random.default_rng(0).normal([[[[500]], [[80]]]], 60, (2, 2, 16, 24)).astype(np.float32)
    values[0, 0, :3, :5] = np.nan
    return torch.from_numpy(values)


@pytest.mark.parametrize("clip", [None, 1.5])
def test_a_network_is_given_what_it_was_given_in_training(channels: Tensor, clip: float | None) -> None:
    normalisation = Normalisation(NORMALISATION.offset, NORMALISATION.scale, clip)
    network = Seen()
    Applied(network, normalisation)(channels)
    for window, seen in zip(channels.numpy(), network.inputs.numpy(), strict=True):
        np.testing.assert_array_equal(seen, normalisation.apply(window))


def test_logits_become_probabilities(channels: Tensor) -> None:
    two = Applied(Seen(), NORMALISATION)(channels)
    torch.testing.assert_close(two.sum(dim=1), torch.ones(2, 16, 24))
    one = Applied(nn.Conv2d(2, 1, 1), NORMALISATION)(channels)
    assert one.shape == (2, 1, 16, 24)
    assert ((one > 0) & (one < 1)).all()


@pytest.mark.parametrize(("resize", "wanted"), [(2.0, (32, 48)), (0.5, (8, 16)), (1.3, (24, 32))])
def test_a_network_sees_multiples_of_what_it_must(channels: Tensor, resize: float, wanted: tuple[int, int]) -> None:
    network = Seen()
    proba = Applied(network, NORMALISATION, resize, multiple=8)(channels)
    assert network.inputs.shape[-2:] == wanted
    assert not network.inputs.isnan().any()
    assert proba.shape == channels.shape


def test_the_mean_of_models_is_that_of_their_probabilities_each_with_its_own_normalisation(channels: Tensor) -> None:
    other = Normalisation((500.0, 100.0), (50.0, 33.0))
    models = [Applied(Seen(), NORMALISATION), Applied(Seen(), other)]
    torch.testing.assert_close(Mean(models)(channels), (models[0](channels) + models[1](channels)) / 2)


def test_turns_are_averaged_over_probabilities_and_turned_back(channels: Tensor) -> None:
    torch.manual_seed(0)
    model = Applied(nn.Conv2d(2, 3, 3, padding=1), NORMALISATION)
    each = torch.stack([invert_d4(model(apply_d4(channels, element)), element) for element in D4])
    turned = D4Mean(model)
    torch.testing.assert_close(turned(channels), each.mean(dim=0))
    assert (each - each[0]).abs().max() > 0.01, "or the test shows nothing"
    # All eight together do not care how the window lies.
    torch.testing.assert_close(turned(apply_d4(channels, 5)), apply_d4(turned(channels), 5))
