import torch

from cnn.machine import Machine
from data.workers import cores


def test_a_gpu_has_no_more_workers_than_threads_and_cores_allow() -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert Machine.of(gpu, 1).workers == 0
    assert Machine.of(gpu, 64).workers == min(cores(), 8)
    assert Machine.of(cpu, 64).workers == 0
