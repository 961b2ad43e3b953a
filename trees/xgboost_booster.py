"""XGBoost as a `Booster`; its file is XGBoost's UBJSON."""

import json
import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import xgboost
from numpy.typing import NDArray
from xgboost.core import XGBoostError

from data.errors import MemberError
from trees.booster import Rows, check_parameters
from trees.device import choose_device
from trees.forest import Forest, Link, Tree, Trees, number_apart, plant
from trees.settings import DeviceName, TreeSettings
from trees.stopping import score_held_out, stop_name

__all__ = ["XGBoostBooster"]

logger = logging.getLogger(__name__)

LINKS: dict[str, Link] = {"binary:logistic": "sigmoid", "multi:softprob": "softmax"}


class XGBoostBooster:
    """Boosted trees by XGBoost."""

    suffix, library, stops = ".ubj", "xgboost", True

    def __init__(self, model: xgboost.Booster) -> None:
        self._model = model
        self.rounds = model.num_boosted_rounds()

    @cached_property
    def forest(self) -> Forest | None:
        """The trees as arrays; None if they hold what a `Forest` cannot."""
        trees = _read_trees(json.loads(self._model.save_raw("json")))
        return None if trees is None else plant(trees)

    @classmethod
    def fit(
        cls,
        rows: Rows,
        names: Sequence[str],
        n_labels: int,
        settings: TreeSettings,
        *,
        stop: Rows | None = None,
        rounds: int | None = None,
        seed: int = 0,
        threads: int = 1,
        device: DeviceName = "auto",
    ) -> Self:
        """Learn from rows; see `Booster.fit`."""
        parameters = {
            "objective": "binary:logistic" if n_labels == 2 else "multi:softprob",
            "disable_default_eval_metric": True,
            "tree_method": "hist",
            "grow_policy": "lossguide",
            "learning_rate": settings.learning_rate,
            "max_depth": 0,
            "max_leaves": settings.leaves,
            "colsample_bytree": settings.feature_share,
            "subsample": settings.row_share,
            "reg_lambda": settings.l2,
            "max_bin": settings.bins,
            "seed": seed,
            "nthread": threads,
            "device": choose_device(device, "XGBoost", _uses_cuda),
            "validate_parameters": True,
            **({} if n_labels == 2 else {"num_class": n_labels}),
            **({"monotone_constraints": settings.monotone} if settings.monotone else {}),
            **settings.parameters,
        }
        data = _matrix(rows, names, settings, threads)
        watch: dict[str, Any] = {}
        if stop is not None:
            name, held = stop_name(settings, n_labels), stop
            watch = {
                "evals": [(_matrix(stop, names, settings, threads, data), "stop")],
                "custom_metric": lambda proba, _: (name, score_held_out(name, held, proba, n_labels)),
                "maximize": True,
                "early_stopping_rounds": settings.patience,
            }
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model = xgboost.train(parameters, data, rounds or settings.rounds, verbose_eval=False, **watch)
        except XGBoostError as error:
            raise MemberError(f"XGBoost could not learn from {len(rows)} rows: {error}.") from error
        # The library passes over parameters that it does not know with no more than a warning.
        for warning in caught:
            if "are not used" in str(warning.message):
                unused = re.findall(r'"(\w+)"', str(warning.message))
                check_parameters(unused, xgboost.XGBModel().get_params(), "XGBoost")
                raise MemberError(
                    f"parameters: expected parameters that XGBoost uses here, got {', '.join(unused)}. Leave them out."
                )
            logger.warning("XGBoost: %s", warning.message)
        return cls(model if stop is None else model[: model.best_iteration + 1])

    def predict_proba(self, features: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """Return probabilities (n, n_classes) of rows (n, F)."""
        self._model.set_param({"nthread": threads})
        proba = np.asarray(self._model.inplace_predict(features, validate_features=False), np.float32)
        return proba[:, None] if proba.ndim == 1 else proba

    def save(self, path: Path) -> None:
        """Write XGBoost's UBJSON."""
        path.write_bytes(self._model.save_raw("ubj"))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read XGBoost's UBJSON."""
        model = xgboost.Booster()
        try:
            model.load_model(bytearray(path.read_bytes()))
        except (XGBoostError, UnicodeDecodeError) as error:
            raise MemberError(f"{path}: expected an XGBoost model, got: {error}. Train the member again.") from error
        return cls(model)

    def importance(self) -> Mapping[str, float]:
        """Return each feature's share of the total gain."""
        scores = self._model.get_score(importance_type="total_gain")
        names = self._model.feature_names or []
        gains = np.array([scores.get(name, 0.0) for name in names], np.float64)
        return dict(zip(names, (gains / (gains.sum() or 1.0)).tolist(), strict=True))


def _read_trees(model: Mapping[str, Any]) -> Trees | None:
    """Read XGBoost's JSON; None for what goes beyond comparisons of one feature with one cut."""
    learner = model["learner"]
    link, about = LINKS.get(learner["objective"]["name"]), learner["learner_model_param"]
    if link is None or learner["gradient_booster"]["name"] != "gbtree":
        return None
    grown = learner["gradient_booster"]["model"]
    trees = []
    for tree, output in zip(grown["trees"], grown["tree_info"], strict=True):
        left, value = np.array(tree["left_children"]), np.array(tree["split_conditions"], np.float32)
        split = left >= 0
        if np.any(np.array(tree["split_type"])[split]) or np.isneginf(value[split]).any():
            return None
        number = number_apart(split)
        trees.append(
            Tree(
                np.array(tree["split_indices"])[split],
                # Values below the condition go left.
                np.nextafter(value[split], np.float32(-np.inf)),
                np.array(tree["default_left"], bool)[split],
                number[left[split]],
                number[np.array(tree["right_children"])[split]],
                value[~split, None],
                output,
            )
        )
    # A probability where there is one output, else a sum; in brackets since XGBoost 3.1.
    start = np.array(about["base_score"].strip("[]").split(","), np.float64)
    base = np.log(start / (1 - start)) if link == "sigmoid" else np.resize(start, int(about["num_class"]))
    return Trees.of(trees, base, int(about["num_feature"]), link)


def _matrix(
    rows: Rows,
    names: Sequence[str],
    settings: TreeSettings,
    threads: int,
    reference: xgboost.QuantileDMatrix | None = None,
) -> xgboost.QuantileDMatrix:
    return xgboost.QuantileDMatrix(
        rows.features,
        rows.label,
        weight=rows.weight,
        feature_names=list(names),
        feature_types=["c" if name in settings.categorical else "q" for name in names],
        enable_categorical=True,
        max_bin=settings.bins,
        ref=reference,
        nthread=threads,
    )


def _uses_cuda() -> bool:
    return bool(xgboost.build_info()["USE_CUDA"])
