"""scikit-learn's forests and histogram boosting as `Learner`s; their file holds plain arrays, no pickle."""

import inspect
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from sklearn.base import ClassifierMixin
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from threadpoolctl import threadpool_limits

from data.archives import open_zip
from data.errors import MemberError
from data.records import FileKind
from trees.boosters.booster import Learner, Rows, check_parameters, gain_shares
from trees.boosters.device import choose_device
from trees.forest.forest import Forest, Link, Tree, Trees, build_forest, floor_float32, number_nodes
from trees.settings import Device, TreeSettings

__all__ = ["HistGradientBoostingLearner", "RandomForestLearner", "SklearnBooster"]


@dataclass(frozen=True)
class About:
    """What is known of a model besides its trees."""

    gain: dict[str, float]
    rounds: int


ABOUT = TypeAdapter(About)
ARRAYS = FileKind("trees as arrays", MemberError, "terrablend trees")


class SklearnBooster:
    """Trees that scikit-learn grew. Its own format is a pickle, which can run anything: they are kept as arrays.

    Parameters
    ----------
    trees : Trees
    gain : mapping of str to float
        Each feature's share of the total gain.
    rounds : int
    """

    suffix = ".npz"

    def __init__(self, trees: Trees, gain: Mapping[str, float], rounds: int) -> None:
        self._trees, self._gain, self.rounds = trees, dict(gain), rounds

    @cached_property
    def forest(self) -> Forest | None:
        """The trees as arrays; None if they have too many split values."""
        return build_forest(self._trees)

    def predict_proba(self, features: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """Return probabilities of rows, tree by tree."""
        return self._trees.predict_proba(features, threads)

    def contributions(self, features: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32] | None:
        """Return None: scikit-learn gives no SHAP values."""
        return None

    def save(self, path: Path) -> None:
        """Write the trees' arrays, see `Trees`, and what is known of the model."""
        self._trees.save(path)
        with zipfile.ZipFile(path, "a") as archive:
            # Without a date of its own, the file is the same whenever it is written.
            archive.writestr(zipfile.ZipInfo("model.json"), json.dumps({"gain": self._gain, "rounds": self.rounds}))

    @classmethod
    def load(cls, path: Path, device: Device = "cpu") -> Self:
        """Read what `save` wrote; it predicts on a CPU alone."""
        with open_zip(path, ARRAYS) as archive:
            about = ABOUT.validate_json(archive.read("model.json"))
            trees = Trees.load(archive)
            if len(about.gain) != trees.n_features:
                raise ValueError(f"{trees.n_features} features of {len(about.gain)} names")
            return cls(trees, about.gain, about.rounds)

    def importance(self) -> Mapping[str, float]:
        """Return each feature's share of the total gain."""
        return self._gain


class RandomForestLearner(Learner):
    """Fits a random forest, or with ``extra_trees`` extremely randomised trees; nothing is boosted."""

    booster, library, title, stops = SklearnBooster, "scikit-learn", "scikit-learn", False

    def fit(self, settings: TreeSettings, chosen: Rows, held: Rows | None = None, seed: int = 0) -> SklearnBooster:
        """Learn from some of the rows, which are held in memory; see `Learner.fit`."""
        kind = ExtraTreesClassifier if settings.extra_trees else RandomForestClassifier
        parameters = {
            "n_estimators": settings.rounds,
            "max_leaf_nodes": settings.leaves,
            "min_samples_leaf": settings.leaf_rows,
            "max_features": settings.colsample,
            "bootstrap": True,
            "max_samples": settings.subsample if settings.subsample < 1 else None,
            "n_jobs": self.threads,
        }
        model = _make(kind, parameters, self, settings, seed)
        _fit(model, self.table.read(chosen), self, chosen)
        share = 1 / len(model.estimators_)
        trees = [_forest_tree(each.tree_, model.classes_, self.n_labels, share) for each in model.estimators_]
        gain = dict(zip(self.table.names, model.feature_importances_.tolist(), strict=True))
        base = np.zeros(1 if self.n_labels == 2 else self.n_labels)
        return SklearnBooster(Trees.of(trees, base, len(gain), "identity"), gain, len(trees))


class HistGradientBoostingLearner(Learner):
    """Boosts trees by scikit-learn, on histograms."""

    booster, library, title = SklearnBooster, "scikit-learn", "scikit-learn"

    def fit(self, settings: TreeSettings, chosen: Rows, held: Rows | None = None, seed: int = 0) -> SklearnBooster:
        """Learn from some of the rows, which are held in memory; see `Learner.fit`.

        It has no ``subsample``.
        """
        parameters = {
            "learning_rate": settings.learning_rate,
            "max_iter": settings.rounds if held is None else min(settings.patience, settings.rounds),
            "max_leaf_nodes": settings.leaves,
            "min_samples_leaf": settings.leaf_rows,
            "max_features": settings.colsample,
            "l2_regularization": settings.l2,
            "max_bins": settings.bins,
            "early_stopping": False,
            "warm_start": held is not None,
        }
        model = _make(HistGradientBoostingClassifier, parameters, self, settings, seed)
        features = self.table.read(chosen)
        with threadpool_limits(self.threads, "openmp"):
            _fit(model, features, self, chosen)
            best = model.n_iter_ if held is None else self._best_round(model, features, chosen, held, settings)
        grown = model._predictors[:best]
        base = _start(model._baseline_prediction.ravel(), model.classes_, self.n_labels)
        outputs = [0] if self.n_labels == 2 else model.classes_[-len(grown[0]) :].tolist()
        trees = [
            _boosted_tree(tree.nodes, output) for group in grown for tree, output in zip(group, outputs, strict=True)
        ]
        gains = np.zeros(len(self.table.names))
        for group in grown:
            for tree in group:
                inner = tree.nodes[tree.nodes["is_leaf"] == 0]
                np.add.at(gains, inner["feature_idx"], inner["gain"])
        gain = gain_shares(self.table.names, gains)
        link: Link = "sigmoid" if self.n_labels == 2 else "softmax"
        return SklearnBooster(Trees.of(trees, base, len(gain), link), gain, best)

    def _best_round(
        self,
        model: HistGradientBoostingClassifier,
        features: NDArray[np.float32],
        chosen: Rows,
        held: Rows,
        settings: TreeSettings,
    ) -> int:
        """Learn on until the rows held out have not scored better for ``patience`` rounds; return the best round."""
        rows, (_, score_of) = self.table.read(held), self.monitor(settings, held)
        best, best_score, seen = 0, -np.inf, 0
        while True:
            for number, known in enumerate(model.staged_predict_proba(rows), 1):
                if number > seen:
                    proba = np.zeros((len(rows), self.n_labels))
                    proba[:, model.classes_] = known
                    score = score_of(proba[:, 1:] if self.n_labels == 2 else proba)
                    if score > best_score:
                        best, best_score = number, score
            seen = model.n_iter_
            if seen >= settings.rounds or seen - best >= settings.patience:
                return best
            model.set_params(max_iter=min(best + settings.patience, settings.rounds))
            _fit(model, features, self, chosen)


def _make(
    kind: type[ClassifierMixin], parameters: Mapping[str, Any], learner: Learner, settings: TreeSettings, seed: int
) -> Any:
    choose_device(learner.device, learner.title, lambda: False)
    if settings.categorical:
        raise MemberError(
            f"categorical: expected none with {settings.booster}, got {', '.join(settings.categorical)}. "
            "Use lightgbm, xgboost or catboost, or take the columns for numbers."
        )
    check_parameters(settings.parameters, inspect.signature(kind).parameters, learner.title)
    monotone = [settings.monotone.get(name, 0) for name in learner.table.names] if settings.monotone else None
    return kind(**{**parameters, "monotonic_cst": monotone, "random_state": seed, **settings.parameters})


def _fit(model: Any, features: NDArray[np.float32], learner: Learner, chosen: Rows) -> None:
    try:
        model.fit(features, learner.label[chosen], learner.weight[chosen])
    except ValueError as error:
        raise learner.failure(chosen, error) from error


def _forest_tree(tree: Any, classes: NDArray[np.integer], n_labels: int, share: float) -> Tree:
    """Read a tree of a forest: its leaves hold shares of the classes."""
    split = tree.children_left >= 0
    number = number_nodes(split)
    held = tree.value[~split, 0]
    shares = np.zeros((len(held), n_labels))
    shares[:, classes] = share * held / held.sum(axis=1, keepdims=True)
    return Tree(
        tree.feature[split],
        floor_float32(tree.threshold[split]),
        tree.missing_go_to_left[split].astype(bool),
        number[tree.children_left[split]],
        number[tree.children_right[split]],
        shares[:, 1:] if n_labels == 2 else shares,
    )


def _boosted_tree(nodes: NDArray[Any], output: int) -> Tree:
    split = nodes["is_leaf"] == 0
    number = number_nodes(split)
    inner = nodes[split]
    return Tree(
        inner["feature_idx"],
        floor_float32(inner["num_threshold"]),
        inner["missing_go_to_left"].astype(bool),
        number[inner["left"]],
        number[inner["right"]],
        nodes["value"][~split, None],
        output,
    )


def _start(baseline: NDArray[np.float64], classes: NDArray[np.integer], n_labels: int) -> NDArray[np.float64]:
    """Return what the trees' sums begin with: of all labels, though a model of two classes has one sum."""
    if n_labels == 2:
        return baseline
    start = np.full(n_labels, -np.inf)
    start[classes] = 0
    start[classes[-len(baseline) :]] = baseline
    return start
