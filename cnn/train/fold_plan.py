"""What the network of a fold learns from, as the settings ask for it."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cnn.crops.crops import Crops, SceneStore
from cnn.crops.scene_weights import weigh_scenes
from cnn.inputs.normalisation import Normalisation, fit_normalisation
from cnn.inputs.settings import NormaliseSettings
from cnn.losses.loss_terms import parse_loss
from cnn.losses.pixel_losses import LossOptions, WeightedLoss
from cnn.losses.tag_losses import TagLoss
from cnn.settings import CnnSettings
from cnn.train.heads import check_kind, kind_of
from data.names import named_weights
from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from data.scenes.scene import Scene
from data.scenes.tags import read_tags

__all__ = ["build_crops", "build_loss", "check_names", "count_labels", "fit_normalisations", "target_labels"]


def target_labels(classes: Classes) -> tuple[int, ...]:
    """Return the label indices that crops are placed on: the positive one when binary, else all; none of tags."""
    if classes.task == "multilabel":
        return ()
    return (1,) if classes.task == "binary" else tuple(range(len(classes.names)))


def check_names(settings: CnnSettings, catalogue: Catalogue, planes: Sequence[str]) -> None:
    """Refuse settings that do not suit the task, and unknown names in them, before any scene is read.

    Raises
    ------
    MemberError
        If a weight or a scale is given to a class, a fact or a plane that there is not, or a setting is not one of
        the task.
    """
    classes, labels = catalogue.classes, len(catalogue.classes.label_names)
    check_kind(settings, classes)
    build_loss(settings, classes, np.ones((labels, 2) if classes.task == "multilabel" else labels, np.int64))
    _target_weights(settings, classes)
    weigh_scenes(settings.scene_weights, catalogue, catalogue.split("train"))
    if isinstance(settings.normalise.scale, dict):
        named_weights("normalise.scale", settings.normalise.scale, planes, [1.0] * len(planes))


def fit_normalisations(
    settings: NormaliseSettings, store: SceneStore, scenes: Sequence[Scene], others: Sequence[Scene] = ()
) -> dict[str, Normalisation]:
    """Fit the normalisation of each scene, by its id: that of ``scenes``, of which others have no say, or its own."""
    if settings.per_scene:
        return {
            scene.id: fit_normalisation(settings, [store.spread(scene)], store.names) for scene in (*scenes, *others)
        }
    whole = fit_normalisation(settings, [store.spread(scene) for scene in scenes], store.names)
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
        If there is nothing to learn in these scenes, or a weight is given to a class or a fact that there is not.
    """
    names = catalogue.classes.label_names
    task = catalogue.classes.task
    share = settings.positive_share
    if share is None:
        share = 0.5 if task == "binary" else 0.0
    areas = np.array([scene.grid.height * scene.grid.width for scene in scenes])
    weights = weigh_scenes(settings.scene_weights, catalogue, scenes)
    crops = areas * settings.resize**2 / side**2
    if task == "multilabel":
        # Scenes are what is counted, whatever their size.
        weights, crops = weights / areas, crops.clip(min=1)
    steps = settings.steps or max(1, round(crops.sum() / settings.batch_size))
    return kind_of(catalogue.classes).crops(
        store,
        scenes,
        normalisations,
        settings.augment,
        side=side,
        resize=settings.resize,
        labels=len(names),
        count=steps * settings.batch_size,
        positive_share=share,
        target_weights=_target_weights(settings, catalogue.classes),
        scene_weights=weights,
        seed=seed,
    )


def count_labels(store: SceneStore, classes: Classes, scenes: Sequence[Scene]) -> NDArray[np.int64]:
    """Return the pixels of each label (L,) in some scenes; or the scenes without and with each tag (K, 2)."""
    if classes.task != "multilabel":
        return store.label_counts(scenes, len(classes.label_names))
    tags = np.stack([read_tags(scene, len(classes.names)) for scene in scenes])
    return np.stack([(tags == has).sum(axis=0, dtype=np.int64) for has in (0, 1)], axis=1)


def build_loss(settings: CnnSettings, classes: Classes, label_counts: NDArray[np.int64]) -> WeightedLoss | TagLoss:
    """Build the loss that a member's settings ask for.

    Parameters
    ----------
    settings : CnnSettings
    classes : Classes
    label_counts : (L,) int64
        Pixels of each label in the training scenes: balanced class weights make all labels that there are count the
        same. Of tags (K, 2); see `count_labels`.

    Raises
    ------
    MemberError
        If weights are given to a class that is none, or a loss of pixels to tags.
    """
    names, tags = classes.label_names, classes.task == "multilabel"
    alike = [1.0] * len(names)
    if settings.class_weights == "balanced":
        counts = label_counts[:, 1] if tags else label_counts
        usual = counts.sum() / len(counts)
        class_weights = tuple(usual / count if count else 0.0 for count in counts.tolist())
    else:
        given = {} if settings.class_weights == "none" else settings.class_weights
        class_weights = named_weights("class_weights", given, names, alike)
    if tags:
        pos_weight = _positive_weights(settings, names, label_counts)
        terms = parse_loss(settings.loss)
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
    return WeightedLoss(parse_loss(settings.loss), options)


def _positive_weights(
    settings: CnnSettings, names: Sequence[str], label_counts: NDArray[np.int64]
) -> tuple[float, ...]:
    """Return how many times as much each tag counts where there is one: balanced, in sum as much as where not."""
    given = settings.pos_weight
    if given == "balanced":
        return tuple(max(without, 1) / count if count else 1.0 for without, count in label_counts.tolist())
    return named_weights("pos_weight", {} if given == "none" else given, names, [1.0] * len(names))


def _target_weights(settings: CnnSettings, classes: Classes) -> tuple[float, ...]:
    names = [classes.label_names[target] for target in target_labels(classes)]
    if not names:
        return ()
    return named_weights("crop_weights", settings.crop_weights, names, [1.0] * len(names))
