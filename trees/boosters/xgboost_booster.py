"""XGBoost as a `Learner` and a `Booster`; its file is XGBoost's UBJSON."""

import json
import logging
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import xgboost
from numpy.typing import NDArray
from xgboost.core import XGBoostError

from data.errors import MemberError
from features.table import Table
from trees.boosters.booster import Learner, Rows, check_parameters, decode_name, encode_name, gain_shares, unreadable
from trees.boosters.device import choose_device
from trees.boosters.xgboost_ubjson import check_xgboost_ubjson
from trees.forest.forest import Forest, Link, Tree, Trees, build_forest, number_nodes
from trees.settings import Device, TreeSettings

__all__ = ["XGBoostBooster", "XGBoostLearner"]

logger = logging.getLogger(__name__)

LINKS: dict[str, Link] = {"binary:logistic": "sigmoid", "multi:softprob": "softmax"}


class XGBoostBooster:
    """Boosted trees by XGBoost."""

    suffix = ".ubj"

    def __init__(self, model: xgboost.Booster, device: Device = "cpu") -> None:
        self._model, self._device = model, device
        model.set_param({"device": device})
        self.rounds = model.num_boosted_rounds()

    @cached_property
    def forest(self) -> Forest | None:
        """The trees as arrays; None on a GPU, and if they hold what a `Forest` cannot."""
        if self._device == "cuda":
            return None
        trees = self.read_trees()
        return None if trees is None else build_forest(trees)

    def read_trees(self) -> Trees | None:
        """Return the trees with their split values; None if they hold what `Trees` cannot."""
        return _read_trees(json.loads(self._model.save_raw("json")))

    def predict_proba(self, features: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """Return probabilities (n, n_classes) of rows (n, F)."""
        self._model.set_param({"nthread": threads})
        if self._device == "cuda":
            rows = xgboost.DMatrix(features, nthread=threads)
            proba = np.asarray(self._model.predict(rows, validate_features=False), np.float32)
        else:
            proba = np.asarray(self._model.inplace_predict(features, validate_features=False), np.float32)
        return proba[:, None] if proba.ndim == 1 else proba

    def contributions(self, features: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32] | None:
        """Return the SHAP values (n, n_classes, F + 1) of rows (n, F)."""
        self._model.set_param({"nthread": threads})
        rows = xgboost.DMatrix(
            features,
            feature_names=self._model.feature_names,
            feature_types=self._model.feature_types,
            enable_categorical=True,
            nthread=threads,
        )
        return np.asarray(self._model.predict(rows, pred_contribs=True, strict_shape=True), np.float32)

    def save(self, path: Path) -> None:
        """Write XGBoost's UBJSON."""
        path.write_bytes(self._model.save_raw("ubj"))

    @classmethod
    def load(cls, path: Path, device: Device = "cpu") -> Self:
        """Read XGBoost's UBJSON."""
        model = xgboost.Booster()
        try:
            data = path.read_bytes()
            check_xgboost_ubjson(data)
            model.load_model(bytearray(data))
        except (XGBoostError, ValueError, KeyError, TypeError, IndexError, AttributeError, OSError) as error:
            raise unreadable(path, "an XGBoost model", error) from error
        return cls(model, device if _uses_cuda() else "cpu")

    def importance(self) -> Mapping[str, float]:
        """Return each feature's share of the total gain."""
        scores = self._model.get_score(importance_type="total_gain")
        names = self._model.feature_names or []
        return gain_shares(map(decode_name, names), np.array([scores.get(name, 0.0) for name in names], np.float64))


class XGBoostLearner(Learner):
    """Fits XGBoost: the rows of each fold are binned by themselves, since it cannot take a part of what it has binned.

    They are kept for the next fit, such as the next trial of a search, as long as they are not too many.
    """

    booster, library, title = XGBoostBooster, "xgboost", "XGBoost"
    most_kept = 2**31
    """Bytes of binned rows, one a value, that are kept for another fit."""

    _kept: tuple[tuple[Any, xgboost.QuantileDMatrix], ...] = ()

    def fit(self, settings: TreeSettings, chosen: Rows, held: Rows | None = None, seed: int = 0) -> XGBoostBooster:
        """Learn from some of the rows; see `Learner.fit`."""
        parameters = {
            "objective": "binary:logistic" if self.n_labels == 2 else "multi:softprob",
            "disable_default_eval_metric": True,
            "tree_method": "hist",
            "grow_policy": "lossguide",
            "learning_rate": settings.learning_rate,
            "max_depth": 0,
            "max_leaves": settings.leaves,
            "colsample_bytree": settings.colsample,
            "subsample": settings.subsample,
            "reg_lambda": settings.l2,
            "max_bin": settings.bins,
            "seed": seed,
            "nthread": self.threads,
            "device": choose_device(self.device, self.title, _uses_cuda),
            "validate_parameters": True,
            # Unknown names are told by warnings, which another model of this process may have turned off.
            "verbosity": 1,
            **({} if self.n_labels == 2 else {"num_class": self.n_labels}),
            **(
                {"monotone_constraints": {encode_name(name): sign for name, sign in settings.monotone.items()}}
                if settings.monotone
                else {}
            ),
            **settings.parameters,
        }
        data = self._bin(chosen, parameters["max_bin"], settings.categorical)
        watch: dict[str, Any] = {}
        if held is not None:
            name, score = self.monitor(settings, held)
            watch = {
                "evals": [(self._bin(held, parameters["max_bin"], settings.categorical, data), "held")],
                "custom_metric": lambda proba, _: (name, score(proba)),
                "maximize": True,
                "early_stopping_rounds": settings.patience,
            }
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model = xgboost.train(parameters, data, settings.rounds, verbose_eval=False, **watch)
        except XGBoostError as error:
            raise self.failure(chosen, error) from error
        # The library passes over parameters that it does not know with no more than a warning.
        for warning in caught:
            if "are not used" in str(warning.message):
                unused = re.findall(r'"(\w+)"', str(warning.message))
                check_parameters(unused, xgboost.XGBModel().get_params(), self.title)
                raise MemberError(
                    f"parameters: expected parameters that XGBoost uses here, got {', '.join(unused)}. Leave them out."
                )
            logger.warning("XGBoost: %s", warning.message)
        where: Device = "cuda" if str(parameters["device"]).startswith("cuda") else "cpu"
        return XGBoostBooster(model if held is None else model[: model.best_iteration + 1], where)

    def _bin(
        self, chosen: Rows, bins: int, categorical: Sequence[str], reference: xgboost.QuantileDMatrix | None = None
    ) -> xgboost.QuantileDMatrix:
        """Return some of the rows, binned, or with the bins of others."""
        kinds = ["c" if name in categorical else "q" for name in self.table.names]

        def read() -> xgboost.QuantileDMatrix:
            return xgboost.QuantileDMatrix(
                _Batches(self.table, chosen, kinds),
                enable_categorical=True,
                max_bin=bins,
                ref=reference,
                nthread=self.threads,
            )

        def labelled(rows: xgboost.QuantileDMatrix) -> xgboost.QuantileDMatrix:
            rows.set_info(label=self.label[chosen], weight=self.weight[chosen])
            return rows

        if reference is not None:
            return labelled(read())
        key = np.packbits(chosen).tobytes(), bins, tuple(categorical)
        kept: dict[Any, xgboost.QuantileDMatrix] = dict(self._kept)
        if key not in kept:
            size = np.count_nonzero(chosen) * len(kinds)
            while self._kept and size + sum(each.num_row() * each.num_col() for _, each in self._kept) > self.most_kept:
                self._kept = self._kept[1:]
            kept[key] = read()
            self._kept = (*self._kept, (key, kept[key]))
        return labelled(kept[key])


class _Batches(xgboost.DataIter):
    """Some rows of a table as XGBoost reads them, over and over."""

    def __init__(self, table: Table, chosen: Rows, kinds: Sequence[str]) -> None:
        super().__init__()
        self._table, self._chosen, self._kinds = table, chosen, list(kinds)
        self.reset()

    def reset(self) -> None:
        self._batches = self._table.batches(self._chosen)

    def next(self, input_data: Callable[..., None]) -> bool:
        for places, features in self._batches:
            # Bins are found by the weights.
            input_data(
                data=features,
                weight=self._table.weight[places],
                feature_names=[*map(encode_name, self._table.names)],
                feature_types=self._kinds,
            )
            return True
        return False


def _read_trees(model: Mapping[str, Any]) -> Trees | None:
    """Read XGBoost's JSON; None if a node does more than compare a feature with a value."""
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
        number = number_nodes(split)
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


def _uses_cuda() -> bool:
    return bool(xgboost.build_info()["USE_CUDA"])
