"""LightGBM as a `Learner` and a `Booster`; its file is LightGBM's text."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import lightgbm
import numpy as np
from lightgbm.basic import LightGBMError
from numpy.typing import NDArray

from features.table import Block
from trees.boosters.booster import Learner, Rows, check_parameters, decode_name, encode_name, gain_shares, unreadable
from trees.boosters.device import choose_device
from trees.boosters.lightgbm_text import fields_of, numbers_of, sound_lightgbm_text, split_trees
from trees.forest.forest import Forest, Link, Tree, Trees, build_forest, floor_float32
from trees.settings import Device, TreeSettings

__all__ = ["LightGBMBooster", "LightGBMLearner"]

LINKS: dict[str, Link] = {"binary": "sigmoid", "multiclass": "softmax"}

THREADS = re.compile(r"^\[num_threads: \d+\]\n", re.MULTILINE)
"""A line of LightGBM's text that says how fast it was trained."""

NOTHING = np.float32(1e-35)
"""LightGBM's ``kZeroThreshold``."""

MISSING_IS_ZERO, MISSING_IS_NAN = 1, 2
"""Of bits 2 and 3 of LightGBM's ``decision_type``."""


class LightGBMBooster:
    """Boosted trees by LightGBM."""

    suffix = ".txt"

    def __init__(self, model: lightgbm.Booster) -> None:
        self._model = model
        self.rounds = model.current_iteration()

    @cached_property
    def forest(self) -> Forest | None:
        """The trees as arrays; None if they hold what a `Forest` cannot."""
        trees = self.read_trees()
        return None if trees is None else build_forest(trees)

    def read_trees(self) -> Trees | None:
        """Return the trees with their split values; None if they hold what `Trees` cannot."""
        return _read_trees(self._model.model_to_string())

    def predict_proba(self, features: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """Return probabilities (n, n_classes) of rows (n, F)."""
        proba = np.asarray(self._model.predict(features, num_threads=threads), np.float32)
        return proba[:, None] if proba.ndim == 1 else proba

    def contributions(self, features: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32] | None:
        """Return the SHAP values (n, n_classes, F + 1) of rows (n, F); None of trees with linear leaves."""
        if "\nis_linear=1" in self._model.model_to_string():
            return None
        flat = np.asarray(self._model.predict(features, num_threads=threads, pred_contrib=True), np.float32)
        return flat.reshape(len(features), -1, features.shape[1] + 1)

    def save(self, path: Path) -> None:
        """Write LightGBM's text, but for the number of threads, which changes no tree."""
        path.write_text(THREADS.sub("", self._model.model_to_string()), "utf-8")

    @classmethod
    def load(cls, path: Path, device: Device = "cpu") -> Self:
        """Read LightGBM's text; it predicts on a CPU alone."""
        try:
            return cls(lightgbm.Booster(model_str=sound_lightgbm_text(path.read_text("utf-8"))))
        except (LightGBMError, ValueError, KeyError, OverflowError, OSError) as error:
            raise unreadable(path, "a LightGBM model", error) from error

    def importance(self) -> Mapping[str, float]:
        """Return each feature's share of the total gain."""
        return gain_shares(map(decode_name, self._model.feature_name()), self._model.feature_importance("gain"))


class LightGBMLearner(Learner):
    """Fits LightGBM: the rows of a fit are a part of one binned data set."""

    booster, library, title = LightGBMBooster, "lightgbm", "LightGBM"

    _binned: tuple[Any, lightgbm.Dataset] | None = None

    def fit(self, settings: TreeSettings, chosen: Rows, held: Rows | None = None, seed: int = 0) -> LightGBMBooster:
        """Learn from some of the rows; see `Learner.fit`."""
        check_parameters(settings.parameters, _known_parameters(), self.title)
        names = self.table.names
        parameters = {
            "objective": "binary" if self.n_labels == 2 else "multiclass",
            "metric": "None",
            "learning_rate": settings.learning_rate,
            "num_leaves": settings.leaves,
            "min_data_in_leaf": settings.leaf_rows,
            "feature_fraction": settings.colsample,
            "bagging_fraction": settings.subsample,
            "bagging_freq": 1 if settings.subsample < 1 else 0,
            "lambda_l2": settings.l2,
            "extra_trees": settings.extra_trees,
            "max_bin": settings.bins,
            "seed": seed,
            # Bins serve every fit, whatever its seed and its fewest rows in a leaf.
            "data_random_seed": 1,
            "feature_pre_filter": False,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": self.threads,
            "device_type": choose_device(self.device, self.title, _uses_cuda),
            "verbosity": -1,
            **({} if self.n_labels == 2 else {"num_class": self.n_labels}),
            **(
                {"monotone_constraints": [settings.monotone.get(name, 0) for name in names]}
                if settings.monotone
                else {}
            ),
            **settings.parameters,
        }
        watch: dict[str, Any] = {}
        try:
            binned = self._bin(parameters, settings.categorical)
            if held is not None:
                name, score = self.monitor(settings, held)
                watch = {
                    "valid_sets": [_part(binned, held)],
                    "feval": lambda proba, _: (name, score(proba), True),
                    "callbacks": [lightgbm.early_stopping(settings.patience, verbose=False)],
                }
            model = lightgbm.train(parameters, _part(binned, chosen), settings.rounds, **watch)
        except LightGBMError as error:
            raise self.failure(chosen, error) from error
        # Rounds past the best are dropped here, so that a saved model is the whole story.
        text = model.model_to_string(num_iteration=model.best_iteration if held is not None else -1)
        return LightGBMBooster(lightgbm.Booster(model_str=text))

    def _bin(self, parameters: Mapping[str, Any], categorical: Sequence[str]) -> lightgbm.Dataset:
        """Return all rows, binned; anew only if other bins are wanted."""
        reader = _Reader()
        rows = lightgbm.Dataset(
            [_Sequence(block, reader) for block in self.table.blocks if len(block)],
            self.label,
            weight=self.weight,
            feature_name=[*map(encode_name, self.table.names)],
            categorical_feature=[*map(encode_name, categorical)],
            params=dict(parameters),
        )
        wanted = rows.get_params(), categorical
        if self._binned is None or self._binned[0] != wanted:
            self._binned = None
            self._binned = wanted, rows.construct()
        return self._binned[1]

    def relabel(self, label: NDArray[np.uint8], weight: NDArray[np.float32]) -> None:
        """Learn other labels of the same rows; see `Learner.relabel`."""
        super().relabel(label, weight)
        if self._binned is not None:
            self._binned[1].set_label(label)
            self._binned[1].set_weight(weight)


class _Reader:
    """Reads blocks, and keeps the last."""

    def __init__(self) -> None:
        self._block: Block | None = None
        self._features = np.empty((0, 0), np.float32)

    def read(self, block: Block) -> NDArray[np.float32]:
        if block is not self._block:
            self._features, self._block = block.read(), block
        return self._features


class _Sequence(lightgbm.Sequence):
    """A block as LightGBM reads it: some rows one after another to find bins, then all at once."""

    def __init__(self, block: Block, reader: _Reader) -> None:
        self._block, self._reader, self.batch_size = block, reader, len(block)

    def __len__(self) -> int:
        return len(self._block)

    def __getitem__(self, index: Any) -> Any:
        rows = self._reader.read(self._block)[index]
        # Of rows that are sampled it wants double precision.
        return rows if isinstance(index, slice) else rows.astype(np.float64)


def _read_trees(text: str) -> Trees | None:
    """Read LightGBM's text, as of its version 4; None if a node does more than compare a feature with a value."""
    head, bodies = split_trees(text)
    about = fields_of(head)
    objective, *options = about["objective"].split()
    link, per_round = LINKS.get(objective), int(about["num_tree_per_iteration"])
    if link is None or "average_output" in head or (objective == "binary" and options != ["sigmoid:1"]):
        return None
    trees = []
    for number, body in enumerate(bodies):
        fields = fields_of(body)
        kind, threshold = numbers_of(fields["decision_type"], np.int32), numbers_of(fields["threshold"], np.float64)
        missing = kind >> 2 & 3
        if fields["num_cat"] != "0" or fields.get("is_linear", "0") != "0" or (missing == MISSING_IS_ZERO).any():
            return None
        trees.append(
            Tree(
                numbers_of(fields["split_feature"], np.int32),
                _last_to_go_left(threshold),
                # Where no value was missing in training, LightGBM takes NaN for 0.
                np.where(missing == MISSING_IS_NAN, kind >> 1 & 1, threshold >= 0).astype(bool),
                numbers_of(fields["left_child"], np.int32),
                numbers_of(fields["right_child"], np.int32),
                numbers_of(fields["leaf_value"], np.float64)[:, None],
                number % per_round,
            )
        )
    return Trees.of(trees, np.zeros(per_round), int(about["max_feature_idx"]) + 1, link)


def _last_to_go_left(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the greatest float32 that goes left."""
    last = floor_float32(threshold)
    # What is next to nothing LightGBM takes for 0.
    last = np.where((threshold >= -NOTHING) & (threshold < 0), np.nextafter(-NOTHING, np.float32(-np.inf)), last)
    return np.where((threshold >= 0) & (threshold < NOTHING), NOTHING, last)


def _part(binned: lightgbm.Dataset, chosen: Rows) -> Any:
    part: Any = binned.subset([])
    # `subset` itself would make a list of them, of 40 bytes a row.
    part.used_indices = np.flatnonzero(chosen).astype(np.int32)
    return part


def _known_parameters() -> list[str]:
    aliases = lightgbm.basic._ConfigAliases._get_all_param_aliases()
    return [name for main, others in aliases.items() for name in (main, *others)]


def _uses_cuda() -> bool:
    """Return whether this build of LightGBM learns on a GPU, which only a try can tell."""
    data = lightgbm.Dataset(np.arange(64, dtype=np.float32)[:, None], np.arange(64) % 2)
    try:
        lightgbm.train({"device_type": "cuda", "verbosity": -1}, data, 1)
    except LightGBMError:
        return False
    return True
