"""The network of tags: an encoder, a pooling of its deepest features, and a linear head."""

from collections.abc import Mapping
from typing import Any

from segmentation_models_pytorch.base import ClassificationHead
from segmentation_models_pytorch.base.initialization import initialize_head
from segmentation_models_pytorch.encoders import TimmViTEncoder, get_encoder
from torch import Tensor, nn

__all__ = ["Classifier"]


class Classifier(nn.Module):
    """An encoder with a classification head, built as smp builds its segmentation models.

    Parameters
    ----------
    encoder_name : str
    encoder_weights : str or bool or None
    in_channels : int
        Input channels.
    classes : int
        Tags.
    encoder_depth : int
    dropout : float in [0, 1)
        Share of the pooled features that a training step leaves out.
    pooling : {"avg", "max"}
        Of the features over the picture.
    kwargs
        Of timm's encoders.
    """

    def __init__(
        self,
        encoder_name: str,
        encoder_weights: str | bool | None,
        in_channels: int,
        classes: int,
        encoder_depth: int = 5,
        dropout: float = 0.2,
        pooling: str = "avg",
        **kwargs: Any,
    ) -> None:
        super().__init__()
        encoder: Any = _build_encoder(encoder_name, in_channels, encoder_depth, encoder_weights, kwargs)
        self.encoder = encoder
        self.classification_head = ClassificationHead(encoder.out_channels[-1], classes, pooling, dropout)
        initialize_head(self.classification_head)

    def forward(self, channels: Tensor) -> Tensor:
        """Turn channels (N, C, H, W) into logits (N, K), one a tag."""
        features: Any = self.encoder(channels)
        # Encoders of the ViT kind give out their tokens too.
        maps = features[0] if isinstance(features, tuple) else features
        logits: Tensor = self.classification_head(maps[-1])
        return logits


def _build_encoder(
    name: str, in_channels: int, depth: int, weights: str | bool | None, parameters: Mapping[str, Any]
) -> nn.Module:
    encoder: nn.Module
    try:
        encoder = get_encoder(name, in_channels=in_channels, depth=depth, weights=weights, **parameters)
    except ValueError:
        if not name.startswith("tu-"):
            raise
        # To smp transformers of a single scale are encoders of another kind.
        encoder = TimmViTEncoder(name[3:], weights is not None, in_channels, depth, **parameters)
    return encoder
