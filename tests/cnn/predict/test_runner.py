import threading

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnn.machine import choose_precision, fast_on_cpu
from cnn.predict.runner import FIRST_ON_GPU, Runner
from data.errors import MemberError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Watched(nn.Module):
    """Says twice what it is given, and keeps how it was called."""

    def __init__(self, most: int = 1000) -> None:
        super().__init__()
        self.most = most
        self.calls: list[tuple[int, int, str]] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls.append((len(inputs), torch.get_num_threads(), threading.current_thread().name))
        if len(inputs) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.")
        return inputs * 2


class OnThisMachine(Runner):
    """Runs as on a GPU, on the CPU."""

    def __init__(self, at_once: int | None = None) -> None:
        super().__init__(CUDA, torch.float32, at_once=at_once)
        self.device = CPU

    def apply(self, model, windows):
        return self._in_batches(model, windows)


@pytest.fixture
def windows() -> list[np.ndarray]:
    return list(np.random.default_rng(0).normal(size=(7, 2, 8, 8)).astype(np.float32))


def check(runner: Runner, model: nn.Module, windows: list[np.ndarray]) -> None:
    np.testing.assert_array_equal(list(runner.apply(model, windows)), 2 * np.array(windows))


@pytest.mark.parametrize(
    ("threads", "at_once", "lanes", "each"),
    [(1, None, 1, 1), (3, None, 3, 1), (3, 2, 2, 1), (4, 2, 2, 2), (2, 6, 6, 1), (64, None, 7, 9)],
)
def test_a_cpu_works_on_each_window_in_a_thread_of_its_own(
    windows: list[np.ndarray], threads: int, at_once: int | None, lanes: int, each: int
) -> None:
    model, before = Watched(), torch.get_num_threads()
    check(Runner(CPU, torch.float32, threads, at_once), model, windows)
    assert {count for count, _, _ in model.calls} == {1}
    assert {inner for _, inner, _ in model.calls} == {each}
    assert len({name for _, _, name in model.calls}) <= lanes
    assert threading.current_thread().name not in {name for _, _, name in model.calls}
    assert torch.get_num_threads() == before


def test_the_number_of_windows_at_once_changes_no_bit() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 3, padding=1)).eval()
    windows = list(np.random.default_rng(0).normal(size=(6, 2, 48, 48)).astype(np.float32))
    for precision in (torch.float32, torch.bfloat16):
        one, four = (list(Runner(CPU, precision, threads).apply(model, windows)) for threads in (1, 4))
        np.testing.assert_array_equal(one, four)


def test_a_gpu_takes_as_many_windows_as_fit_its_memory(windows: list[np.ndarray]) -> None:
    model, runner = Watched(most=2), OnThisMachine()
    assert runner.at_once == FIRST_ON_GPU
    check(runner, model, windows)
    assert [count for count, _, _ in model.calls] == [7, 3, 1] + [1] * 6
    model, runner = Watched(most=4), OnThisMachine(at_once=6)
    check(runner, model, windows)
    assert [count for count, _, _ in model.calls] == [6, 3, 3, 1]
    model.calls.clear()
    check(runner, model, windows)
    assert [count for count, _, _ in model.calls] == [3, 3, 1], "what was found is kept"


def test_a_runner_says_what_it_is() -> None:
    assert str(Runner(CPU, torch.bfloat16, threads=3)) == "bfloat16 on cpu, 3 windows at once"


def test_a_window_that_does_not_fit_alone_says_what_to_do(windows: list[np.ndarray]) -> None:
    with pytest.raises(MemberError, match=r"window of 8 × 8 pixels to fit .* got: CUDA out of memory.*smaller tile"):
        list(OnThisMachine().apply(Watched(most=0), windows))


@pytest.mark.parametrize(
    ("known", "wanted"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": False, "avx512_f": True}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_a_cpu_computes_in_bfloat16_if_it_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, known: dict[str, bool], wanted: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    assert fast_on_cpu() == wanted
    assert choose_precision("auto", CPU, fast_on_cpu()) == wanted
    assert choose_precision("auto", CPU) == torch.float32, "as training does"
    assert choose_precision("bfloat16", CPU) == wanted, "without instructions it would be slower than float32"
    assert choose_precision("float16", CPU, fast_on_cpu()) == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_real_gpu_halves_what_does_not_fit() -> None:
    class Greedy(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            room = torch.cuda.get_device_properties(inputs.device).total_memory // 3
            torch.empty(room * len(inputs), dtype=torch.uint8, device=inputs.device)
            return inputs * 2

    windows = list(np.random.default_rng(0).normal(size=(9, 2, 8, 8)).astype(np.float32))
    runner = Runner(CUDA, torch.float32)
    check(runner, Greedy(), windows)
    assert runner.at_once == 2
