import numpy as np
import pytest
import torch

from cnn.inputs.normalisation import Normalisation
from cnn.network.network import build_network
from cnn.predict.applied import Applied
from cnn.predict.common_axes import Axes
from cnn.predict.layer import LayerComponents, LayerFeatures, require_layer
from cnn.settings import CnnSettings
from data.errors import MemberError

SETTINGS = CnnSettings(encoder="tu-regnetx_002", encoder_depth=2, decoder_channels=(16, 8))


@pytest.fixture(scope="module")
def applied():
    torch.manual_seed(0)
    normalisation = Normalisation((0.0, 1.0), (1.0, 2.0), None)
    return Applied(build_network(SETTINGS, 2, 1), normalisation).eval()


def channels():
    values = torch.randn(1, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    values[:, :, :4] = torch.nan
    return values


@torch.no_grad()
def test_the_head_of_the_network_makes_its_logits_of_the_features_of_the_decoder(applied):
    pixels = channels()
    features = LayerFeatures(applied, "decoder")(pixels)
    assert features.shape == (1, 8, 32, 32)
    torch.testing.assert_close(applied.network.segmentation_head(features).sigmoid(), applied(pixels))


@torch.no_grad()
def test_a_layer_of_the_encoder_is_brought_to_the_resolution_of_pixels(applied):
    pixels = channels()
    coarse = applied.network.encoder(applied.prepare(pixels))[2]
    features = LayerFeatures(applied, "encoder.2")(pixels)
    assert features.shape == (1, coarse.shape[1], 32, 32)
    blocks = features.unfold(2, 4, 4).unfold(3, 4, 4).mean((4, 5))
    torch.testing.assert_close(blocks[..., 1:-1, 1:-1].mean(), coarse[..., 1:-1, 1:-1].mean(), atol=0.05, rtol=0.05)


@torch.no_grad()
def test_components_are_the_features_on_the_axes_within_0_and_1(applied):
    rng = np.random.default_rng(0)
    axes = Axes(rng.normal(size=(3, 8)).astype(np.float32), rng.normal(size=3).astype(np.float32))
    pixels = channels()
    features = LayerFeatures(applied, "decoder")(pixels)[0].numpy()
    expected = np.einsum("dc,chw->dhw", axes.weight, features) + axes.bias[:, None, None]
    found = LayerComponents(applied, "decoder", axes)(pixels)[0].numpy()
    np.testing.assert_allclose(found, (expected / 12 + 0.5).clip(0, 1), atol=1e-5)


@pytest.mark.parametrize("layer", ["encoder.7", "bottleneck"])
def test_a_layer_that_is_not_there_is_refused(applied, layer):
    with pytest.raises((MemberError, ValueError)):
        require_layer(applied.network, 2, 32, layer)


def test_the_features_of_a_layer_are_counted(applied):
    assert require_layer(applied.network, 2, 32, "decoder") == 8
