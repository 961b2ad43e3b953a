import pytest
import torch

from cnn.network.bounded import TooLargeError, no_larger_than
from cnn.network.network import build_network
from cnn.settings import CnnSettings
from data.errors import MemberError

SMALL = CnnSettings.model_validate(
    {"branch": "cnn", "encoder": "tu-mobilenetv3_small_050", "encoder_depth": 2, "decoder_channels": [8, 8]}
)


def test_a_network_is_built_within_the_size_of_its_file():
    tensors = build_network(SMALL, 3, 1).state_dict()
    with no_larger_than(tensors):
        again = build_network(SMALL, 3, 1).state_dict()
    assert {name: tensor.shape for name, tensor in again.items()} == {n: t.shape for n, t in tensors.items()}


def test_a_network_that_is_larger_than_its_file_asks_for_no_memory():
    tensors = build_network(SMALL, 3, 1).state_dict()
    vast = SMALL.model_copy(update={"decoder_channels": [10**7, 10**7]})
    with pytest.raises(MemberError, match="a network that is larger than its file"), no_larger_than(tensors):
        build_network(vast, 3, 1)
    with pytest.raises(TooLargeError), no_larger_than({}):
        torch.zeros(10**12)
