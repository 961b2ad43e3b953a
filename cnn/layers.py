"""Map the features of a layer of a member's networks, on axes that the networks of its folds share.

Fold k's network never saw fold k, so its features of fold k's scenes are honest; yet each network has axes of its own,
and a booster learns from the scenes of many networks. So their features are brought onto common axes first, see
`cnn.predict.common_axes`: on pixels of training scenes that all networks see, without a label.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cnn.inputs.channels import read_channels
from cnn.inputs.resize import scene_side
from cnn.machine import limit_threads
from cnn.member import CnnMember, load_member
from cnn.network.model_file import model_path, read_tensors, write_tensors
from cnn.predict.applied import Mean
from cnn.predict.common_axes import Axes, fit_common_axes
from cnn.predict.layer import LayerComponents, LayerFeatures, require_layer
from data.errors import MemberError
from data.maps.member import Prediction
from data.records import FileKind, read_record, write_record
from data.scenes.catalogue import Catalogue
from data.scenes.scene import Scene
from data.scenes.windows import Window
from features.branch import Loading, Training
from features.stack_settings import LayerSettings

__all__ = ["LayerMember", "fit_layer", "load_layer"]

logger = logging.getLogger(__name__)

RECORD = FileKind("the axes of a layer", MemberError, "terrablend run")

MOST_SCENES, PIXELS = 64, 200
"""Scenes that a window each is looked at of, and pixels of each window."""


@dataclass(frozen=True)
class LayerRecord:
    """``member.json``: which layer of which member, and how well its networks agree on each component."""

    name: str
    of: LayerSettings
    folds: tuple[int, ...]
    agreement: tuple[float, ...]
    versions: dict[str, str]


def fit_layer(training: Training[LayerSettings]) -> None:
    """Find the axes that the networks of a member share in a layer, and write them, a file a fold.

    Raises
    ------
    MemberError
        If the networks have no such layer, or it has fewer features than there are to be components.
    """
    of, catalogue, directory = training.settings, training.catalogue, training.directory
    member = load_member(directory.parent / of.member, training.threads, training.device or "auto", training.members)
    [applied] = member.apply_folds(member.folds[:1], catalogue.split("train")[0])
    count = require_layer(applied.network, len(member.channels.names), member.crop, of.layer)
    if of.components > count:
        raise MemberError(
            f"{training.name}: expected at most as many components as the layer has features, {count}, got "
            f"{of.components}. Lower components."
        )
    with limit_threads(training.threads):
        features, fold = _read_pixels(member, catalogue, of.layer, training.seed)
    axes, agreement = fit_common_axes(features, [fold != own for own in member.folds], of.components)
    if len(agreement) < of.components:
        raise MemberError(
            f"{training.name}: expected features that vary in {of.components} directions or more, got "
            f"{len(agreement)}. Lower components, or train the member longer."
        )
    for own, its in zip(member.folds, axes, strict=True):
        tensors = {"weight": torch.from_numpy(its.weight), "bias": torch.from_numpy(its.bias)}
        write_tensors(model_path(directory, own), tensors, {"layer": of.model_dump(), "fold": own})
    rounded = tuple(round(float(value), 4) for value in agreement)
    record = LayerRecord(training.name, of, member.folds, rounded, {"terrablend": version("terrablend")})
    write_record(directory / "member.json", record)
    logger.info(
        "%s: %d components of %d features, on which the folds' networks agree by %s",
        training.name,
        of.components,
        count,
        ", ".join(f"{value:.2f}" for value in rounded),
    )


def load_layer(loading: Loading[LayerSettings]) -> "LayerMember":
    """Load the axes of a layer, and the member that has it."""
    record = read_record(loading.directory / "member.json", LayerRecord, RECORD)
    folder = loading.directory.parent / record.of.member
    member = load_member(folder, loading.threads, loading.device or "auto", loading.members)
    axes = {fold: _read_axes(loading.directory, fold, record.of.components) for fold in record.folds}
    return LayerMember(record.name, record.of, member, axes)


@dataclass(frozen=True)
class LayerMember:
    """A layer of a member's networks, as a member whose maps are components from 0 to 1.

    Parameters
    ----------
    name : str
    of : LayerSettings
    member : CnnMember
    axes : mapping of int to Axes
        By fold.
    """

    name: str
    of: LayerSettings
    member: CnnMember
    axes: dict[int, Axes]

    @property
    def folds(self) -> tuple[int, ...]:
        """Folds that there are axes for."""
        return tuple(self.axes)

    def predict(self, scenes: Sequence[Scene], folds: Sequence[int]) -> Iterator[Prediction]:
        """Yield the mean components of some folds' networks, in strips; see `data.maps.member.Member`."""
        for scene in scenes:
            parts = zip(folds, self.member.apply_folds(folds, scene), strict=True)
            model = Mean(LayerComponents(applied, self.of.layer, self.axes[fold]) for fold, applied in parts)
            yield from self.member.predict_by(self.member.oriented(model), scene, self.of.components)


def _read_pixels(
    member: CnnMember, catalogue: Catalogue, layer: str, seed: int
) -> tuple[list[NDArray[np.float32]], NDArray[np.int64]]:
    """Return the features (n, C) that each fold's network has of the same pixels, and the fold (n,) of their scenes."""
    rng = np.random.default_rng(seed)
    scenes = catalogue.split("train")
    chosen = sorted(rng.permutation(len(scenes))[:MOST_SCENES].tolist())
    side = scene_side(member.crop, member.settings.resize)
    parts: list[list[NDArray[np.float32]]] = [[] for _ in member.folds]
    fold: list[int] = []
    for scene in (scenes[place] for place in chosen):
        top, left = (
            int(rng.integers(0, max(0, length - side) + 1)) for length in (scene.grid.height, scene.grid.width)
        )
        channels, valid = read_channels(member.channels, scene, Window(top, left, side, side))
        pixels = rng.permutation(np.flatnonzero(valid))[:PIXELS]
        if not len(pixels):
            continue
        assert scene.fold is not None
        fold += [scene.fold] * len(pixels)
        batch = torch.from_numpy(channels)[None].to(member.device)
        for part, applied in zip(parts, member.apply_folds(member.folds, scene), strict=True):
            with torch.inference_mode():
                features = LayerFeatures(applied, layer).to(member.device).eval()(batch)[0]
            part.append(features.flatten(1)[:, torch.from_numpy(pixels).to(member.device)].T.cpu().numpy())
    return [np.concatenate(part) for part in parts], np.array(fold)


def _read_axes(directory: Path, fold: int, components: int) -> Axes:
    path = model_path(directory, fold)
    tensors, _ = read_tensors(path)
    weight, bias = tensors.get("weight"), tensors.get("bias")
    if weight is None or bias is None or weight.ndim != 2 or not len(weight) == bias.numel() == components:
        raise MemberError(
            f"{path}: expected the axes of {components} components, got another file. Run `terrablend run` again."
        )
    return Axes(weight.float().numpy(), bias.float().numpy())
