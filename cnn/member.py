"""A member of the CNN branch: one network per fold, fitted on the scenes of the other folds."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cnn.channels import Normalisation, default_inputs
from cnn.model_file import read_about, read_tensors, write_tensors
from cnn.network import build_network, check_network, input_multiple, takes_other_sizes
from cnn.patches import Crops, SceneStore
from cnn.predict import Fitted, Tiling, predict_scene
from cnn.settings import CnnSettings, DeviceName
from cnn.training import choose_device, choose_precision, limit_threads, train_network
from cnn.weights import load_weights
from data.catalogue import Catalogue
from data.errors import MemberError
from data.files import fingerprint, read_json, write_json
from data.progress import Track, untracked
from data.scene import Scene
from data.windows import Window
from features.feature_set import FeatureSet

__all__ = ["CnnMember", "fit_member", "load_member"]

logger = logging.getLogger(__name__)

LIBRARIES = ("terrablend", "torch", "lightning", "segmentation-models-pytorch", "timm", "numpy")

# What says how a network is applied or where it is trained, not what it learns.
APPLYING = {"device", "cache_gb", "tile", "overlap", "turns"}


def fit_member(
    name: str, settings: CnnSettings, catalogue: Catalogue, directory: Path, *, seed: int, threads: int,
    formulas: Mapping[str, str] | None = None, device: DeviceName = "auto", folds: Sequence[int] | None = None,
    track: Track = untracked,
) -> None:  # fmt: skip
    """Train a member's networks, one per fold on the scenes of all other folds; those that exist are kept.

    Writes ``fold{k}.safetensors`` (weights, normalisation and all else that is needed to apply them),
    ``fold{k}.csv`` (the loss of each epoch) and ``member.json``.

    Parameters
    ----------
    name : str
    settings : CnnSettings
    catalogue : Catalogue
    directory : Path
        The member's.
    seed : int
        The same seed and number of threads give the same bytes on a CPU.
    threads : int
        Cores to use.
    formulas : mapping of str to str, optional
        The user's own features, by name, that inputs may be.
    device : {"auto", "cpu", "cuda"}
    folds : sequence of int, optional
        All by default.
    track : Track

    Raises
    ------
    MemberError
        If the network cannot be built or trained as asked, or ``directory`` holds one that was made otherwise.
    FeatureError
        If an input is unknown.
    """
    where = choose_device(device)
    inputs = tuple(settings.inputs or default_inputs(catalogue.bands, catalogue.scenes))
    feature_set = FeatureSet(catalogue.bands, inputs, formulas)
    outputs = len(catalogue.classes.names)
    targets = (1,) if catalogue.classes.task == "binary" else tuple(range(outputs))
    if not catalogue.folds:
        raise MemberError(f"member {name}: expected training scenes in folds, got none. Run `terrablend check` again.")
    about = {
        fold: {
            "fold": fold,
            "settings": settings.model_dump(mode="json", exclude=APPLYING),
            "inputs": inputs,
            "formulas": feature_set.formulas,
            "bands": catalogue.bands,
            "classes": catalogue.classes.names,
            "trained_on": fingerprint([seed, *(scene.id for scene in catalogue.outside_fold(fold))]),
        }
        for fold in catalogue.folds
    }
    done = [fold for fold in catalogue.folds if _is_done(_model_path(directory, fold), about[fold])]
    todo = [fold for fold in (catalogue.folds if folds is None else folds) if fold not in done]
    with limit_threads(threads), torch.random.fork_rng():
        network = build_network(settings, len(inputs), outputs)
        multiple = input_multiple(network)
        side = -(-settings.crop // multiple) * multiple
        check_network(network, settings, len(inputs), outputs, side)
        fixed = not takes_other_sizes(network, len(inputs), side)
        logger.info(
            "member %s: %s with %s, %.1f M weights, inputs %s, on %s", name, settings.architecture, settings.encoder,
            count_weights(network) / 1e6, ", ".join(inputs), _describe(where),
        )  # fmt: skip
        if todo:
            scenes = {scene.id: scene for fold in todo for scene in catalogue.outside_fold(fold)}
            store = SceneStore(
                feature_set, list(scenes.values()), targets, settings.cache_gb * 1e9, seed, track, f"{name}: scenes"
            )
        for fold in todo:
            begun = time.perf_counter()
            crops = _crops(store, catalogue, fold, settings, side, seed)
            torch.manual_seed(crops.seed)
            network = build_network(settings, len(inputs), outputs)
            load_weights(network, settings, inputs, outputs)
            train_network(
                network, crops, settings, directory / f"fold{fold}.csv", device=where, seed=crops.seed,
                workers=min(threads - 1, 8) if where.type == "cuda" else 0, track=track, what=f"{name}: fold {fold}",
            )  # fmt: skip
            path = _model_path(directory, fold)
            write_tensors(path, network.state_dict(), {**about[fold], "normalisation": asdict(crops.normalisation)})
            logger.info("member %s: fold %d in %.0f s → %s", name, fold, time.perf_counter() - begun, path)
    write_json(
        directory / "member.json",
        {
            "name": name,
            "branch": "cnn",
            "settings": settings.model_dump(mode="json"),
            "inputs": inputs,
            "formulas": feature_set.formulas,
            "bands": catalogue.bands,
            "classes": catalogue.classes.names,
            "crop": side,
            "fixed_size": fixed,
            "parameters": count_weights(network),
            "seed": seed,
            "folds": {fold: _describe_fold(directory, fold) for fold in sorted({*done, *todo})},
            "versions": {library: version(library) for library in LIBRARIES},
        },
    )


def load_member(directory: Path, threads: int = 1, device: DeviceName = "auto") -> "CnnMember":
    """Load a member from its files alone.

    Raises
    ------
    MemberError
        If ``directory`` holds no member of this branch.
    """
    path = directory / "member.json"
    if not path.is_file():
        raise MemberError(f"{path}: expected a trained member, got no such file. Train it with `terrablend cnn`.")
    about = read_json(path)
    if about.get("branch") != "cnn":
        raise MemberError(f"{path}: expected a member of the branch cnn, got {about.get('branch')}.")
    return CnnMember(directory, about, threads, choose_device(device))


class CnnMember:
    """A fitted member; networks are loaded from their files when a fold is first asked for.

    Parameters
    ----------
    directory : Path
    about : mapping
        What ``member.json`` holds.
    threads : int
    device : torch.device

    Attributes
    ----------
    name : str
    folds : tuple of int
        Fold k's network has never seen a scene of fold k.
    classes : tuple of str
        One name per plane of the probabilities.
    """

    def __init__(self, directory: Path, about: Mapping[str, Any], threads: int, device: torch.device) -> None:
        self.directory, self.threads, self.device = directory, threads, device
        self.name: str = about["name"]
        self.folds = tuple(int(fold) for fold in about["folds"])
        self.classes: tuple[str, ...] = tuple(about["classes"])
        self.settings = CnnSettings(**about["settings"])
        self.feature_set = FeatureSet(about["bands"], about["inputs"], about["formulas"])
        self.crop: int = about["crop"]
        self.fixed_size: bool = about["fixed_size"]
        self._models: dict[int, Fitted] = {}

    def predict_proba(self, scene: Scene, folds: Sequence[int]) -> Iterator[tuple[Window, NDArray[np.float32]]]:
        """Yield the mean probability of some folds' networks, strip by strip.

        Parameters
        ----------
        scene : Scene
        folds : sequence of int

        Yields
        ------
        window : Window
            All of them cover the scene exactly once.
        proba : (n_classes, height, width) float32 in [0, 1]
            NaN where the scene is not valid.

        Raises
        ------
        MemberError
            If there is no network of a fold.
        """
        models = [self._model(fold) for fold in folds]
        multiple = input_multiple(models[0].network)
        size = self.crop if self.fixed_size else max(self.crop, -(-self.settings.tile // multiple) * multiple)
        batch = max(1, self.settings.batch_size * self.crop**2 // size**2)
        tiling = Tiling(size, min(self.settings.overlap, size // 2), multiple, least=self.crop, batch=batch)
        precision = choose_precision(self.settings.precision, self.device)
        with limit_threads(self.threads):
            yield from predict_scene(
                scene, self.feature_set, models, len(self.classes), tiling, device=self.device,
                precision=precision, turns=self.settings.turns,
            )  # fmt: skip

    def _model(self, fold: int) -> Fitted:
        if fold not in self._models:
            path = _model_path(self.directory, fold)
            if not path.is_file():
                raise MemberError(
                    f"member {self.name}: expected the network of fold {fold} in {path}, got no such file. "
                    f"Train it with `terrablend cnn {self.name} --fold {fold}`."
                )
            tensors, about = read_tensors(path)
            with torch.random.fork_rng(devices=[]):
                network = build_network(self.settings, len(self.feature_set.names), len(self.classes))
            network.load_state_dict(tensors)
            network.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
            self._models[fold] = Fitted(network, Normalisation.from_dict(about["normalisation"]))
        return self._models[fold]


def fold_seed(seed: int, fold: int) -> int:
    """Return the seed of one fold, unlike that of any other."""
    return int(np.random.SeedSequence([seed, fold]).generate_state(1)[0])


def count_weights(network: torch.nn.Module) -> int:
    """Return the number of numbers that training sets."""
    return sum(weight.numel() for weight in network.parameters())


def _model_path(directory: Path, fold: int) -> Path:
    return directory / f"fold{fold}.safetensors"


def _is_done(path: Path, about: Mapping[str, Any]) -> bool:
    """Tell whether a fold's network exists; one that was made otherwise is refused."""
    if not path.is_file():
        return False
    found = read_about(path)
    other = [key for key, value in about.items() if found.get(key) != _plain(value)]
    if other:
        raise MemberError(
            f"{path}: expected a network made with the present {', '.join(other)}, got one made with others. "
            "Train again with --overwrite, or take the changes back."
        )
    return True


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _crops(store: SceneStore, catalogue: Catalogue, fold: int, settings: CnnSettings, side: int, seed: int) -> Crops:
    """Return the crops that a fold's network learns from: of the scenes outside it, normalised by them alone."""
    scenes = catalogue.outside_fold(fold)
    if not scenes:
        raise MemberError(f"fold {fold}: expected training scenes in other folds, got none. Use more than one fold.")
    area = sum(scene.grid.height * scene.grid.width for scene in scenes)
    steps = settings.steps or max(1, round(area / (settings.batch_size * side**2)))
    share = settings.positive_share
    if share is None:
        share = 0.5 if catalogue.classes.task == "binary" else 0.0
    try:
        return Crops(
            store, scenes, Normalisation.from_moments(store.moments(scenes), store.names), side=side,
            count=steps * settings.batch_size, positive_share=share, flips=settings.flips, seed=fold_seed(seed, fold),
        )  # fmt: skip
    except MemberError as error:
        raise MemberError(f"the scenes outside fold {fold}: {error}") from error


def _describe_fold(directory: Path, fold: int) -> dict[str, Any]:
    """Return what is known of a trained fold, from its files; times are only in its log, which may be gone."""
    path = _model_path(directory, fold)
    log = path.with_suffix(".csv")
    last = log.read_text("utf-8").splitlines()[-1].split(",") if log.is_file() else None
    return {
        "normalisation": read_about(path)["normalisation"],
        "loss": last and float(last[1]),
        "seconds": last and float(last[3]),
    }


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"the CPU, {torch.get_num_threads()} threads"
