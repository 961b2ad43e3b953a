"""Rows of tables and arrays as maps: a group's rows are the pixels of a scene, one column wide, and each row counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from data.errors import EnsembleError
from data.maps.geotiff import quantise
from data.names import list_names
from data.scenes.catalogue import Catalogue, SceneStatistics
from data.scenes.classes import IGNORE, Classes
from data.scenes.scene import Scene
from data.scenes.windows import Grid, Window
from ensemble.maps import MemberMaps

__all__ = ["LabelledRows", "RowMaps", "open_rows"]


@dataclass(frozen=True)
class LabelledRows:
    """Rows that members predicted out of fold.

    Parameters
    ----------
    proba : mapping of str to (n, n_classes) float
        Member → probabilities in [0, 1], NaN where it predicted nothing.
    label : (n,) uint8 or, of tags, (n, n_classes) uint8
        Label indices, `IGNORE` where there is none.
    group : (n,) of str
        Rows of a group know much of each other: all of them lie in one fold.
    fold : (n,) int
        The fold that everything is decided without before the row is scored.
    weight : (n,) float, optional
        How much each row counts, such as the pixels that it stands for.
    """

    proba: Mapping[str, NDArray[np.floating]]
    label: NDArray[np.uint8]
    group: Sequence[str]
    fold: NDArray[np.integer]
    weight: NDArray[np.floating] | None = None

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class RowMaps(MemberMaps):
    """Members' probabilities of rows, as the maps of scenes that are one pixel wide.

    Parameters
    ----------
    stored : (n_members, n_classes, n) uint16
        As `data.maps.geotiff.quantise` stores probabilities.
    labels : (Q, n) uint8
    weights : (n,) float64 or None
    places : mapping of str to (n_rows,) int
        Scene → its rows.
    members : tuple of str
    """

    stored: NDArray[np.uint16] = field(kw_only=True)
    labels: NDArray[np.uint8] = field(kw_only=True)
    weights: NDArray[np.float64] | None = field(kw_only=True)
    places: Mapping[str, NDArray[np.intp]] = field(kw_only=True)
    members: tuple[str, ...] = field(kw_only=True)

    @property
    def names(self) -> tuple[str, ...]:
        """The members, in order."""
        return self.members

    @property
    def weighted(self) -> bool:
        """Whether rows count differently."""
        return self.weights is not None

    def grid(self, scene: Scene) -> Grid:
        """Return the grid of a scene: its rows, one below the other."""
        return scene.grid

    def read(self, scene: Scene, window: Window | None = None) -> NDArray[np.uint16]:
        """Return what members say of a scene's rows, (n_members, n_classes, H, 1)."""
        return self.stored[:, :, self._rows(scene, window)][..., None]

    def label(self, scene: Scene, window: Window | None = None) -> NDArray[np.uint8]:
        """Return the labels of a scene's rows, (Q, H, 1)."""
        return self.labels[:, self._rows(scene, window)][..., None]

    def weight(self, scene: Scene, window: Window | None = None) -> NDArray[np.float64]:
        """Return how much each of a scene's rows counts, (H, 1)."""
        rows = self._rows(scene, window)
        return np.ones((len(rows), 1)) if self.weights is None else self.weights[rows, None]

    def require(self, scenes: Sequence[Scene]) -> None:
        """Do nothing: every row is there."""

    def _rows(self, scene: Scene, window: Window | None) -> NDArray[np.intp]:
        rows = self.places[scene.id]
        return rows if window is None else rows[window.row : window.row + window.height]


def open_rows(rows: LabelledRows, classes: Classes) -> tuple[RowMaps, Catalogue]:
    """Return rows as maps, and the catalogue of their scenes: a group each or, of tags, a row each.

    Raises
    ------
    EnsembleError
        If lengths or numbers of classes differ, or a value cannot be used; the rows of a group lie in several folds.
    """
    label = rows.label.T if rows.label.ndim == 2 else rows.label[None]
    weight = None if rows.weight is None else np.asarray(rows.weight, np.float64)
    _require_shapes(rows, label, weight, classes)
    group, fold = np.asarray(rows.group, object).astype(str), np.asarray(rows.fold)
    names, place = np.unique(group, return_inverse=True)
    fold_of = np.zeros(len(names), np.int64)
    fold_of[place] = fold
    split = sorted({str(name) for name in names[place[fold_of[place] != fold]]})
    if split:
        raise EnsembleError(
            f"expected each group in one fold, got {list_names(split)} in several. Deal folds by group."
        )
    if classes.task == "multilabel":
        places = {f"{row:09d}": np.array([row]) for row in range(len(rows))}
    else:
        order = np.argsort(place, kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(place, minlength=len(names)))[:-1])
        # Groups may be called anything; scenes have names that files can have.
        places = {f"{rank:06d}": rows_of for rank, rows_of in enumerate(parts)}
    scenes, statistics = [], {}
    for name, inside in sorted(places.items()):
        first = inside[0]
        grid = Grid(len(inside), 1)
        scenes.append(Scene(name, "train", (), grid, group=str(group[first]), fold=int(fold[first])))
        if classes.task == "multilabel":
            counts = label[:, first] == 1
        else:
            counts = np.bincount(label[0, inside], minlength=IGNORE + 1)[: classes.n_labels]
        statistics["train", name] = SceneStatistics(len(inside), tuple(counts.astype(int).tolist()))
    stored = np.stack([quantise(np.asarray(proba, np.float32).T) for proba in rows.proba.values()])
    maps = RowMaps({}, classes, stored=stored, labels=label, weights=weight, places=places, members=tuple(rows.proba))
    return maps, Catalogue(classes, (), tuple(scenes), statistics)  # type: ignore[arg-type]


def _require_shapes(
    rows: LabelledRows, label: NDArray[np.uint8], weight: NDArray[np.float64] | None, classes: Classes
) -> None:
    n, wanted = len(rows), len(classes.names)
    if label.shape[0] != classes.n_questions:
        raise EnsembleError(
            f"expected labels of {classes.n_questions} questions a row, got {label.shape[0]}. Give a column a tag."
        )
    if not n:
        raise EnsembleError("expected rows to decide on, got none.")
    strange = sorted({int(value) for value in np.unique(label)} - {*range(classes.n_labels), IGNORE})
    if strange:
        raise EnsembleError(
            f"expected labels from 0 to {classes.n_labels - 1}, and {IGNORE} for none, got "
            f"{list_names(map(str, strange))}."
        )
    for name, proba in rows.proba.items():
        if np.shape(proba) != (n, wanted):
            raise EnsembleError(
                f"member {name}: expected probabilities ({n}, {wanted}), a row each and a column a class, "
                f"got {np.shape(proba)}."
            )
        known = np.asarray(proba)[np.isfinite(proba)]
        if len(known) and (known.min() < -1e-6 or known.max() > 1 + 1e-6):
            raise EnsembleError(
                f"member {name}: expected probabilities from 0 to 1, got {known.min():.4g} to {known.max():.4g}. "
                "Turn scores into probabilities first."
            )
    for what, values in (("groups", rows.group), ("folds", rows.fold), ("weights", weight)):
        if values is not None and len(values) != n:
            raise EnsembleError(f"expected {what} of {n} rows, got {len(values)}.")
    if weight is not None and not (np.isfinite(weight).all() and (weight >= 0).all() and weight.any()):
        raise EnsembleError("expected weights that are numbers from 0 up, not all 0. Correct them.")
