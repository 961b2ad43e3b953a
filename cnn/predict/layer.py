"""Features of a layer of a network at the resolution of its input, and the components that they are reduced to."""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate

from cnn.network.network import NOT_TAKEN, first_line
from cnn.predict.applied import Applied
from cnn.predict.common_axes import Axes
from data.errors import MemberError

__all__ = ["LayerComponents", "LayerFeatures", "require_layer"]

REACH = 6.0
"""Standard deviations that components are cut at: they are mapped from -REACH … REACH to 0 … 1."""


class LayerFeatures(nn.Module):
    """The features of a layer, at the resolution of the channels.

    Parameters
    ----------
    applied : Applied
    layer : str
        decoder, or encoder.N.
    """

    def __init__(self, applied: Applied, layer: str) -> None:
        super().__init__()
        self.applied, self.layer = applied, layer

    def forward(self, channels: Tensor) -> Tensor:
        """Turn channels (N, C, H, W), NaN where there is no data, into features (N, F, H, W) float32."""
        return _enlarge(self.coarse(channels), channels)

    def coarse(self, channels: Tensor) -> Tensor:
        """Return the features (N, F, h, w) float32 as the network computes them."""
        return _features(self.applied.network, self.applied.prepare(channels), self.layer).float()


class LayerComponents(LayerFeatures):
    """The components of the features of a layer, from 0 to 1, at the resolution of the channels."""

    weight: Tensor
    bias: Tensor

    def __init__(self, applied: Applied, layer: str, axes: Axes) -> None:
        super().__init__(applied, layer)
        self.register_buffer("weight", torch.from_numpy(axes.weight)[:, :, None, None])
        self.register_buffer("bias", torch.from_numpy(axes.bias))

    def forward(self, channels: Tensor) -> Tensor:
        """Turn channels (N, C, H, W), NaN where there is no data, into components (N, D, H, W) float32."""
        features = self.coarse(channels)
        with torch.autocast(features.device.type, enabled=False):
            components = conv2d(features, self.weight, self.bias)
        return _enlarge((components / (2 * REACH) + 0.5).clamp(0, 1), channels)


def require_layer(network: nn.Module, in_channels: int, side: int, layer: str) -> int:
    """Return the number of features of a layer.

    Raises
    ------
    MemberError
        If the network has no such layer.
    """
    parameter = next(network.parameters())
    try:
        with torch.inference_mode():
            zeros = torch.zeros(1, in_channels, side, side, device=parameter.device)
            features: int = _features(network, zeros, layer).shape[1]
    except (IndexError, TypeError, AttributeError, *NOT_TAKEN) as error:
        raise MemberError(
            f"layer {layer}: expected a layer of the network, got: {first_line(error)}. Name decoder, or encoder.1 and "
            "so on."
        ) from error
    if features == 0:
        raise MemberError(f"layer {layer}: expected a layer of the network, got one without features. Name another.")
    return features


def _features(network: nn.Module, channels: Tensor, layer: str) -> Tensor:
    outputs = network.encoder(channels)  # type: ignore[operator]
    if layer == "decoder":
        decoded: Tensor = network.decoder(outputs)  # type: ignore[operator]
        return decoded
    # Encoders of the ViT kind give out their tokens too; the first output is the input itself.
    maps = outputs[0] if isinstance(outputs, tuple) else outputs
    features: Tensor = maps[int(layer.removeprefix("encoder."))]
    return features


def _enlarge(values: Tensor, channels: Tensor) -> Tensor:
    size = channels.shape[-2:]
    return values if values.shape[-2:] == size else interpolate(values, size, mode="bilinear")
