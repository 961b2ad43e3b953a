"""Load a trained member of the CNN branch, and predict by it."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from cnn.inputs.channels import measure_spread
from cnn.inputs.normalisation import Normalisation, fit_normalisation
from cnn.inputs.resize import scene_side
from cnn.machine import choose_device, choose_precision, fast_on_cpu
from cnn.network.bounded import no_larger_than
from cnn.network.model_file import model_path, read_tensors
from cnn.network.network import build_network
from cnn.predict.applied import Applied, D4Mean, Mean
from cnn.predict.compiled import Compiled
from cnn.predict.predict_scene import Tiling, predict_scene
from cnn.predict.predict_tags import predict_tags
from cnn.predict.runner import Runner
from cnn.record import MEMBER, MemberRecord
from cnn.settings import CLASSIFIER, DeviceName
from data.errors import MemberError
from data.maps.member import Prediction
from data.records import read_record
from data.scenes.scene import Scene
from data.scenes.windows import Window
from features.feature_set import FeatureSet
from features.stacked import input_channels, stacked_names

__all__ = ["CnnMember", "load_member"]

logger = logging.getLogger(__name__)


def load_member(
    directory: Path, threads: int = 1, device: DeviceName = "auto", members: Path | None = None
) -> "CnnMember":
    """Load a member from its files alone.

    Parameters
    ----------
    directory : Path
        The member's.
    threads : int
        Cores to use.
    device : {"auto", "cpu", "cuda"}
    members : Path, optional
        Holds the folders of the members that it is stacked on, with their maps; that of ``directory`` by default.

    Raises
    ------
    MemberError
        If ``directory`` holds no member of this branch.
    """
    record = read_record(directory / "member.json", MemberRecord, MEMBER)
    return CnnMember(directory, record, threads, choose_device(device), members or directory.parent)


class CnnMember:
    """A fitted member; networks are loaded from their files when a fold is first asked for.

    Parameters
    ----------
    directory : Path
    record : MemberRecord
    threads : int
        Cores to use.
    device : torch.device
    members : Path
        Holds the folders of the members that it is stacked on.

    Attributes
    ----------
    name : str
    folds : tuple of int
        Fold k's network has never seen a scene of fold k.
    classes : tuple of str
        Those of the probabilities, in order.
    feature_set : FeatureSet
        The features among its input channels.
    channels : Channels
        All of its input channels.
    crop : int
        Side of the squares that the networks learned from, in pixels that they see.
    multiple : int
        What the sides of a network's input must be multiples of.
    fixed_size : bool
        Whether they take no others.
    """

    def __init__(
        self, directory: Path, record: MemberRecord, threads: int, device: torch.device, members: Path
    ) -> None:
        self.directory, self.device = directory, device
        self.name, self.folds, self.classes = record.name, tuple(record.folds), record.classes
        self.settings = record.settings
        stack = self.settings.stack
        features = [name for name in record.inputs if name not in stacked_names(stack, self.classes)]
        self.feature_set = FeatureSet(record.bands, features, record.formulas)
        self.channels = input_channels(self.feature_set, stack, self.classes, members)
        self.crop, self.multiple, self.fixed_size = record.crop, record.multiple, record.fixed_size
        precision = choose_precision(self.settings.predict_precision, device, fast_on_cpu())
        at_once = None if self.settings.predict_batch == "auto" else self.settings.predict_batch
        self._runner = Runner(device, precision, threads, at_once)
        self._networks: dict[int, tuple[nn.Module, Normalisation | None]] = {}
        self._compiled: dict[tuple[int, ...], Compiled] = {}

    def predict(self, scenes: Sequence[Scene], folds: Sequence[int]) -> Iterator[Prediction]:
        """Yield the mean probability of some folds' networks, in strips; see `data.maps.member.Member`.

        Raises
        ------
        MemberError
            If there is no network of a fold, or a window does not fit the GPU's memory.
        """
        if self.settings.architecture.lower() == CLASSIFIER:
            yield from self._predict_wholes(scenes, folds)
            return
        for scene in scenes:
            yield from self.predict_by(self._model(folds, scene), scene, len(self.classes))

    def predict_by(self, model: nn.Module, scene: Scene, planes: int) -> Iterator[Prediction]:
        """Yield the planes, from 0 to 1, that a model gives of a scene's input channels, in strips.

        Parameters
        ----------
        model : nn.Module
            Channels (N, C, H, W), NaN where there is no data, to (N, planes, H, W).
        scene : Scene
        planes : int
        """
        settings, size = self.settings, self.crop
        if not self.fixed_size:
            size = max(size, -(-settings.tile // self.multiple) * self.multiple)
        tiling = Tiling(size, settings.overlap, self.multiple, self.crop, settings.resize)
        for window, proba in predict_scene(scene, self.channels, model, planes, tiling, self._runner):
            yield scene, window, proba

    def _predict_wholes(self, scenes: Sequence[Scene], folds: Sequence[int]) -> Iterator[Prediction]:
        side = scene_side(self.crop, self.settings.resize)
        # With a normalisation of its own each scene has a model of its own.
        parts = [[scene] for scene in scenes] if self.settings.normalise.per_scene else [scenes]
        for part in parts:
            if part:
                model = self._model(folds, part[0])
                predicted = predict_tags(part, self.channels, model, len(self.classes), side, self._runner)
                for scene, proba in zip(part, predicted, strict=True):
                    yield scene, Window(0, 0, 1, 1), proba[:, None, None]

    def apply_fold(self, fold: int, normalisation: Normalisation | None = None, resize: float = 1.0) -> Applied:
        """Return the network of a fold as it is applied, with a scene's normalisation or that of its training.

        Raises
        ------
        MemberError
            If there is no such network or normalisation.
        """
        return Applied(self._load(fold)[0], normalisation or self.normalisation(fold), resize, self.multiple)

    def _model(self, folds: Sequence[int], scene: Scene) -> nn.Module:
        """Return the model that is applied to a scene, and to others if they are normalised alike."""
        if not self._networks:
            logger.info("member %s: predicts by %s", self.name, self._runner)
        model: nn.Module = Mean(self.apply_folds(folds, scene)).eval()
        if self.settings.predict_engine == "openvino" and self.device.type == "cpu":
            model = self._compiled.setdefault(tuple(folds), self._runner.compile(model))
        return self.oriented(model)

    def apply_folds(self, folds: Sequence[int], scene: Scene) -> list[Applied]:
        """Return the networks of some folds as they are applied to a scene."""
        settings, normalisation = self.settings, None
        if settings.normalise.per_scene:
            spread = measure_spread(self.channels, scene)
            normalisation = fit_normalisation(settings.normalise, [spread], self.channels.names)
        return [self.apply_fold(fold, normalisation, settings.resize) for fold in folds]

    def oriented(self, model: nn.Module) -> nn.Module:
        """Return a model on the device, or its mean over flips and turns where the settings ask for it."""
        return (D4Mean(model) if self.settings.tta == "d4" else model).to(self.device).eval()

    def normalisation(self, fold: int) -> Normalisation:
        """Return the normalisation of the scenes that a fold's network learned from.

        Raises
        ------
        MemberError
            If each scene has its own.
        """
        stored = self._load(fold)[1]
        if stored is None:
            raise MemberError(
                f"member {self.name}: expected a normalisation that holds for all scenes, got one of each scene's "
                "own. Train it without normalise.per_scene."
            )
        return stored

    def _load(self, fold: int) -> tuple[nn.Module, Normalisation | None]:
        """Return the network of a fold and the normalisation stored with it: none if each scene has its own."""
        if fold not in self._networks:
            path = model_path(self.directory, fold)
            if not path.is_file():
                raise MemberError(
                    f"member {self.name}: expected the network of fold {fold} in {path}, got no such file. "
                    f"Train it with `terrablend cnn {self.name} --fold {fold}`."
                )
            tensors, about = read_tensors(path)
            names = self.channels.names
            try:
                with torch.random.fork_rng(devices=[]), no_larger_than(tensors):
                    network = build_network(self.settings, len(names), len(self.classes))
                network.load_state_dict(tensors)
                stored = about["normalisation"]
                normalisation = None if stored is None else Normalisation.from_dict(stored, len(names))
            except (MemberError, RuntimeError, KeyError, TypeError, ValueError) as error:
                raise MemberError(
                    f"{path}: expected a network of the settings in member.json, got another. Train it again."
                ) from error
            network.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
            self._networks[fold] = network, normalisation
        return self._networks[fold]
