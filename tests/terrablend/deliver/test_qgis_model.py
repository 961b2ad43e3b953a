"""The file for Deepness decides as the ensemble does, and is read by that plugin's rules."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from cnn.export import tile_model
from data.errors import EnsembleError, MemberError, OutputError
from data.maps.geotiff import quantise
from data.scenes.classes import Classes
from ensemble.decide.decision.blend import Blend
from ensemble.decide.decision.calibration import Calibration
from ensemble.decide.decision.decision import Decision
from ensemble.decide.decision.stacked import Stacked
from ensemble.ensemble import Ensemble
from terrablend.deliver.decided import Decided
from terrablend.deliver.qgis_model import Layer, deepness_metadata, export_for_qgis

from ...cnn.conftest import BINARY, MULTICLASS, make_member  # noqa: F401

BANDS = ("red", "nir", "qa")


def read_as_deepness(metadata):
    """Return the settings that Deepness takes from a file's metadata, by the rules of its ModelBase."""
    names = json.loads(metadata["class_names"])
    ordered = sorted(names.items(), key=lambda entry: int(entry[0]))
    assert [int(key) for key, _ in ordered] == [*range(len(ordered))], "class names must be consecutive"
    assert str(json.loads(metadata["model_type"])).capitalize() == "Segmentor"
    return {
        "names": [name for _, name in ordered],
        "resolution": float(json.loads(metadata["resolution"])),
        "tile": int(json.loads(metadata["tile_size"])),
        "overlap": int(json.loads(metadata["tiles_overlap"])),
        "threshold": float(json.loads(metadata["seg_thresh"])),
        "mean": [float(value) for value in json.loads(metadata["standardization_mean"])],
        "std": [float(value) for value in json.loads(metadata["standardization_std"])],
    }


def label_as_deepness(scores, threshold):
    """Return labels as Deepness makes them of scores (1, L, H, W)."""
    scores = np.where(scores < threshold, 0, scores)
    return scores.argmax(axis=1)


class Given(torch.nn.Module):
    """A model whose probabilities are its input."""

    def forward(self, channels):
        return channels


def decisions():
    """Yield decisions of two members on one class and on three."""
    beta, isotonic = (1.2, 0.8, 0.1), (0.1, 0.5, 0.9, 0.02, 0.6, 0.95)
    for space in ("probability", "logit", "largest", "smallest", "noisy-or"):
        yield Decision((Calibration(), Calibration("beta", (beta,))), Blend(((0.3, 0.7),), space), (0.413,))
        softened = Calibration("temperature", ((1.7,),) * 3, exclusive=True)
        weights = ((0.5, 0.5),) if space != "probability" else ((0.2, 0.8), (0.5, 0.5), (1.0, 0.0))
        yield Decision((softened, Calibration()), Blend(weights, space, exclusive=True), (1.0, 2.5, 0.7))
    yield Decision((Calibration("isotonic", (isotonic,)),), Blend(((1.0,),)), (0.0,))


@pytest.mark.parametrize("decision", [*decisions()], ids=lambda one: f"{one.blend.space}-{len(one.thresholds)}")
def test_scores_decide_as_the_ensemble_does(decision):
    rng, n_classes = np.random.default_rng(0), len(decision.thresholds)
    members = len(decision.calibrations)
    proba = rng.beta(0.6, 0.6, (members, n_classes, 60, 60)).astype(np.float32)
    if decision.blend.exclusive:
        proba /= proba.sum(axis=1, keepdims=True)
    places = [range(member * n_classes, (member + 1) * n_classes) for member in range(members)]
    decided = Decided([Given()] * members, places, decision)
    with torch.no_grad():
        scores = decided(torch.from_numpy(proba.reshape(1, -1, 60, 60))).numpy()
    assert scores.shape == (1, max(n_classes, 2), 60, 60)
    assert scores.min() >= 0
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
    wanted = decision.apply(np.stack([quantise(planes) for planes in proba]))[0]
    found = label_as_deepness(scores, 0.0 if decision.blend.exclusive else 0.5)[0]
    assert (found == wanted).mean() >= 0.999


def test_values_that_mean_no_data_are_none():
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, channels):
            seen.append(channels)
            return torch.full((1, 1, 2, 2), 0.5)

    layer = torch.tensor([[[[-32768.0, 7], [9, 3]]]]) / 255
    Decided([Spy()], [[0]], Decision((Calibration(),), Blend(((1.0,),)), (0.5,)), (-32768.0,), 255.0)(layer)
    assert torch.isnan(seen[0]).tolist() == [[[[True, False], [False, False]]]]
    torch.testing.assert_close(seen[0][0, 0, 1], torch.tensor([9.0, 3.0]))


def ensemble_of(classes, names, decision):
    return Ensemble(classes, names, "dice", decision, 0.5, "")


@pytest.mark.skipif(not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))), reason="no libraries of ONNX")
@pytest.mark.parametrize(
    "classes", [BINARY, pytest.param(MULTICLASS, marks=pytest.mark.slow)], ids=lambda classes: classes.task
)
def test_the_file_is_read_and_run_by_the_rules_of_deepness(classes, make_member, tmp_path):  # noqa: F811
    import onnx
    import onnxruntime

    members = [
        make_member(classes.names, inputs=inputs, name=name, tile=32, overlap=8)
        for name, inputs in (("a", ("nir", "red")), ("b", ("red",)))
    ]
    exclusive = classes.exclusive
    thresholds = (1.0, 1.6, 0.9) if exclusive else (0.45,)
    blend = Blend(((0.4, 0.6),), "logit", exclusive)
    ensemble = ensemble_of(classes, ("a", "b"), Decision((Calibration(), Calibration()), blend, thresholds))
    path, models = tmp_path / "model.onnx", [tile_model(member) for member in members]
    assert export_for_qgis(ensemble, models, Layer(BANDS, (-1.0,), 10.0), path) >= 0.999

    session = onnxruntime.InferenceSession(str(path))
    [given], [made] = session.get_inputs(), session.get_outputs()
    assert given.shape == [1, 3, 32, 32]
    assert made.shape == [1, len(classes.label_names), 32, 32]
    settings = read_as_deepness(session.get_modelmeta().custom_metadata_map)
    assert settings == {
        "names": list(classes.label_names),
        "resolution": 1000.0,
        "tile": 32,
        "overlap": 25,
        "threshold": 0.0 if exclusive else 0.5,
        "mean": [0.0] * 3,
        "std": [1.0] * 3,
    }
    tile = np.random.default_rng(0).normal((80, 500, 0), (40, 50, 1), (32, 32, 3)).astype(np.float32)
    # As Deepness prepares it: divided by 255, standardised, channels first.
    prepared = ((tile * 1.0 / 255.0 - settings["mean"]) / settings["std"]).astype(np.float32).transpose(2, 0, 1)[None]
    [scores] = session.run(None, {given.name: prepared})
    stored = []
    for member in members:
        channels = torch.from_numpy(tile[..., [BANDS.index(name) for name in member.channels.names]]).permute(2, 0, 1)
        with torch.no_grad():
            proba = sum(member.apply_fold(fold).eval()(channels[None].clone()) for fold in member.folds) / 2
        stored.append(quantise(proba[0].numpy()))
    wanted = ensemble.decide(ensemble.proba(np.stack(stored)))[0]
    assert (label_as_deepness(scores, settings["threshold"])[0] == wanted).mean() >= 0.999

    # An earlier export may be replaced, a file of somebody else's may not.
    export_for_qgis(ensemble, models, Layer(BANDS), path)
    assert "resolution" not in {entry.key for entry in onnx.load(str(path)).metadata_props}
    path.write_bytes(b"mine")
    with pytest.raises(OutputError):
        export_for_qgis(ensemble, models, Layer(BANDS), path)
    assert path.read_bytes() == b"mine"


def test_what_one_input_of_bands_cannot_hold_is_refused(make_member, tmp_path):  # noqa: F811
    plain = Decision((Calibration(),), Blend(((1.0,),)), (0.5,))
    path, bright = tmp_path / "model.onnx", tile_model(make_member(("bright",)))
    with pytest.raises(MemberError, match=r"expected bands alone as inputs, .* got NDVI, nir_mean_r3"):
        export_for_qgis(ensemble_of(BINARY, ("net",), plain), [bright], Layer(BANDS), path)
    stacked = Decision((Calibration(),), Stacked(((1.0,),), (0.0,)), (0.5,))
    with pytest.raises(EnsembleError, match="expected a mean of members, got a regression"):
        export_for_qgis(ensemble_of(BINARY, ("net",), stacked), [], Layer(BANDS), path)
    tags = Classes("multilabel", (0,), ("haze",), ((1, 2, 3),))
    with pytest.raises(EnsembleError, match="got the task multilabel"):
        export_for_qgis(ensemble_of(tags, ("net",), plain), [], Layer(BANDS), path)
    with pytest.raises(MemberError, match=r"a file name that ends in \.onnx"):
        export_for_qgis(ensemble_of(BINARY, ("net",), plain), [], Layer(BANDS), tmp_path / "model.bin")
    assert not list(tmp_path.glob("*.onnx"))
    told = deepness_metadata(ensemble_of(BINARY, ("net",), plain), [bright], Layer(BANDS), 64)
    assert json.loads(told["tile_size"]) == 64
