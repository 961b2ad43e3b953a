"""The log of submissions: when each was written, its expected score, and the hash of its bytes."""

import csv
import hashlib
import io
import math
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from data.csv_cells import quote_formula
from data.files import hash_file, is_hidden, replacing
from ensemble.ensemble import Ensemble
from ensemble.predict import model_id
from ensemble.score.scores import OBJECTIVE
from ensemble.settings import FormatName

__all__ = ["Submitted", "describe_submission", "hash_files", "log_submission"]


@dataclass(frozen=True)
class Submitted:
    """One submission.

    Parameters
    ----------
    format : str
    path : str
        Of the file or folder.
    metric : str
        The optimised metric, in words.
    score, low, high : float
        Nested out-of-fold score and its interval.
    model : str
        Id of the ensemble.
    settings : str
        Fingerprint of all that it was made from.
    sha256 : str
        Of the file, or of the folder's files with their names.
    """

    format: str
    path: str
    metric: str
    score: float
    low: float
    high: float
    model: str
    settings: str
    sha256: str


def describe_submission(
    name: FormatName, path: Path, ensemble: Ensemble, scores: pl.DataFrame, settings: str
) -> Submitted:
    """Describe a submission for the log.

    Parameters
    ----------
    name : str
        Of the format.
    path : Path
        The file, or the folder of maps.
    ensemble : Ensemble
        That made it.
    scores : DataFrame
        Its table of scores.
    settings : str
        Fingerprint of all that it was made from.
    """
    # Of the rows of the optimised score, that of the candidate that is used has its score.
    rows = scores.filter(
        (pl.col("split") == "train") & (pl.col("metric") == OBJECTIVE) & (pl.col("value") == ensemble.score_)
    )
    [low, high] = rows.select("low", "high").row(0) if len(rows) else (math.nan, math.nan)
    return Submitted(
        name, path.name, ensemble.metric, ensemble.score_, low, high, model_id(ensemble), settings, hash_files(path)
    )


def log_submission(log: Path, submitted: Submitted, when: datetime | None = None) -> None:
    """Append a row to a CSV file, or start the file; earlier rows stay, and what the last one says is not said again.

    Parameters
    ----------
    log : Path
    submitted : Submitted
    when : datetime, optional
        Now by default; written in UTC.
    """
    names = [field.name for field in fields(submitted)]
    row = [str(quote_formula(str(getattr(submitted, name)))) for name in names]
    earlier = log.read_text("utf-8") if log.exists() else ""
    *_, last = [[], *csv.reader(io.StringIO(earlier))]
    if last[1:] == row:
        return
    moment = (when or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds")
    with replacing(log) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        stream.write(earlier)
        table = csv.writer(stream, lineterminator="\n")
        table.writerows([[moment, *row]] if earlier else [["when", *names], [moment, *row]])


def hash_files(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder that of the hashes and names of its files, hidden ones left out."""
    if path.is_file():
        return hash_file(path)
    files = sorted(file for file in path.iterdir() if file.is_file() and not is_hidden(file))
    return hashlib.sha256("".join(f"{hash_file(file)}  {file.name}\n" for file in files).encode()).hexdigest()
