"""A branch: a kind of model, as one record, so that the front door knows no kind of model by name."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from data.maps.member import Member
from data.progress import Track, untracked
from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from data.scenes.taught import Taught
from data.settings import Settings
from features.explanation import Explanation
from features.table import Columns, Table
from features.tile_model import TileModel

__all__ = [
    "Branch",
    "DeviceName",
    "Loading",
    "MemberSettings",
    "ModelInput",
    "Range",
    "Rows",
    "Space",
    "TableBranch",
    "Training",
    "load_alone",
]

DeviceName = Literal["auto", "cpu", "cuda"]


class MemberSettings(Settings):
    """What the settings of the members of every branch have in common."""

    branch: str

    @property
    def stacked_on(self) -> Sequence[str]:
        """Members whose maps it learns from."""
        return ()

    @property
    def derived(self) -> Mapping[str, "MemberSettings"]:
        """What else must be mapped for it, as members by names that no user's has: layers of networks."""
        return {}

    @property
    def inner(self) -> Sequence[str]:
        """Members of `stacked_on` that it learns from by models inside of its own folds: strictly out of fold."""
        return ()

    @property
    def planes(self) -> tuple[str, ...] | None:
        """Names of the planes of its maps, where these are not the classes."""
        return None

    @property
    def decides(self) -> bool:
        """Whether its maps of training scenes are out of fold, so that anything may be decided on them."""
        return True


S = TypeVar("S", bound=MemberSettings)


class Range(Settings):
    """Numbers between two others; whole ones if both are."""

    low: int | float = Field(description="least value")
    high: int | float = Field(description="greatest value")
    log: bool = Field(False, description="look as closely between 1 and 10 as between 10 and 100")

    @model_validator(mode="after")
    def _rises(self) -> "Range":
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError(f"expected low < high, and above 0 where log is set, got {self.low} and {self.high}")
        return self


Space = Mapping[str, Range | list[Any]]
"""What may be changed, by dotted key of the experiment file: a range, or a list of values."""


@dataclass(frozen=True)
class Training(Generic[S]):
    """A member that is to be fitted, with all that any branch needs for it.

    Parameters
    ----------
    name : str
    settings : MemberSettings
        Of the branch.
    catalogue : Catalogue
        With folds.
    directory : Path
        The member's.
    root : Path
        Folder that the experiment's patterns of files start from.
    members : Path
        Holds the folders of all members, with their maps.
    pixels : Path
        Folder of the table of pixels, or of scenes; there if the branch reads it.
    columns : callable
        Returns the columns of that table.
    formulas : mapping of str to str
        The user's own features, by name.
    seed, threads : int
    device : {"auto", "cpu", "cuda"} or None
        Overrides that of the settings.
    folds : sequence of int or None
        Those to fit; all if None.
    executor : Executor or None
        Where scenes are worked on in parallel.
    track : Track
    taught : callable, optional
        Fold → what its model learns from besides.
    """

    name: str
    settings: S
    catalogue: Catalogue
    directory: Path
    root: Path
    members: Path
    pixels: Path
    columns: Callable[[], Columns]
    formulas: Mapping[str, str]
    seed: int
    threads: int
    device: DeviceName | None = None
    folds: Sequence[int] | None = None
    executor: Executor | None = None
    track: Track = untracked
    taught: Callable[[int], Taught] | None = None


@dataclass(frozen=True)
class Loading(Generic[S]):
    """A fitted member that is to be loaded, and the machine that it will run on.

    Parameters
    ----------
    directory : Path
        The member's.
    settings : MemberSettings
    root : Path
        Folder that the experiment's patterns of files start from.
    members : Path
        Holds the folders of the members that it is stacked on, with their maps.
    threads : int
    device : {"auto", "cpu", "cuda"} or None
        Overrides that of the settings.
    executor : Executor or None
    given : str or None
        Pattern with {id} of maps of scenes that the experiment does not know, for a branch that computes none.
    """

    directory: Path
    settings: S
    root: Path
    members: Path
    threads: int
    device: DeviceName | None = None
    executor: Executor | None = None
    given: str | None = None


def load_alone(load: Callable[[Loading[Any]], Member], loading: Loading[Any], made: str) -> Member:
    """Load a member in a process; ``made`` tells it from the one that the process may hold."""
    return load(loading)


class Rows(Protocol):
    """Opened rows of the table that a member learns from, fold by fold."""

    def fit(self, settings: Any, fold: int, seed: int) -> tuple[Any, Mapping[str, Any]]:
        """Return the model of a fold, learned from the rows outside it, and facts about it."""
        ...

    def predict_held_out(
        self, booster: Any, fold: int
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float32]]]:
        """Yield label, weight and probability of the rows that a fold holds out."""
        ...


@dataclass(frozen=True)
class TableBranch(Generic[S]):
    """What a branch can do that learns from the pixel table.

    Parameters
    ----------
    open_rows : callable
        Opens the rows that a member learns from.
    opened_by : tuple of str
        Settings that the rows are opened with; others may change between fits on the same rows.
    predict_rows : callable
        ``predict_rows(loading, catalogue, pixels)`` yields each fold, the rows that it holds out, and their
        probabilities (n, n_classes) by the model that never saw them.
    predict_new : callable
        ``predict_new(loading, columns)`` returns the mean probabilities (n, n_classes) of all folds' models for rows
        that no model saw, given each column of the table (n,) float32 by its name.
    explain : callable
        ``explain(loading, catalogue, pixels, seed, track)`` says what the member's models look at.
    """

    open_rows: Callable[[Training[S]], Rows]
    opened_by: tuple[str, ...]
    predict_rows: Callable[[Loading[S], Catalogue, Path], Iterator[tuple[int, Table, NDArray[np.float32]]]]
    predict_new: Callable[[Loading[S], Mapping[str, NDArray[np.float32]]], NDArray[np.float32]]
    explain: Callable[[Loading[S], Catalogue, Path, int, Track], Explanation]


@dataclass(frozen=True)
class ModelInput:
    """What a model takes, for the record of a finished run.

    Parameters
    ----------
    name, description : str
    features : sequence of mapping
        Each as `FeatureSet.describe` says it.
    shape : tuple of int
        -1 for any.
    dimensions : tuple of str
    scaling : sequence of (offset, scale), optional
        By which each feature is brought to one scale.
    """

    name: str
    description: str
    features: Sequence[Mapping[str, Any]]
    shape: tuple[int, ...]
    dimensions: tuple[str, ...]
    scaling: Sequence[tuple[float, float]] | None = None


@dataclass(frozen=True)
class Branch(Generic[S]):
    """A kind of model.

    What is called imports what it needs itself: a branch is named in a moment, whatever libraries it computes with.

    Parameters
    ----------
    name : str
        As members name it in the experiment file.
    help : str
        What its command does.
    settings : type of MemberSettings
    fit : callable
        Fits a member, so that `load` finds it; what exists is kept.
    load : callable
        Returns a fitted member.
    architecture : callable
        Says in a few words what models settings make.
    inputs : callable
        ``inputs(member, classes)`` yields what the models of a fitted member take.
    table : TableBranch, optional
        If it learns from the pixel table.
    reads_formulas : bool
        Whether members compute the user's own features themselves.
    computes : bool
        Whether members map any scene; if not, its maps must be given: `Loading.given`.
    by_process : callable
        ``by_process(loading)`` returns whether scenes are mapped in processes of a thread each, to the same bytes as in
        one process of all threads.
    files : callable
        ``files(settings, root)`` returns the files of the user's that a member is made from.
    search_space : mapping
        What `terrablend tune` searches where the experiment file names nothing.
    tag_defaults : mapping
        Defaults of a multilabel task.
    first_members : callable
        ``first_members(bands, sparse)`` returns the members, by name, that `terrablend init` writes into a first file;
        ``sparse`` labels are drawn and cover little.
    export : callable, optional
        ``export(member, path, folds)`` writes a member's models for use without Terrablend.
    earth_engine : callable, optional
        The same, for Earth Engine.
    tiles : callable, optional
        ``tiles(member)`` returns its models as one that maps tiles.
    starts : callable, optional
        Says in words what trained weights members can start from.
    machine : callable
        Yields what this machine offers such models: subject, fact, and what is odd about it, if anything.
    layers : Branch, optional
        Maps the features of a layer of its members' models; nothing is decided on such maps.
    """

    name: str
    help: str
    settings: type[S]
    fit: Callable[[Training[S]], None]
    load: Callable[[Loading[S]], Member]
    architecture: Callable[[S], str]
    inputs: Callable[[Any, Classes], Iterator[ModelInput]]
    table: TableBranch[S] | None = None
    reads_formulas: bool = False
    computes: bool = True
    by_process: Callable[[Loading[S]], bool] = lambda loading: False
    files: Callable[[S, Path], list[Path]] = lambda settings, root: []
    search_space: Space = field(default_factory=dict)
    tag_defaults: Mapping[str, Any] = field(default_factory=dict)
    first_members: Callable[[Sequence[str], bool], dict[str, dict[str, Any]]] = lambda bands, sparse: {}
    export: Callable[[Any, Path, Sequence[int] | None], object] | None = None
    earth_engine: Callable[[Any, Path, Sequence[int] | None], object] | None = None
    tiles: Callable[[Any], TileModel] | None = None
    starts: Callable[[], str] | None = None
    machine: Callable[[], Iterator[tuple[str, str, str]]] = lambda: iter(())
    layers: "Branch[Any] | None" = None

    @property
    def reads_table(self) -> bool:
        """Whether its members learn from the pixel table."""
        return self.table is not None
