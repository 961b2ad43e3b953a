import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import cnn.export
from cnn.export import ByName, export_member, random_windows, trace
from cnn.member import CnnMember
from cnn.predict.applied import Mean
from data.errors import MemberError
from data.files import read_json


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Stand in for the libraries of ONNX: the file is torch's recording, and the runtime torch plus an error."""
    how = SimpleNamespace(error=0.0, options={})

    def export(program: torch.export.ExportedProgram, args: tuple[()], path: Path, **options: Any) -> None:
        how.options, how.program = options, program.module()
        path.write_bytes(b"a graph")

    class Session:
        def __init__(self, path: str, providers: list[str]) -> None:
            assert Path(path).read_bytes() == b"a graph"

        def run(self, outputs: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            assert outputs == how.options["output_names"]
            channels = [torch.from_numpy(inputs[name]) for name in how.options["input_names"]]
            with torch.no_grad():
                return [how.program(*channels).numpy() + how.error]

    monkeypatch.setattr(torch.onnx, "export", export)
    monkeypatch.setattr(cnn.export, "onnx_library", lambda name: SimpleNamespace(InferenceSession=Session))
    monkeypatch.setattr(cnn.export, "version", lambda name: "1")
    return how


@pytest.mark.parametrize("classes", [("bright",), ("dark", "bright", "edge")])
def test_a_recorded_graph_takes_windows_of_any_size_and_number(
    make_member: Callable[..., CnnMember], classes: tuple[str, ...]
) -> None:
    member = make_member(classes)
    model = ByName(Mean([member.apply_fold(fold) for fold in member.folds])).eval()
    program, any_size = trace(model, member)
    assert any_size
    windows = random_windows(member, 0, any_size)
    assert len({channel.shape for channels in windows for channel in channels}) == 4
    assert all(np.isnan(channel).any() and not np.isnan(channel).all() for channels in windows for channel in channels)
    for channels in ([torch.from_numpy(channel) for channel in window] for window in windows):
        with torch.no_grad():
            proba = program.module()(*channels)
            torch.testing.assert_close(proba, model(*channels), rtol=0, atol=1e-5)
        assert proba.shape == (len(channels[0]), len(classes), *channels[0].shape[1:])


def test_a_network_that_takes_one_size_is_recorded_for_that_one(make_member: Callable[..., CnnMember]) -> None:
    member = make_member(fixed_size=True)
    program, any_size = trace(ByName(Mean([member.apply_fold(0)])).eval(), member)
    assert not any_size
    for channels in random_windows(member, 0, any_size):
        with torch.no_grad():
            assert program.module()(*map(torch.from_numpy, channels)).shape == (len(channels[0]), 2, 16, 16)


def test_a_network_that_cannot_be_recorded_for_other_sizes_is_for_one(
    make_member: Callable[..., CnnMember], caplog: pytest.LogCaptureFixture
) -> None:
    class Picky(torch.nn.Module):
        def forward(self, channels: torch.Tensor) -> torch.Tensor:
            return channels[:, :2] / (channels.shape[-1] if channels.shape[-1] < 30 else 7)

    member = make_member()
    _, any_size = trace(ByName(Picky()).eval(), member)
    assert not any_size
    assert "windows of 16 × 16 pixels alone, since unet cannot be recorded for others" in caplog.text


def test_the_card_says_how_the_file_is_used(
    make_member: Callable[..., CnnMember], pretend: SimpleNamespace, tmp_path: Path
) -> None:
    pretend.error = 3e-5
    member = make_member()
    difference = export_member(member, tmp_path / "out" / "net.onnx")
    assert difference == pytest.approx(3e-5, rel=0.1)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"net.onnx", "net.json"}
    assert pretend.options["input_names"] == member.feature_set.names
    card = read_json(tmp_path / "out" / "net.json")
    assert card["difference_from_torch"] == difference
    assert card["folds"] == [0, 1]
    assert [channel["name"] for channel in card["inputs"]["channels"]] == list(member.feature_set.names)
    assert card["inputs"]["channels"][0]["definition"]
    assert card["inputs"]["sides"] == {"multiple_of": 4, "at_least": 16}
    assert card["bands"] == ["red", "nir", "qa"]
    assert card["output"]["classes"] == ["dark", "bright"]
    assert card["output"]["of"] == "softmax"
    assert card["normalisation"]["1"] == {"offset": [0.0] * 3, "scale": [99.0] * 3, "clip": 2.0}
    assert set(card["versions"]) == {"terrablend", "torch", "onnx", "onnxscript", "onnxruntime"}


def test_one_fold_alone_can_be_written(
    make_member: Callable[..., CnnMember], pretend: SimpleNamespace, tmp_path: Path
) -> None:
    member = make_member()
    export_member(member, tmp_path / "one.onnx", folds=[1])
    assert read_json(tmp_path / "one.json")["folds"] == [1]
    channels = [torch.from_numpy(channel) for channel in random_windows(member, 1, True)[0]]
    with torch.inference_mode():
        torch.testing.assert_close(pretend.program(*channels), member.apply_fold(1)(torch.stack(channels, 1)))


@pytest.mark.parametrize("error", [1e-3, np.nan])
def test_a_file_that_says_something_else_is_refused_and_not_left(
    make_member: Callable[..., CnnMember], pretend: SimpleNamespace, tmp_path: Path, error: float
) -> None:
    pretend.error = error
    with pytest.raises(MemberError, match=r"expected the probabilities of torch to within 0\.0001"):
        export_member(make_member(), tmp_path / "out" / "net.onnx")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.usefixtures("pretend")
def test_what_cannot_be_written_says_why(make_member: Callable[..., CnnMember], tmp_path: Path) -> None:
    with pytest.raises(MemberError, match=r"ends in .onnx. Write -o .*net.onnx"):
        export_member(make_member(), tmp_path / "net.pt")
    with pytest.raises(MemberError, match="expected the network of fold 7"):
        export_member(make_member(), tmp_path / "net.onnx", folds=[7])
    with pytest.raises(MemberError, match=r"Train it without normalise\.per_scene"):
        export_member(make_member(normalise={"per_scene": True}), tmp_path / "net.onnx")
    with pytest.raises(MemberError, match="Write fewer folds"):
        export_member(make_member(), tmp_path / "net.onnx", most_bytes=1000)


def test_a_missing_library_names_the_extra(
    make_member: Callable[..., CnnMember], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MemberError, match=r"expected onnx.*pip install terrablend\[onnx\]"):
        export_member(make_member(), tmp_path / "net.onnx")


@pytest.mark.parametrize("classes", [("bright",), ("dark", "bright", "edge")])
def test_the_runtime_of_onnx_says_what_the_member_says(
    make_member: Callable[..., CnnMember], tmp_path: Path, classes: tuple[str, ...]
) -> None:
    for library in ("onnx", "onnxscript"):
        pytest.importorskip(library)
    runtime = pytest.importorskip("onnxruntime")
    member = make_member(classes)
    assert export_member(member, tmp_path / "net.onnx") < 1e-5
    session = runtime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    names = member.feature_set.names
    assert tuple(node.name for node in session.get_inputs()) == names
    assert [node.name for node in session.get_outputs()] == ["proba"]
    channels = [np.random.default_rng(1).normal(100, 90, (3, 20, 36)).astype(np.float32) for _ in names]
    channels[1][:, 4:9] = np.nan
    [proba] = session.run(None, dict(zip(names, channels, strict=True)))
    with torch.inference_mode():
        wanted = Mean([member.apply_fold(fold) for fold in member.folds])(torch.from_numpy(np.stack(channels, 1)))
    np.testing.assert_allclose(proba, wanted, atol=1e-5)
