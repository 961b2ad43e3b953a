"""Describe the columns of the pixel table: what each is, and how well it separates the classes by itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.errors import TableError
from data.records import FileKind, Number, read_record, write_record
from features.table import Columns, Table

__all__ = ["QUANTILES", "ColumnFacts", "TableFacts", "describe_table", "load_facts", "save_facts", "weighted_quantiles"]

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
"""Shares of the weight at which a column's quantiles are taken."""

MOST_PAIRS = 20

FACTS = FileKind("what the columns of the pixel table are", TableError, "terrablend features")


@dataclass(frozen=True)
class ColumnFacts:
    """What one feature is, and its values in the table.

    Parameters
    ----------
    name, kind, definition : str
    halo : int
        Pixels around a pixel that its value depends on.
    reference : str
        Source of the definition; may be empty.
    nan_share : float in [0, 1]
        Weighted share of the rows without a value.
    quantiles : tuple of float
        One for each of `QUANTILES`: the smallest value at which the weight of the rows up to it reaches that share
        of the weight of all rows with a value. NaN if no row has a value.
    auc : tuple of float in [0, 1]
        For each label, the weighted area under the ROC curve of the feature alone, that label against the rest,
        over the rows with a value. Below 0.5 where the label has the lower values; NaN where the label or the
        rest is absent.
    """

    name: str
    kind: str
    definition: str
    halo: int
    reference: str
    nan_share: float
    quantiles: tuple[Number, ...]
    auc: tuple[Number, ...]

    @property
    def separability(self) -> float:
        """The largest absolute value of 2 AUC - 1 over the labels, in [0, 1]; 0 if none has an AUC."""
        return max((abs(2 * auc - 1) for auc in self.auc if not math.isnan(auc)), default=0.0)


@dataclass(frozen=True)
class TableFacts:
    """What the columns of a table are.

    Parameters
    ----------
    rows : int
        Rows that were looked at.
    labels : tuple of str
        Name of each label index, or tag.
    columns : tuple of ColumnFacts
        In the table's order.
    pairs : tuple of (name, name, float in [0, 1])
        The most correlated pairs of columns, best first, with the absolute value of their weighted Pearson
        correlation. A column's NaN count as its mean; a constant column correlates with none.
    """

    rows: int
    labels: tuple[str, ...]
    columns: tuple[ColumnFacts, ...]
    pairs: tuple[tuple[str, str, float], ...]


def describe_table(
    table: Table, columns: Columns, labels: Sequence[str], *, most_rows: int = 200_000, seed: int = 0
) -> TableFacts:
    """Describe the columns of a table.

    One block is read at a time, and at most ``most_rows`` rows are kept: the same share of each scene's.

    Parameters
    ----------
    table : Table
        Of training scenes.
    columns : Columns
        Its features.
    labels : sequence of str
        Name of each label index, or tag.
    most_rows : int
        At least 1.
    seed : int
        Rows kept of a scene depend on it and on the scene's position.

    Raises
    ------
    TableError
        If there is no row at all.
    """
    features, label, weight = _sample_rows(table, most_rows, seed)
    facts = []
    for row, values in zip(columns.describe(), features.T, strict=True):
        empty = np.isnan(values)
        quantiles, auc = _rank_facts(values, label, weight, len(labels))
        facts.append(
            ColumnFacts(
                name=str(row["name"]),
                kind=str(row["kind"]),
                definition=str(row["definition"]),
                halo=int(row["halo"]),
                reference=str(row["reference"]),
                nan_share=float(weight[empty].sum() / weight.sum()) if empty.any() else 0.0,
                quantiles=quantiles,
                auc=auc,
            )
        )
    pairs = _most_correlated(columns.names, _correlate(features, weight))
    return TableFacts(len(label), tuple(labels), tuple(facts), pairs)


def save_facts(facts: TableFacts, path: Path) -> None:
    """Write facts as JSON, NaN as null."""
    write_record(path, facts)


def load_facts(path: Path) -> TableFacts:
    """Read what `save_facts` wrote; raises TableError if it is missing or damaged."""
    return read_record(path, TableFacts, FACTS)


def _sample_rows(
    table: Table, most_rows: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float64]]:
    counts = np.bincount(table.scene, minlength=len(table.scenes)).tolist()
    total = len(table)
    if total == 0 or most_rows < 1:
        raise TableError(
            f"expected rows to describe, got none ({len(table.scenes)} scenes of {total} rows, at most "
            f"{most_rows} rows wanted). Run `terrablend features` first, and ask for at least one row."
        )
    # Rounding the running total instead of each scene's part keeps the sum right, and small scenes in the sample.
    ends = [done * min(most_rows, total) // total for done in np.cumsum(counts, dtype=object)]
    chosen = np.zeros(total, bool)
    first = 0
    for position, (count, start, stop) in enumerate(zip(counts, [0, *ends[:-1]], ends, strict=True)):
        rng = np.random.default_rng([seed, position])
        chosen[first + rng.choice(count, stop - start, replace=False, shuffle=False)] = True
        first += count
    # A column's values lie side by side, since columns are what is sorted.
    features = np.asfortranarray(table.read(chosen))
    return features, table.label[chosen], table.weight[chosen].astype(np.float64)


def _rank_facts(
    values: NDArray[np.float32], label: NDArray[np.uint8], weight: NDArray[np.float64], n_labels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return quantiles and AUCs, which share the sorting."""
    order = np.argsort(values)
    order = order[: len(order) - np.count_nonzero(np.isnan(values))]  # NaN are sorted to the end
    if not len(order):
        return (math.nan,) * len(QUANTILES), (math.nan,) * n_labels
    values, label, weight = values[order], label[order], weight[order]
    return tuple(weighted_quantiles(values, weight, QUANTILES).tolist()), _weighted_auc(values, label, weight, n_labels)


def weighted_quantiles(
    values: NDArray[np.float32], weight: NDArray[np.float64], shares: Sequence[float]
) -> NDArray[np.float32]:
    """Return, for each share, the smallest of some sorted values at which the weight up to it reaches that share."""
    reached = np.cumsum(weight)
    quantiles: NDArray[np.float32] = values[np.searchsorted(reached, np.array(shares) * reached[-1])]
    return quantiles


def _weighted_auc(
    values: NDArray[np.float32], label: NDArray[np.uint8], weight: NDArray[np.float64], n_labels: int
) -> tuple[float, ...]:
    """Return the chance that a row of the label lies above one of the rest, ties counting half."""
    tie = np.concatenate([[0], np.cumsum(values[1:] != values[:-1])])
    n_ties = int(tie[-1]) + 1
    if label.ndim == 1:
        inside = np.bincount(tie * n_labels + label, weight, n_ties * n_labels).reshape(n_ties, n_labels)
    else:
        inside = np.stack([np.bincount(tie, weight * tag, n_ties) for tag in label.T], axis=1)
    everything = np.bincount(tie, weight, n_ties)
    auc = []
    for positive in inside.T:
        rest = everything - positive
        pairs = positive.sum() * rest.sum()
        won = positive @ (np.cumsum(rest) - rest / 2)
        auc.append(min(float(won / pairs), 1.0) if pairs > 0 else math.nan)
    return tuple(auc)


def _correlate(
    features: NDArray[np.float32], weight: NDArray[np.float64], batch_rows: int = 16_384
) -> NDArray[np.float64]:
    """Return the (F, F) absolute weighted correlations; so many rows at a time are held in double precision."""
    n_columns = features.shape[1]
    mean, constant = np.zeros(n_columns), np.ones(n_columns, bool)
    for position, values in enumerate(features.T):
        known = ~np.isnan(values)
        if known.any():
            mean[position] = np.average(values[known].astype(np.float64), weights=weight[known])
            constant[position] = values[known].min() == values[known].max()
    products = np.zeros((n_columns, n_columns))
    for start in range(0, len(features), batch_rows):
        centred = features[start : start + batch_rows] - mean
        centred[np.isnan(centred)] = 0
        products += centred.T @ (centred * weight[start : start + batch_rows, None])
    variance = products.diagonal()
    varies = ~constant & (variance > 0)
    scale = np.zeros(n_columns)
    scale[varies] = 1 / np.sqrt(variance[varies])
    return np.minimum(np.abs(products * scale[:, None] * scale), 1)


def _most_correlated(names: Sequence[str], correlation: NDArray[np.float64]) -> tuple[tuple[str, str, float], ...]:
    first, second = np.triu_indices(len(names), 1)
    best = np.argsort(-correlation[first, second], kind="stable")[:MOST_PAIRS]
    return tuple((names[i], names[j], float(correlation[i, j])) for i, j in zip(first[best], second[best], strict=True))
