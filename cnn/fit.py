"""A member of the CNN branch: one network per fold, fitted on the scenes of the other folds."""

import csv
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cnn.crops.crops import SceneStore
from cnn.inputs.channels import default_inputs
from cnn.inputs.stacked import input_planes
from cnn.machine import choose_device, limit_threads
from cnn.network.model_file import model_path, read_about, write_tensors
from cnn.network.network import build_network, fitting_side, input_multiple, takes_other_sizes
from cnn.network.weights import load_weights
from cnn.predict.compiled import require_openvino
from cnn.settings import CnnSettings, DeviceName
from cnn.train.fold_plan import build_crops, build_loss, check_names, count_labels, fit_normalisations, target_labels
from cnn.train.heads import kind_of
from cnn.train.loggers import check_loggers
from cnn.train.training import check_devices, train_network
from cnn.train.validation import Tiles
from data.errors import MemberError
from data.files import fingerprint, write_json
from data.folds.hold_out import hold_out_scenes
from data.progress import Track, untracked
from data.scenes.catalogue import Catalogue
from data.scenes.scene import Scene
from features.feature_set import FeatureSet

__all__ = ["fit_member"]

logger = logging.getLogger(__name__)

LIBRARIES = ("terrablend", "torch", "lightning", "segmentation-models-pytorch", "timm", "numpy")

# What says how a network is applied or where it is trained, not what it learns.
APPLYING = {
    "device",
    "cache_gb",
    "tile",
    "overlap",
    "tta",
    "predict_batch",
    "predict_precision",
    "predict_engine",
    "pictures",
    "loggers",
}


def fit_member(
    name: str, settings: CnnSettings, catalogue: Catalogue, directory: Path, *, seed: int, threads: int,
    formulas: Mapping[str, str] | None = None, device: DeviceName = "auto", folds: Sequence[int] | None = None,
    members: Path | None = None, track: Track = untracked,
) -> None:  # fmt: skip
    """Train a member's networks, one per fold on the scenes of all other folds; those that exist are kept.

    Writes ``fold{k}.safetensors`` (weights, normalisation and all else that is needed to apply them),
    ``fold{k}.csv`` and ``fold{k}.html`` (what was seen of each epoch), pictures of held-out scenes in
    ``fold{k}-scenes``, and ``member.json``. A training that is killed goes on from ``fold{k}.ckpt``.

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
    members : Path, optional
        Holds the folders of the members that it is stacked on, with their maps; that of ``directory`` by default.
    track : Track

    Raises
    ------
    MemberError
        If the network cannot be built or trained as asked, or ``directory`` holds one that was made otherwise.
    FeatureError
        If an input is unknown.
    MapError
        If a map of a member that it is stacked on is missing, in-sample or of another make.
    """
    where, classes = choose_device(device), catalogue.classes
    names = settings.inputs or default_inputs(catalogue.bands, catalogue.scenes)
    feature_set = FeatureSet(catalogue.bands, names, formulas)
    planes = input_planes(feature_set, settings.stack, catalogue.classes.names, members or directory.parent)
    inputs, outputs = planes.names, len(catalogue.classes.names)
    if not catalogue.folds:
        raise MemberError(f"member {name}: expected training scenes in folds, got none. Run `terrablend check` again.")
    check_names(settings, catalogue, inputs)
    check_devices(settings, where)
    check_loggers(settings.loggers)
    if settings.predict_engine == "openvino":
        require_openvino()
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
    done = [fold for fold in catalogue.folds if _is_done(model_path(directory, fold), about[fold])]
    todo = [fold for fold in (catalogue.folds if folds is None else folds) if fold not in done]
    for fold in done:
        # Left behind if it was killed between the two.
        model_path(directory, fold).with_suffix(".ckpt").unlink(missing_ok=True)
    with limit_threads(threads), torch.random.fork_rng():
        network = build_network(settings, len(inputs), outputs)
        multiple = input_multiple(network)
        side = fitting_side(network, settings, len(inputs), outputs)
        fixed = not takes_other_sizes(network, len(inputs), side)
        logger.info(
            "member %s: %s with %s, %.1f M weights, inputs %s, on %s",
            name,
            settings.architecture,
            settings.encoder,
            count_weights(network) / 1e6,
            ", ".join(inputs),
            _describe(where),
        )
        if todo:
            scenes = {scene.id: scene for fold in todo for scene in catalogue.outside_fold(fold)}
            store = SceneStore(
                planes,
                list(scenes.values()),
                target_labels(catalogue.classes),
                settings.cache_gb * 1e9,
                seed,
                quantiles=settings.normalise.by == "quantile",
                read_label=kind_of(classes).read_label,
                track=track,
                what=f"{name}: scenes",
            )
        for fold in todo:
            begun = time.perf_counter()
            held = _hold_out(catalogue, fold, settings, seed)
            learned = _learned(catalogue, fold, held)
            own_seed = fold_seed(seed, fold)
            try:
                normalisations = fit_normalisations(settings.normalise, store, learned, held)
                crops = build_crops(store, catalogue, learned, normalisations, settings, side, own_seed)
            except MemberError as error:
                raise MemberError(f"the scenes outside fold {fold}: {error}") from error
            tiles = Tiles(store, held, normalisations, side, settings.resize) if held else None
            loss = build_loss(settings, classes, count_labels(store, classes, learned))
            torch.manual_seed(own_seed)
            network = build_network(settings, len(inputs), outputs)
            load_weights(network, settings, inputs, outputs)
            path = model_path(directory, fold)
            kept = train_network(
                network, crops, tiles, loss, settings, catalogue.classes, path.with_suffix(""), device=where,
                seed=own_seed, made_from=fingerprint([about[fold], [scene.id for scene in held]]),
                workers=min(threads - 1, 8) if where.type == "cuda" else 0, track=track, what=f"{name}: fold {fold}",
            )  # fmt: skip
            write_tensors(
                path,
                network.state_dict(),
                {
                    **about[fold],
                    "epoch": kept.epoch,
                    "score": kept.score,
                    "held_out": [scene.id for scene in held],
                    "normalisation": None if settings.normalise.per_scene else asdict(normalisations[learned[0].id]),
                },
            )
            path.with_suffix(".ckpt").unlink()
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
            "multiple": multiple,
            "fixed_size": fixed,
            "parameters": count_weights(network),
            "seed": seed,
            "folds": {fold: _describe_fold(directory, fold) for fold in sorted({*done, *todo})},
            "versions": {library: version(library) for library in LIBRARIES},
        },
    )


def fold_seed(seed: int, fold: int) -> int:
    """Return the seed of one fold, unlike that of any other."""
    return int(np.random.SeedSequence([seed, fold]).generate_state(1)[0])


def count_weights(network: torch.nn.Module) -> int:
    """Return the number of numbers that training sets."""
    return sum(weight.numel() for weight in network.parameters())


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


def _hold_out(catalogue: Catalogue, fold: int, settings: CnnSettings, seed: int) -> tuple[Scene, ...]:
    """Choose the scenes that a fold's training is watched on, which are none of the fold's own."""
    held = hold_out_scenes(catalogue, fold, settings.validation_fraction, np.random.default_rng([seed, fold]))
    if settings.validation_fraction and not held:
        logger.warning("fold %d: a single group to learn from, so that none is held out", fold)
    return held


def _learned(catalogue: Catalogue, fold: int, held: Sequence[Scene]) -> list[Scene]:
    """Return the scenes that a fold's network learns from: those outside it that are not held out."""
    scenes = [scene for scene in catalogue.outside_fold(fold) if scene not in held]
    if not scenes:
        raise MemberError(f"fold {fold}: expected training scenes in other folds, got none. Use more than one fold.")
    return scenes


def _describe_fold(directory: Path, fold: int) -> dict[str, Any]:
    """Return what is known of a trained fold, from its files; times are only in its log, which may be gone."""
    path = model_path(directory, fold)
    log = path.with_suffix(".csv")
    last = list(csv.DictReader(log.read_text("utf-8").splitlines()))[-1] if log.is_file() else None
    about = read_about(path)
    return {
        **{key: about[key] for key in ("normalisation", "epoch", "score")},
        **{key: last and float(last[key]) for key in ("loss", "seconds")},
    }


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"the CPU, {torch.get_num_threads()} threads"
