"""XGBoost as a `Booster`; its file is XGBoost's UBJSON."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Self

import numpy as np
import xgboost
from numpy.typing import NDArray
from xgboost.core import XGBoostError

from data.errors import MemberError
from trees.booster import Rows
from trees.device import choose_device
from trees.settings import DeviceName, TreeSettings

__all__ = ["XGBoostBooster"]

logger = logging.getLogger(__name__)


class XGBoostBooster:
    """Boosted trees by XGBoost."""

    suffix = ".ubj"

    def __init__(self, model: xgboost.Booster) -> None:
        self._model = model
        self.rounds = model.num_boosted_rounds()

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
            "eval_metric": "aucpr" if n_labels == 2 else "mlogloss",
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
            **settings.parameters,
        }
        data = _matrix(rows, names, settings, threads)
        held = None if stop is None else _matrix(stop, names, settings, threads, data)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model = xgboost.train(
                    parameters,
                    data,
                    rounds or settings.rounds,
                    evals=[] if held is None else [(held, "stop")],
                    early_stopping_rounds=None if held is None else settings.patience,
                    verbose_eval=False,
                )
        except XGBoostError as error:
            raise MemberError(f"XGBoost could not learn from {len(rows)} rows: {error}.") from error
        # The library passes over parameters that it does not know with no more than a warning.
        for warning in caught:
            if "are not used" in str(warning.message):
                raise MemberError(_unknown_parameter(settings.parameters))
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
        max_bin=settings.bins,
        ref=reference,
        nthread=threads,
    )


def _unknown_parameter(parameters: Mapping[str, object]) -> str:
    known = xgboost.XGBModel().get_params()
    names = [name for name in parameters if name not in known] or list(parameters)
    nearest = get_close_matches(names[0], known, n=3) or ["see XGBoost's list of parameters"]
    return f"parameters: expected a parameter of XGBoost, got {names[0]}. Did you mean {', '.join(nearest)}?"


def _uses_cuda() -> bool:
    return bool(xgboost.build_info()["USE_CUDA"])
