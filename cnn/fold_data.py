"""What the network of a fold learns from, as the settings ask for it."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cnn.input_settings import NormaliseSettings
from cnn.loss_terms import parse_loss
from cnn.losses import LossOptions, WeightedLoss
from cnn.normalisation import Normalisation, fit_normalisation
from cnn.patches import Crops, SceneStore
from cnn.scene_weights import weigh_scenes
from cnn.settings import CnnSettings
from data.catalogue import Catalogue
from data.classes import Classes
from data.names import named_weights
from data.scene import Scene

__all__ = ["build_crops", "build_loss", "check_names", "fit_normalisations", "target_labels"]


def target_labels(classes: Classes) -> tuple[int, ...]:
    """Return the label indices that crops are placed on: the positive one when binary, else all."""
    return (1,) if classes.task == "binary" else tuple(range(len(classes.names)))


def check_names(settings: CnnSettings, catalogue: Catalogue, planes: Sequence[str]) -> None:
    """Refuse unknown names in the settings before any scene is read.

    Raises
    ------
    MemberError
        If a weight or a scale is given to a class, a fact or a plane that there is not.
    """
    build_loss(settings, catalogue.classes, np.ones(len(catalogue.classes.label_names), np.int64))
    _target_weights(settings, catalogue.classes)
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
    store: SceneStore, catalogue: Catalogue, scenes: Sequence[Scene], normalisations: Mapping[str, Normalisation],
    settings: CnnSettings, side: int, seed: int,
) -> Crops:  # fmt: skip
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
    binary = catalogue.classes.task == "binary"
    share = settings.positive_share
    if share is None:
        share = 0.5 if binary else 0.0
    area = sum(scene.grid.height * scene.grid.width for scene in scenes) * settings.resize**2
    steps = settings.steps or max(1, round(area / (settings.batch_size * side**2)))
    return Crops(
        store, scenes, normalisations, settings.augment, side=side, resize=settings.resize, labels=len(names),
        count=steps * settings.batch_size, positive_share=share,
        target_weights=_target_weights(settings, catalogue.classes),
        scene_weights=weigh_scenes(settings.scene_weights, catalogue, scenes), seed=seed,
    )  # fmt: skip


def build_loss(settings: CnnSettings, classes: Classes, label_counts: NDArray[np.int64]) -> WeightedLoss:
    """Build the loss that a member's settings ask for.

    Parameters
    ----------
    settings : CnnSettings
    classes : Classes
    label_counts : (L,) int64
        Pixels of each label in the training scenes: balanced class weights make all labels that there are count the
        same.

    Raises
    ------
    MemberError
        If weights are given to a class that is none.
    """
    names = classes.label_names
    alike = [1.0] * len(names)
    if settings.class_weights == "balanced":
        usual = label_counts.sum() / len(label_counts)
        class_weights = tuple(usual / count if count else 0.0 for count in label_counts.tolist())
    else:
        given = {} if settings.class_weights == "none" else settings.class_weights
        class_weights = named_weights("class_weights", given, names, alike)
    regions = [0.0, 1.0] if classes.task == "binary" else alike
    region_weights = named_weights("region_weights", settings.region_weights, names, regions)
    options = LossOptions(
        class_weights, region_weights, settings.label_smoothing, settings.focal_gamma, settings.tversky_alpha,
        settings.tversky_beta,
    )  # fmt: skip
    return WeightedLoss(parse_loss(settings.loss), options)


def _target_weights(settings: CnnSettings, classes: Classes) -> tuple[float, ...]:
    names = [classes.label_names[target] for target in target_labels(classes)]
    return named_weights("crop_weights", settings.crop_weights, names, [1.0] * len(names))
