"""Plan the training of one fold's network: its scenes, their normalisation, crops, tiles and loss."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnn.crops.crops import Crops, SceneStore
from cnn.crops.placement import CropPlan
from cnn.crops.scene_weights import weigh_scenes
from cnn.inputs.normalisation import Normalisation, fit_normalisation
from cnn.losses.loss_terms import parse_loss
from cnn.losses.pixel_losses import LossOptions, WeightedLoss
from cnn.losses.tag_losses import TagLoss
from cnn.network.weight_files import read_scaling
from cnn.settings import CnnSettings
from cnn.train.heads import check_head
from cnn.train.validation import Tiles
from data.errors import MemberError
from data.folds.hold_out import hold_out_scenes
from data.names import named_weights
from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from data.scenes.scene import Scene
from data.scenes.tags import read_tags

__all__ = [
    "LARGEST_BATCH",
    "FoldPlan",
    "build_crops",
    "build_loss",
    "check_names",
    "count_labels",
    "fit_normalisations",
    "plan_fold",
    "target_labels",
]

logger = logging.getLogger(__name__)

SMALLEST_BATCH, LARGEST_BATCH = 4, 16
"""Crops: batch normalisation needs some, and more of them teach no more a step than these."""

WANTED_STEPS, FEWEST_STEPS = 32, 8
"""An epoch: with two batches, as few small scenes give of 16 large crops, 50 epochs would teach next to nothing."""


@dataclass(frozen=True)
class FoldPlan:
    """The scenes that one fold's network learns from and is scored on, and how.

    Parameters
    ----------
    classes : Classes
    crops : Crops
        What it learns from.
    tiles : Tiles or None
        Of the scenes held out, by which it is scored.
    loss : WeightedLoss or TagLoss
        (logits, truth) → scalar.
    seed : int
        Unlike that of any other fold.
    normalisation : Normalisation or None
        Of the scenes that it learns from; None if each scene has its own.
    """

    classes: Classes
    crops: Crops
    tiles: Tiles | None
    loss: WeightedLoss | TagLoss
    seed: int
    normalisation: Normalisation | None = None

    @property
    def held_out(self) -> tuple[str, ...]:
        """Ids of the scenes held out."""
        return () if self.tiles is None else tuple(scene.id for scene in self.tiles.scenes)


def plan_fold(
    settings: CnnSettings, catalogue: Catalogue, fold: int, store: SceneStore, *, side: int, seed: int
) -> FoldPlan:
    """Plan the training of a fold's network.

    Parameters
    ----------
    settings : CnnSettings
    catalogue : Catalogue
    fold : int
    store : SceneStore
        Holds all scenes outside the fold.
    side : int
        Of what the network sees, pixels.
    seed : int
        The member's.

    Raises
    ------
    MemberError
        If there is nothing to learn outside the fold.
    """
    held_out = _hold_out(settings, catalogue, fold, seed)
    # Every crop of a scene without a labelled pixel would be empty.
    learned = [scene for scene in catalogue.labelled if scene.fold != fold and scene not in held_out]
    if not learned:
        raise MemberError(f"fold {fold}: expected training scenes in other folds, got none. Use more than one fold.")
    seed = int(np.random.SeedSequence([seed, fold]).generate_state(1)[0])
    try:
        normalisations = fit_normalisations(settings, store, learned, held_out)
        crops = build_crops(store, catalogue, learned, normalisations, settings, side, seed)
    except MemberError as error:
        raise MemberError(f"the scenes outside fold {fold}: {error}") from error
    return FoldPlan(
        catalogue.classes,
        crops,
        Tiles(store, held_out, normalisations, side, settings.resize) if held_out else None,
        build_loss(settings, catalogue.classes, count_labels(store, catalogue.classes, learned)),
        seed,
        None if settings.normalise.per_scene else normalisations[learned[0].id],
    )


def _hold_out(settings: CnnSettings, catalogue: Catalogue, fold: int, seed: int) -> tuple[Scene, ...]:
    """Choose the scenes, none of the fold's own, that score a fold's network while it learns."""
    held_out = hold_out_scenes(catalogue, fold, settings.validation_fraction, np.random.default_rng([seed, fold]))
    if settings.validation_fraction and not held_out:
        logger.warning("fold %d: a single group to learn from, so that none is held out", fold)
    return held_out


def target_labels(classes: Classes) -> tuple[int, ...]:
    """Return the label indices that crops are placed on: the positive one when binary, else all; none of tags."""
    if classes.task == "multilabel":
        return ()
    return (1,) if classes.task == "binary" else tuple(range(len(classes.names)))


def check_names(settings: CnnSettings, catalogue: Catalogue, channels: Sequence[str]) -> None:
    """Refuse settings that do not suit the task, and unknown names in them, before any scene is read.

    Raises
    ------
    MemberError
        If a weight or a scale is given to an unknown class, fact or channel, or a setting is not one of the task.
    """
    classes = catalogue.classes
    check_head(settings, classes)
    build_loss(settings, classes, np.ones((classes.n_questions, classes.n_labels), np.int64))
    _target_weights(settings, classes)
    weigh_scenes(settings.scene_weights, catalogue, catalogue.split("train"))
    if isinstance(settings.normalise.scale, dict):
        named_weights("normalise.scale", settings.normalise.scale, channels, [1.0] * len(channels))


def fit_normalisations(
    settings: CnnSettings, store: SceneStore, scenes: Sequence[Scene], others: Sequence[Scene] = ()
) -> dict[str, Normalisation]:
    """Fit the normalisation of each scene, by its id: that of ``scenes`` together, or its own."""
    normalise = settings.normalise
    if normalise.per_scene:
        return {
            scene.id: fit_normalisation(normalise, [store.spread(scene)], store.names) for scene in (*scenes, *others)
        }
    learned = read_scaling(settings) if normalise.by == "pretrained" else {}
    whole = fit_normalisation(normalise, [store.spread(scene) for scene in scenes], store.names, learned)
    return {scene.id: whole for scene in (*scenes, *others)}


def build_crops(
    store: SceneStore,
    catalogue: Catalogue,
    scenes: Sequence[Scene],
    normalisations: Mapping[str, Normalisation],
    settings: CnnSettings,
    side: int,
    seed: int,
) -> Crops:
    """Build the crops of some training scenes.

    Parameters
    ----------
    store : SceneStore
        Its targets are those labels that crops are placed on.
    catalogue : Catalogue
    scenes : sequence of Scene
        Of the store.
    normalisations : mapping of str to Normalisation
        By scene id.
    settings : CnnSettings
    side : int
        Of what the network sees, pixels.
    seed : int

    Raises
    ------
    MemberError
        If there is nothing to learn in these scenes, or a weight is given to an unknown class or fact.
    """
    classes, task = catalogue.classes, catalogue.classes.task
    share = settings.positive_share
    if share is None:
        share = 0.5 if task == "binary" else 0.0
    areas = np.array([scene.grid.height * scene.grid.width for scene in scenes])
    weights = weigh_scenes(settings.scene_weights, catalogue, scenes)
    crops = areas * settings.resize**2 / side**2
    if task == "multilabel":
        # Scenes are what is counted, whatever their size.
        weights, crops = weights / areas, crops.clip(min=1)
    batch = settings.batch_size or _batch_size(crops.sum(), settings.devices)
    plan = CropPlan(
        side,
        batch,
        settings.steps or max(FEWEST_STEPS, round(crops.sum() / batch)),
        seed,
        settings.augment,
        settings.resize,
        share,
        _target_weights(settings, classes),
        weights,
    )
    return Crops(store, scenes, normalisations, plan, len(classes.label_names))


def _batch_size(crops: float, devices: int) -> int:
    """Return how many of the crops that show all scenes once are a batch: less where there are few of them."""
    size = max(min(int(crops / WANTED_STEPS), LARGEST_BATCH), SMALLEST_BATCH, 2 * devices)
    return -(-size // devices) * devices


def count_labels(store: SceneStore, classes: Classes, scenes: Sequence[Scene]) -> NDArray[np.int64]:
    """Return the pixels of each label (1, L) in some scenes; or the scenes without and with each tag (K, 2)."""
    if classes.task != "multilabel":
        return store.label_counts(scenes, classes.n_labels)[None]
    tags = np.stack([read_tags(scene, len(classes.names)) for scene in scenes])
    return np.stack([(tags == has).sum(axis=0, dtype=np.int64) for has in (0, 1)], axis=1)


def build_loss(settings: CnnSettings, classes: Classes, label_counts: NDArray[np.int64]) -> WeightedLoss | TagLoss:
    """Build the loss that a member's settings ask for.

    Parameters
    ----------
    settings : CnnSettings
    classes : Classes
    label_counts : (n_questions, n_labels) int64
        See `count_labels`; balanced class weights make all labels or tags in the training scenes count the same.

    Raises
    ------
    MemberError
        If weights are given to an unknown class, or a loss of pixels to tags.
    """
    names, tags, terms = classes.label_names, classes.task == "multilabel", parse_loss(settings.loss)
    alike = [1.0] * len(names)
    if settings.class_weights == "balanced":
        counts = label_counts[:, 1] if tags else label_counts[0]
        usual = counts.sum() / len(counts)
        class_weights = tuple(usual / count if count else 0.0 for count in counts.tolist())
    else:
        given = {} if settings.class_weights == "none" else settings.class_weights
        class_weights = named_weights("class_weights", given, names, alike)
    if tags:
        pos_weight = _pos_weight(settings, names, label_counts)
        return TagLoss(terms, class_weights, pos_weight, settings.label_smoothing, settings.focal_gamma)
    regions = [0.0, 1.0] if classes.task == "binary" else alike
    region_weights = named_weights("region_weights", settings.region_weights, names, regions)
    options = LossOptions(
        class_weights,
        region_weights,
        settings.label_smoothing,
        settings.focal_gamma,
        settings.tversky_alpha,
        settings.tversky_beta,
    )
    return WeightedLoss(terms, options)


def _pos_weight(settings: CnnSettings, names: Sequence[str], label_counts: NDArray[np.int64]) -> tuple[float, ...]:
    """Return the weight of each tag in scenes that have it; balanced ones sum up to the scenes without it."""
    given = settings.pos_weight
    if given == "balanced":
        return tuple(max(without, 1) / count if count else 1.0 for without, count in label_counts.tolist())
    return named_weights("pos_weight", {} if given == "none" else given, names, [1.0] * len(names))


def _target_weights(settings: CnnSettings, classes: Classes) -> dict[int, float]:
    """Return how often crops are placed on each label that they are placed on."""
    targets = target_labels(classes)
    names = [classes.label_names[target] for target in targets]
    weights = named_weights("crop_weights", settings.crop_weights, names, [1.0] * len(names)) if names else ()
    return dict(zip(targets, weights, strict=True))
