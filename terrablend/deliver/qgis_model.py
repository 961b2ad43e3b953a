"""Write a finished ensemble of networks as one ONNX file that the QGIS plugin Deepness runs on a layer.

Deepness [1]_ cuts a layer into square tiles, divides their values by 255, and gives them to the one input of a model,
bands in the layer's order; of the one output, a plane a label, the highest wins. What a user would else have to set is
in the file's metadata.

References
----------
.. [1] https://qgis-plugin-deepness.readthedocs.io, creators_add_metadata_to_model
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from data.errors import EnsembleError, MemberError
from data.files import replacing, require_replaceable, require_suffix
from data.libraries import onnx_library
from data.maps.geotiff import quantise
from ensemble.decide.decision.blend import Blend
from ensemble.ensemble import Ensemble
from ensemble.predict import model_id
from features.tile_model import TileModel
from terrablend.deliver.decided import Decided

__all__ = ["Layer", "deepness_metadata", "export_for_qgis"]

logger = logging.getLogger(__name__)

BYTES = 255.0
"""What Deepness divides a layer's values by."""
INPUT, OUTPUT = "layer", "scores"
ALIKE = 0.999
"""Share of pixels that must get the label that `predict` gives them, before cleaning."""


@dataclass(frozen=True)
class Layer:
    """A layer of QGIS that the model is for.

    Parameters
    ----------
    bands : tuple of str
        In the layer's order.
    nodata : tuple of float
        Values that mean no data.
    metres : float or None
        Side of a pixel on the ground; None where scenes do not tell.
    """

    bands: tuple[str, ...]
    nodata: tuple[float, ...] = ()
    metres: float | None = None


def export_for_qgis(ensemble: Ensemble, members: Sequence[TileModel], layer: Layer, path: Path) -> float:
    """Write the networks that an ensemble uses, and its decision on them, as one ONNX file.

    Parameters
    ----------
    ensemble : Ensemble
    members : sequence of TileModel
        Those of ``ensemble.used``, in that order.
    layer : Layer
    path : Path
        Ends in ``.onnx``.

    Returns
    -------
    share : float
        Of pixels of random tiles that get the label that the ensemble gives them.

    Raises
    ------
    EnsembleError
        If ONNX cannot hold the decision.
    MemberError
        If a network sees more than bands, the file does not decide as the ensemble, or a library is missing.
    OutputError
        If there is a file of this name that is no earlier export.
    """
    require_suffix(path, ".onnx")
    _require_networks(ensemble, members, layer)
    library, runtime = onnx_library("onnx"), onnx_library("onnxruntime")
    require_replaceable(path, lambda path: _is_ours(library, path))
    tile = _tile(members)
    models = [member.model for member in members]
    places = [[layer.bands.index(name) for name in member.inputs] for member in members]
    decision = ensemble.decision.take([ensemble.members.index(name) for name in ensemble.used])
    decided = Decided(models, places, decision, layer.nodata, BYTES).eval()
    shape = (1, len(layer.bands), tile, tile)
    with replacing(path) as temporary:
        members[0].write(decided, shape, temporary, (INPUT, OUTPUT))
        graph = library.load(str(temporary))
        for key, value in deepness_metadata(ensemble, members, layer, tile).items():
            graph.metadata_props.add(key=key, value=value)
        library.save(graph, str(temporary))
        session = runtime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        alike = []
        for tiles in _random_tiles(members, places, shape):
            [scores] = session.run(None, {INPUT: (tiles / np.float32(BYTES)).astype(np.float32)})
            alike.append(float((scores.argmax(axis=1) == _decide(ensemble, models, places, tiles)).mean()))
        share = float(np.mean(alike))
        if share < ALIKE:
            raise MemberError(
                f"{path}: expected the ensemble's label for {ALIKE:.1%} of the pixels, got it for {share:.2%}, and "
                "wrote nothing. Try other versions of torch, onnxscript and onnxruntime."
            )
    logger.info("%s: tiles of %d pixels of %s; %.3f%% of labels as predicted", path, tile, layer.bands, 100 * share)
    if words := ensemble.decision.cleaning.words:
        logger.warning("%s: maps of whole scenes are cleaned (%s), tiles in QGIS are not", path, words)
    return share


def deepness_metadata(ensemble: Ensemble, members: Sequence[TileModel], layer: Layer, tile: int) -> Mapping[str, str]:
    """Return what the file says of itself: JSON under the keys that Deepness reads, and under some of our own."""
    overlap = max(member.overlap for member in members)
    values = {
        "model_type": "Segmentor",
        "class_names": {str(index): name for index, name in enumerate(ensemble.classes.label_names)},
        "tile_size": tile,
        "tiles_overlap": round(100 * overlap),
        # The highest score wins, whatever it is; of two labels it is at least a half.
        "seg_thresh": 0.0 if ensemble.classes.exclusive else 0.5,
        "seg_small_segment": 1,
        "standardization_mean": [0.0] * len(layer.bands),
        "standardization_std": [1.0] * len(layer.bands),
        **({} if layer.metres is None else {"resolution": round(100 * layer.metres, 3)}),
        "terrablend": version("terrablend"),
        "model_id": model_id(ensemble),
        "bands": list(layer.bands),
    }
    return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}


def _require_networks(ensemble: Ensemble, members: Sequence[TileModel], layer: Layer) -> None:
    if ensemble.classes.task == "multilabel":
        raise EnsembleError("export --qgis: expected a map of classes, got the task multilabel. Use `predict`.")
    if not isinstance(ensemble.decision.blend, Blend):
        raise EnsembleError(
            "export --qgis: expected a mean of members, got a regression on them. Fit it anew: "
            "`terrablend ensemble --set ensemble.blend=convex --overwrite`."
        )
    for member in members:
        more = [name for name in member.inputs if name not in layer.bands]
        if more:
            raise MemberError(
                f"member {member.name}: expected bands alone as inputs, since a layer of QGIS holds no more, got "
                f"{', '.join(more)}. Use the Terrablend provider of the folder qgis/, or train on bands."
            )
        if member.whole:
            raise MemberError(
                f"member {member.name}: expected tiles as they are, got normalise.per_scene or resize, which need "
                "whole scenes. Use the Terrablend provider of the folder qgis/."
            )


def _tile(members: Sequence[TileModel]) -> int:
    """Return a side of tiles that suits all networks."""
    fixed = {member.side for member in members if member.fixed}
    if len(fixed) > 1:
        raise MemberError(f"expected networks of one size of windows, got {sorted(fixed)}. Use one of them alone.")
    if fixed:
        return fixed.pop()
    multiple = int(np.lcm.reduce([member.multiple for member in members]))
    return -(-max(member.side for member in members) // multiple) * multiple


def _random_tiles(
    members: Sequence[TileModel], places: Sequence[Sequence[int]], shape: tuple[int, ...], count: int = 2
) -> list[NDArray[np.float32]]:
    """Return layers (1, C, H, W) of plausible values, as measured."""
    rng, tiles = np.random.default_rng(0), []
    for _ in range(count):
        values = rng.normal(0, 1, shape).astype(np.float32)
        for member, chosen in zip(members, places, strict=True):
            for place, (middle, spread) in zip(chosen, member.ranges, strict=True):
                values[:, place] = rng.normal(middle, spread, (shape[0], *shape[2:]))
        tiles.append(values)
    return tiles


def _decide(
    ensemble: Ensemble, models: Sequence[torch.nn.Module], places: Sequence[Sequence[int]], tiles: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Return the labels (1, H, W) that `predict` gives tiles, before cleaning."""
    with torch.inference_mode():
        proba = [
            model(torch.from_numpy(tiles[:, chosen]))[0].numpy() for model, chosen in zip(models, places, strict=True)
        ]
    return ensemble.decide(ensemble.proba(np.stack([quantise(planes) for planes in proba])))


def _is_ours(library: object, path: Path) -> bool:
    try:
        graph = library.load(str(path), load_external_data=False)  # type: ignore[attr-defined]
    except Exception:  # What is no ONNX file is none of ours, whatever the parser says.
        return False
    return any(entry.key == "terrablend" for entry in graph.metadata_props)
