"""CatBoost as a `Learner` and a `Booster`; its file is CatBoost's own.

The library is an optional one, and imported when first used.
"""

import inspect
import io
import logging
import math
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np
import polars
from numpy.typing import NDArray

from data.errors import MemberError
from trees.boosters.booster import Learner, Rows, check_parameters, gain_shares, unreadable
from trees.boosters.catboost_model import check_catboost_model
from trees.boosters.device import choose_device
from trees.boosters.stopping import stop_name
from trees.settings import Device, DeviceName, StopName, TreeSettings

__all__ = ["CatBoostBooster", "CatBoostLearner", "open_model"]

logger = logging.getLogger(__name__)

SYNONYMS = {
    "colsample_bylevel": "rsm",
    "eta": "learning_rate",
    "max_bin": "border_count",
    "max_depth": "depth",
    "min_child_samples": "min_data_in_leaf",
    "n_estimators": "iterations",
    "num_boost_round": "iterations",
    "num_leaves": "max_leaves",
    "num_trees": "iterations",
    "objective": "loss_function",
    "random_state": "random_seed",
    "reg_lambda": "l2_leaf_reg",
}
"""Of parameters that are set here: CatBoost refuses to be given one by two names."""

METRICS: dict[StopName, str] = {
    "iou": "F1:use_weights=true",
    "macro_iou": "TotalF1:average=Macro;use_weights=true",
    "accuracy": "Accuracy:use_weights=true",
    "average_precision": "PRAUC:use_weights=true",
}

TRY = """
import resource
import sys
from pathlib import Path
import numpy as np
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
from trees.boosters.catboost_booster import CatBoostBooster, open_model
booster = CatBoostBooster(open_model(Path(sys.argv[1])))
booster.predict_proba(np.zeros((2, len(booster.importance())), np.float32))
"""
"""Python that ends in an error, or by a signal, where CatBoost cannot read a model."""

DEEPEST, MOST_BINS = 16, 254
"""What CatBoost allows."""


class CatBoostBooster:
    """Boosted trees by CatBoost, in which all nodes of a level make the same comparison."""

    suffix = ".cbm"
    forest = None
    """All nodes of a level make the same comparison, which CatBoost's own prediction makes better use of."""

    def __init__(self, model: Any, device: Device = "cpu") -> None:
        self._model, self._device = model, device
        self.rounds: int = model.tree_count_

    def predict_proba(self, features: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """Return probabilities (n, 1) or (n, K) of rows (n, F)."""
        names, categorical = self._names()
        where = "GPU" if self._device == "cuda" and not categorical else "CPU"
        rows = _columns(features, names, categorical)
        proba = self._model.predict_proba(rows, thread_count=threads, task_type=where)
        return np.asarray(proba[:, 1:] if proba.shape[1] == 2 else proba, np.float32)

    def contributions(self, features: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32] | None:
        """Return the SHAP values (n, n_classes, F + 1) of rows (n, F)."""
        names, categorical = self._names()
        rows = _import_catboost().Pool(
            _columns(features, names, categorical), feature_names=names, cat_features=categorical or None
        )
        values = self._model.get_feature_importance(rows, type="ShapValues", thread_count=threads)
        given = np.asarray(values, np.float32).reshape(len(features), -1, features.shape[1] + 1)
        # Of a class that no row had it gives no values, and a probability of exactly 0: nothing can change it.
        seen: NDArray[np.bool_] = np.any(self.predict_proba(features, threads), axis=0)
        if given.shape[1] == len(seen):
            return given
        contributions = np.zeros((len(features), len(seen), features.shape[1] + 1), np.float32)
        contributions[:, seen] = given
        return contributions

    def save(self, path: Path) -> None:
        """Write CatBoost's binary format."""
        self._model.save_model(str(path), format="cbm")

    @classmethod
    def load(cls, path: Path, device: Device = "cpu") -> Self:
        """Read CatBoost's binary format; where it holds more than trees, in a process of its own first."""
        catboost = _import_catboost()
        try:
            if not check_catboost_model(path.read_bytes()):
                _try_alone(path)
            booster = cls(open_model(path), device)
            # Of its options, which lie in the file as text, it reads some only now.
            booster.predict_proba(np.zeros((1, len(booster.importance())), np.float32))
            return booster
        except (catboost.CatBoostError, struct.error, ValueError, OSError) as error:
            raise unreadable(path, "a CatBoost model", error) from error

    def importance(self) -> Mapping[str, float]:
        """Return each feature's share of how much predictions change with the features."""
        changes = np.asarray(self._model.get_feature_importance(type="PredictionValuesChange"), np.float64)
        return gain_shares(self._model.feature_names_, changes)

    def _names(self) -> tuple[list[str], list[str]]:
        """Return the names of the features, and of those that are kinds."""
        names = list(self._model.feature_names_)
        return names, [names[index] for index in self._model.get_cat_feature_indices()]


class CatBoostLearner(Learner):
    """Fits CatBoost."""

    booster, library, title = CatBoostBooster, "catboost", "CatBoost"

    def fit(self, settings: TreeSettings, chosen: Rows, held: Rows | None = None, seed: int = 0) -> CatBoostBooster:
        """Learn from some of the rows, which are held in memory; see `Learner.fit`.

        Trees of a symmetric shape have no fewest rows in a leaf.
        """
        catboost = _import_catboost()
        check_parameters(settings.parameters, inspect.signature(catboost.CatBoostClassifier).parameters, self.title)
        given = {SYNONYMS.get(name, name): value for name, value in settings.parameters.items()}
        # Monotone constraints CatBoost knows on a CPU alone.
        wanted: DeviceName = "cpu" if self.device == "auto" and settings.monotone else self.device
        on_gpu = choose_device(wanted, self.title, _uses_cuda) == "cuda"
        parameters = {
            "loss_function": "Logloss" if self.n_labels == 2 else "MultiClass",
            "class_names": list(range(self.n_labels)),
            "iterations": settings.rounds,
            "learning_rate": settings.learning_rate,
            "l2_leaf_reg": settings.l2,
            "border_count": min(settings.bins, MOST_BINS),
            "boosting_type": "Plain",
            "random_seed": seed,
            "thread_count": self.threads,
            "task_type": "GPU" if on_gpu else "CPU",
            "allow_writing_files": False,
            "logging_level": "Silent",
            **_shape(settings, given.get("grow_policy", "SymmetricTree")),
            "bootstrap_type": "No" if settings.subsample == 1 else "Bernoulli",
            **({} if settings.subsample == 1 else {"subsample": settings.subsample}),
            # On a GPU CatBoost refuses a share of the columns.
            **({} if on_gpu else {"rsm": settings.colsample}),
            **({"monotone_constraints": settings.monotone} if settings.monotone else {}),
            **({} if held is None else {"use_best_model": True, "od_type": "Iter", "od_wait": settings.patience}),
            **({} if held is None else {"eval_metric": _metric(settings, self.label[held], self.n_labels)}),
            **given,
        }
        said = io.StringIO()
        try:
            model = catboost.CatBoostClassifier(**parameters)
            model.fit(
                _pool(self, chosen, settings.categorical),
                eval_set=None if held is None else _pool(self, held, settings.categorical),
                log_cout=said,
                log_cerr=said,
            )
        except catboost.CatBoostError as error:
            raise self.failure(chosen, error) from error
        for line in said.getvalue().splitlines():
            logger.warning("CatBoost: %s", line)
        # Else the same trees would make another file every time.
        for name in ("model_guid", "train_finish_time"):
            model.get_metadata()[name] = ""
        return CatBoostBooster(model)


def open_model(path: Path) -> Any:
    """Return the model of a file as CatBoost reads it, which trusts the file."""
    model = _import_catboost().CatBoostClassifier()
    model.load_model(str(path), format="cbm")
    return model


def _try_alone(path: Path, seconds: float = 120) -> None:
    """Load a model and predict by it in a process that it may end; raises ValueError if it does."""
    try:
        subprocess.run([sys.executable, "-c", TRY, str(path)], check=True, capture_output=True, timeout=seconds)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise ValueError("one that CatBoost cannot read") from error


def _import_catboost() -> ModuleType:
    try:
        import catboost
    except ImportError as error:
        raise MemberError(
            "booster catboost: expected CatBoost, it is not installed. Install `terrablend[catboost]`."
        ) from error
    module: ModuleType = catboost
    return module


def _shape(settings: TreeSettings, grow_policy: str) -> dict[str, int]:
    if grow_policy == "SymmetricTree":
        return {"depth": min(max(round(math.log2(settings.leaves)), 1), DEEPEST)}
    most = {"max_leaves": settings.leaves, "depth": DEEPEST} if grow_policy == "Lossguide" else {}
    return {"min_data_in_leaf": settings.leaf_rows, **most}


def _metric(settings: TreeSettings, held: NDArray[np.uint8], n_labels: int) -> str:
    """Return CatBoost's own metric that ranks rounds as ours does, or nearly: its mean of classes is of their F1."""
    name = stop_name(settings, n_labels)
    if name == "average_precision" and len(np.unique(held)) < 2:
        # CatBoost refuses it for rows of one class.
        name = "log_loss"
    if name == "log_loss":
        return "Logloss" if n_labels == 2 else "MultiClass"
    return f"{METRICS[name]};hints=skip_train~true"


def _pool(learner: CatBoostLearner, chosen: Rows, categorical: Sequence[str]) -> Any:
    table = learner.table
    return _import_catboost().Pool(
        _columns(table.read(chosen), table.names, categorical),
        learner.label[chosen],
        weight=learner.weight[chosen],
        feature_names=list(table.names),
        cat_features=list(categorical) or None,
    )


def _columns(
    features: NDArray[np.float32], names: Sequence[str], categorical: Sequence[str]
) -> NDArray[np.float32] | polars.DataFrame:
    """Return rows (n, F) as CatBoost takes them: it refuses fractional numbers, and so NaN, for kinds."""
    if not categorical:
        return features
    table = polars.DataFrame(features, schema=list(names), orient="row")
    return table.with_columns(polars.col(*categorical).cast(polars.Int32, strict=False).fill_null(-1))


def _uses_cuda() -> bool:
    from catboost.utils import get_gpu_device_count

    return bool(get_gpu_device_count() > 0)
