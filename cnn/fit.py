"""Fit a member of the CNN branch: one network per fold, on the scenes of the other folds."""

import csv
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch

from cnn.crops.crops import SceneStore
from cnn.crops.truth import truth_of
from cnn.inputs.channels import default_inputs
from cnn.machine import Machine, choose_device, limit_threads
from cnn.network.model_file import model_path, read_about, write_tensors
from cnn.network.network import build_network, measure_input
from cnn.network.weights import load_weights
from cnn.predict.compiled import require_openvino
from cnn.record import MemberRecord
from cnn.settings import CnnSettings
from cnn.train.fold_plan import check_names, plan_fold, target_labels
from cnn.train.loggers import check_loggers
from cnn.train.training import check_devices, train_network
from data.errors import MemberError
from data.files import fingerprint
from data.progress import Track
from data.records import write_record
from data.scenes.catalogue import Catalogue
from features.branch import Training
from features.channels import Channels
from features.feature_set import FeatureSet
from features.stacked import input_channels, inside_fold

__all__ = ["fit_member"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

LIBRARIES = ("terrablend", "torch", "lightning", "segmentation-models-pytorch", "timm", "numpy")

# Settings of how a network is applied or where it is trained, not of what it learns.
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


def fit_member(training: Training[CnnSettings]) -> None:
    """Train a member's networks, one per fold on the scenes of all other folds; those that exist are kept.

    Writes ``fold{k}.safetensors`` (weights, normalisation and all else that is needed to apply them),
    ``fold{k}.csv`` and ``fold{k}.html`` (what was seen of each epoch), pictures of held-out scenes in
    ``fold{k}-scenes``, and ``member.json``. A training that is killed goes on from ``fold{k}.ckpt``. The same seed and
    number of threads give the same bytes on a CPU.

    Raises
    ------
    MemberError
        If the network cannot be built or trained as asked, or the member's folder holds one that was made otherwise.
    FeatureError
        If an input is unknown.
    MapError
        If a map of a member that it is stacked on is missing, in-sample or incompatible.
    """
    name, settings, catalogue, directory = training.name, training.settings, training.catalogue, training.directory
    seed, folds, track = training.seed, training.folds, training.track
    device = choose_device(training.device or settings.device)
    machine, outputs = Machine.of(device, training.threads), len(catalogue.classes.names)
    names = settings.inputs or default_inputs(catalogue.bands, catalogue.scenes)
    feature_set = FeatureSet(catalogue.bands, names, training.formulas)
    channels = input_channels(feature_set, settings.stack, catalogue.classes.names, training.members)
    if not catalogue.folds:
        raise MemberError(f"member {name}: expected training scenes in folds, got none. Run `terrablend check` again.")
    check_names(settings, catalogue, channels.names)
    check_devices(settings, machine.device)
    check_loggers(settings.loggers)
    if settings.predict_engine == "openvino":
        require_openvino()
    inputs = channels.names
    sees = {
        "inputs": inputs,
        "formulas": feature_set.formulas,
        "bands": catalogue.bands,
        "classes": catalogue.classes.names,
    }
    # What the network of each fold learns from.
    learned = {
        fold: training.taught(fold).beside(catalogue) if training.taught else catalogue for fold in catalogue.folds
    }
    about = {fold: _describe_training(settings, learned[fold], fold, seed) | sees for fold in catalogue.folds}
    done = [fold for fold in catalogue.folds if _is_done(model_path(directory, fold), about[fold])]
    todo = [fold for fold in (catalogue.folds if folds is None else folds) if fold not in done]
    for fold in done:
        # Left behind if it was killed between the two.
        model_path(directory, fold).with_suffix(".ckpt").unlink(missing_ok=True)
    with limit_threads(training.threads), torch.random.fork_rng():
        network = build_network(settings, len(inputs), outputs)
        size, n_weights = measure_input(network, settings, len(inputs), outputs), count_weights(network)
        logger.info(
            "member %s: %s with %s, %.1f M weights, inputs %s, on %s",
            name,
            settings.architecture,
            settings.encoder,
            n_weights / 1e6,
            ", ".join(inputs),
            _describe(machine.device),
        )
        apart = bool(settings.inner) or training.taught is not None
        if todo and not apart:
            store = _open_store(channels, catalogue, todo, settings, seed, _named(track, name))
        for fold in todo:
            begun = time.perf_counter()
            if apart:
                store = _open_store(
                    inside_fold(channels, fold), learned[fold], [fold], settings, seed, _named(track, name)
                )
            plan = plan_fold(settings, learned[fold], fold, store, side=size.side, seed=seed)
            torch.manual_seed(plan.seed)
            network = build_network(settings, len(inputs), outputs)
            load_weights(network, settings, inputs, outputs)
            path, made_from = model_path(directory, fold), fingerprint([about[fold], plan.held_out])
            kept = train_network(
                network,
                plan,
                settings,
                machine,
                path.with_suffix(""),
                made_from=made_from,
                track=track,
                title=f"{name}: fold {fold}",
            )
            scaling = plan.normalisation and asdict(plan.normalisation)
            trained = {"epoch": kept.epoch, "score": kept.score, "held_out": plan.held_out, "normalisation": scaling}
            write_tensors(path, network.state_dict(), about[fold] | trained)
            path.with_suffix(".ckpt").unlink()
            logger.info("member %s: fold %d in %.0f s → %s", name, fold, time.perf_counter() - begun, path)
    record = MemberRecord(
        name,
        "cnn",
        _without_folder(settings),
        inputs,
        feature_set.formulas,
        catalogue.bands,
        catalogue.classes.names,
        crop=size.side,
        multiple=size.multiple,
        fixed_size=size.fixed,
        parameters=n_weights,
        seed=seed,
        folds={fold: _describe_fold(directory, fold) for fold in sorted({*done, *todo})},
        versions={library: version(library) for library in LIBRARIES},
    )
    write_record(directory / "member.json", record)


def count_weights(network: torch.nn.Module) -> int:
    """Return the number of numbers that training sets."""
    return sum(weight.numel() for weight in network.parameters())


def _open_store(
    channels: Channels, catalogue: Catalogue, folds: Sequence[int], settings: CnnSettings, seed: int, track: Track
) -> SceneStore:
    """Open the scenes that the networks of some folds learn from and are scored on."""
    scenes = {scene.id: scene for fold in folds for scene in catalogue.outside_fold(fold)}
    return SceneStore(
        channels,
        list(scenes.values()),
        target_labels(catalogue.classes),
        settings.cache_gb * 1e9,
        seed,
        settings.normalise.by == "quantile",
        truth_of(catalogue.classes),
        track,
    )


def _named(track: Track, name: str) -> Track:
    """Return a track that shows whose work it is."""

    def show(items: Iterable[T], what: str, total: int) -> Iterator[T]:
        return track(items, f"{name}: {what}", total)

    return show


def _without_folder(settings: CnnSettings) -> CnnSettings:
    """Return settings that name a file of weights without its folder, as those see them who get the member."""
    path = Path(settings.pretrained or "").expanduser()
    return settings.model_copy(update={"pretrained": path.name}) if path.is_file() else settings


def _describe_training(settings: CnnSettings, catalogue: Catalogue, fold: int, seed: int) -> dict[str, Any]:
    """Return what a fold's network depends on besides its inputs."""
    return {
        "fold": fold,
        "settings": _without_folder(settings).model_dump(mode="json", exclude=APPLYING),
        "trained_on": fingerprint([seed, *(scene.id for scene in catalogue.outside_fold(fold))]),
    }


def _is_done(path: Path, about: Mapping[str, Any]) -> bool:
    """Return whether a fold's network exists; one that was made otherwise is refused."""
    if not path.is_file():
        return False
    stored = read_about(path)
    other = [key for key, value in about.items() if stored.get(key) != _plain(value)]
    if other:
        raise MemberError(
            f"{path}: expected a network made with the present {', '.join(other)}, got one made with others. "
            "Train again with --overwrite, or take the changes back."
        )
    return True


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _describe_fold(directory: Path, fold: int) -> dict[str, Any]:
    """Return how a fold was trained, from its files; its loss is only in its log, which may be gone."""
    path = model_path(directory, fold)
    log = path.with_suffix(".csv")
    last = list(csv.DictReader(log.read_text("utf-8").splitlines()))[-1] if log.is_file() else None
    about = read_about(path)
    return {**{key: about[key] for key in ("normalisation", "epoch", "score")}, "loss": last and float(last["loss"])}


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"the CPU, {torch.get_num_threads()} threads"
