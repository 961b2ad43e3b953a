"""Assign groups to the folds of cross-validation: never split, and folds as alike as possible."""

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.errors import FoldError
from data.folds.given import read_folds
from data.folds.groups import group_scenes
from data.folds.leakage import LeakageReport, leakage_report
from data.folds.matching import match_folds
from data.folds.shared_ground import SharedGround
from data.folds.similarity import read_thumbnails
from data.progress import Track, untracked
from data.scenes.catalogue import Catalogue
from data.scenes.classes import BACKGROUND, Classes
from data.scenes.scene import Scene, Split
from data.settings import FoldSettings

__all__ = ["assign_folds", "plan_folds"]

logger = logging.getLogger(__name__)

PASSES = 10
"""Most rounds of moving and swapping groups; three or four are usually enough."""

MOVABLE = 2000
"""Groups that are moved and swapped at most: of more, some of every size, and the others stay where they were dealt.
Each step looks at all of them, and thousands of groups are dealt out evenly as it is."""

GRAIN = 2.0**24
"""Loads are whole numbers of such parts: then sums and products are exact, and ties the same on any machine."""

WEIGHTS = {"scenes": 1.0, "presence": 2.0, "pixels": 0.5}
"""How much evenness of each counts: pixels least, since one large bed outweighs many scenes and cannot be divided."""


def plan_folds(
    catalogue: Catalogue,
    settings: FoldSettings,
    root: Path,
    seed: int,
    track: Track = untracked,
    together: Sequence[tuple[str, str]] = (),
    shared: SharedGround | None = None,
) -> tuple[Catalogue, LeakageReport]:
    """Give every scene its group and every training scene its fold.

    Each split is grouped on its own: a test scene that overlaps two training scenes must not join them, but is
    counted in the report.

    Parameters
    ----------
    catalogue : Catalogue
        With the label counts of its training scenes.
    settings : FoldSettings
    root : Path
        Folder that a relative ``folds.group.file`` starts from.
    seed : int
        Breaks ties.
    track : Track
    together : sequence of (id, id)
        Training scenes that show a shape together.
    shared : SharedGround, optional
        What the scenes of the catalogue show of the same ground; joined unless ``folds.group.content`` is ``report``.

    Returns
    -------
    catalogue : Catalogue
    report : LeakageReport

    Raises
    ------
    FoldError
        If the rules do not cover all training scenes, or these cannot be split into as many folds.
    """
    joined = [] if shared is None or settings.group.content == "report" else _training_pairs(catalogue, shared)
    together, small = [*together, *joined], None
    if settings.group.similar is not None:
        small = read_thumbnails(catalogue.scenes, settings.group.similar, track)
    groups: dict[tuple[Split, str], str] = {}
    for split in ("train", "val", "test"):
        scenes = catalogue.split(split)
        positions = [position for position, scene in enumerate(catalogue.scenes) if scene.split == split]
        found = group_scenes(
            scenes, settings.group, root, small and small.take(positions), together if split == "train" else ()
        )
        groups |= {(split, scene): group for scene, group in found.items()}
    train = catalogue.split("train")
    counts = np.array([catalogue.label_counts(scene.id) for scene in train])
    group_of = {scene.id: groups["train", scene.id] for scene in train}

    def deal(groups: Mapping[str, str]) -> dict[str, int]:
        try:
            return assign_folds(train, groups, counts, settings, seed, catalogue.classes)
        except FoldError as error:
            if not joined:
                raise
            raise FoldError(
                f"{error} {len(joined)} pairs of scenes were joined because they show the same ground, such as "
                f"{joined[0][0]} and {joined[0][1]}; folds.group.content: report leaves them apart, and scores are too "
                "good then."
            ) from error

    if settings.file is not None:
        folds = read_folds(train, root / settings.file)
    elif settings.match == "none":
        folds = deal(group_of)
    else:
        folds = match_folds(catalogue, group_of, settings.count, deal)
    planned = catalogue.with_folds(groups, folds)
    return planned, leakage_report(planned, small, settings.group.similarity, shared)


def _training_pairs(catalogue: Catalogue, shared: SharedGround) -> list[tuple[str, str]]:
    """Return the ids of training scenes that show the same ground."""
    pairs = [(catalogue.scenes[pair.first], catalogue.scenes[pair.second]) for pair in shared.pairs]
    return [(first.id, second.id) for first, second in pairs if first.split == second.split == "train"]


def assign_folds(
    scenes: Sequence[Scene],
    groups: Mapping[str, str],
    counts: NDArray[np.int64],
    settings: FoldSettings,
    seed: int,
    classes: Classes,
) -> dict[str, int]:
    """Assign groups to folds.

    The largest group goes first, each to the fold that has least of what it brings; then groups move and swap
    as long as that evens the folds out. "Even" means least squares of each fold's share of the scenes, of the
    scenes that show a class and of the pixels of a class. As long as a class lies in enough groups, every fold
    gets one.

    Parameters
    ----------
    scenes : sequence of Scene
        The training scenes.
    groups : mapping
        Scene id → group.
    counts : (n_scenes, n_labels) int64
        Pixels of each label index, or for tags 0 and 1.
    settings : FoldSettings
        ``stratify: none`` evens out the number of scenes only.
    seed : int
        Breaks ties between groups and between folds that are alike.
    classes : Classes
        Without the positive class of a binary task a fold can be neither learned from nor scored; a rare class among
        many, or a rare tag, is worth a warning.

    Returns
    -------
    folds : dict
        Scene id → fold, 0 … count - 1; the same for any order of the scenes.

    Raises
    ------
    FoldError
        If there are fewer groups than folds, or the positive class lies in fewer groups than folds.
    """
    named = sorted({groups[scene.id] for scene in scenes})
    position = {name: number for number, name in enumerate(named)}
    group_of = np.array([position[groups[scene.id]] for scene in scenes], np.int64)
    if len(named) < settings.count:
        raise FoldError(
            f"folds.count: expected at least {settings.count} groups of training scenes, got {len(named)} "
            f"({len(scenes)} scenes). {_more_groups(len(named), len(scenes))}"
        )
    shown = _sum_by(group_of, counts > 0, len(named))
    _check_classes(shown, classes, settings)

    present = np.column_stack([np.ones(len(named), bool), shown > 0])
    columns = {"scenes": np.bincount(group_of, minlength=len(named))[:, None]}
    if settings.stratify == "presence":
        columns |= {"presence": shown, "pixels": _sum_by(group_of, counts, len(named))}
    # Squared loads are compared, hence the root of the weight.
    load = np.concatenate([np.sqrt(WEIGHTS[name]) * _shares(column) for name, column in columns.items()], axis=1)
    load = np.rint(load * GRAIN)
    dealt = _deal(load, present, settings.count, np.random.default_rng(seed))
    chosen = _movable(load)
    dealt[chosen] = _even_out(dealt, load, present, settings.count, chosen)
    return {scene.id: int(dealt[group]) for scene, group in zip(scenes, group_of, strict=True)}


def _check_classes(shown: NDArray[np.int64], classes: Classes, settings: FoldSettings) -> None:
    """Raise where a fold would lack positives, warn where it would lack a class."""
    n_groups = (shown > 0).sum(axis=0)
    what = "tag" if classes.task == "multilabel" else "class"
    for name, known in zip(classes.label_names, n_groups.tolist(), strict=True):
        if known >= settings.count:
            continue
        if classes.task == "binary" and name != BACKGROUND:
            advice = (
                f"Lower folds.count to {known}"
                if known >= 2
                else "Add labelled scenes of other places, or group less strictly in folds.group"
            )
            raise FoldError(
                f"folds.count: expected pixels of {name} in every one of {settings.count} folds; they lie in "
                f"{known} of {len(shown)} groups. {advice}."
            )
        # Of a class that is nowhere `build_catalogue` warns.
        if known == 1:
            logger.warning(
                "the %s %s lies in %d group: a model that is scored on it cannot have learned it", what, name, known
            )
        elif known:
            logger.warning(
                "the %s %s lies in %d groups: not all %d folds can have it", what, name, known, settings.count
            )


def _more_groups(groups: int, scenes: int) -> str:
    """Return in words how to have enough groups."""
    if scenes == 1:
        return "Deal the scene in blocks, such as scenes.train.blocks: 64; smaller ones if these are already."
    lower = f"Lower folds.count to {groups} or less, or group" if groups > 1 else "Group"
    return f"{lower} less strictly in folds.group."


def _sum_by(group_of: NDArray[np.int64], values: NDArray[np.generic], count: int) -> NDArray[np.int64]:
    """Sum the rows (n_scenes, n_labels) of each group: (count, n_labels)."""
    total = np.zeros((count, values.shape[1]), np.int64)
    np.add.at(total, group_of, values)
    return total


def _shares(columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Scale columns to shares of their sums, and them all together to the weight of one."""
    shares: NDArray[np.float64] = columns / np.maximum(columns.sum(axis=0), 1)
    shares /= np.sqrt(columns.shape[1])
    return shares


def _deal(
    load: NDArray[np.float64], present: NDArray[np.bool_], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Give each group (n, …) a fold, largest first, so that what groups have (n, classes) reaches every fold."""
    tie = rng.permutation(len(load))
    fold_tie = rng.permutation(count)
    sums = np.zeros((count, load.shape[1]))
    lacking = np.ones((count, present.shape[1]), bool)
    left = present.sum(axis=0)
    rarest_first = np.argsort(left, kind="stable")
    dealt = np.full(len(load), -1, np.int64)
    for group in np.lexsort((tie, -load.max(axis=1))):
        allowed = np.ones(count, bool)
        for label in rarest_first:
            # Only as many groups with this class are left as there are folds without it.
            if present[group, label] and left[label] <= lacking[:, label].sum():
                both = allowed & lacking[:, label]
                allowed = both if both.any() else allowed
        cost = np.where(allowed, sums @ load[group], np.inf)
        fold = np.lexsort((fold_tie, cost))[0]
        dealt[group] = fold
        sums[fold] += load[group]
        lacking[fold, present[group]] = False
        left -= present[group]
    return dealt


def _movable(load: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the groups that may be moved: all, or of too many some of every size."""
    if len(load) <= MOVABLE:
        return np.arange(len(load))
    by_size = np.argsort(-load.max(axis=1), kind="stable")
    return np.sort(by_size[np.linspace(0, len(load) - 1, MOVABLE).astype(np.int64)])


def _even_out(
    dealt: NDArray[np.int64],
    load: NDArray[np.float64],
    present: NDArray[np.bool_],
    count: int,
    chosen: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Move and swap the chosen groups as long as the sum of squared loads falls and no fold loses a class that it has.

    Groups that bring the same are one kind, and it matters only how many of a kind a fold holds: scenes with tags
    are many and of few kinds.
    """
    fixed = np.ones(len(dealt), bool)
    fixed[chosen] = False
    others = [fixed & (dealt == fold) for fold in range(count)]
    still, shown = (np.stack([rows[other].sum(axis=0) for other in others]) for rows in (load, present))
    dealt, load, present = dealt[chosen], load[chosen], present[chosen]
    first, kind_of = _kinds(np.column_stack([load, present]))
    # Moving a group to another fold is swapping it with nothing, of which each fold has some: the last kind.
    nothing = len(first)
    brings = np.concatenate([load[first], np.zeros((1, load.shape[1]))])
    shows = np.concatenate([present[first], np.zeros((1, present.shape[1]), bool)]).astype(np.int64)
    members: list[list[deque[int]]] = [[deque() for _ in range(count)] for _ in range(nothing)]
    for group, (kind, fold) in enumerate(zip(kind_of, dealt, strict=True)):
        members[kind][fold].append(group)
    held = np.array([*([len(groups) for groups in folds] for folds in members), [1] * count])
    sums, holders = held[:nothing].T @ brings[:nothing] + still, held[:nothing].T @ shows[:nothing] + shown
    # Inner products of the kinds' loads with the folds', kept up to date; those with each other, found when needed.
    products, squares = brings @ sums.T, (brings**2).sum(axis=1)

    def move(kind: int, source: int, target: int) -> None:
        if kind != nothing:
            group = members[kind][source].popleft()
            members[kind][target].append(group)
            dealt[group] = target
            held[kind, source] -= 1
            held[kind, target] += 1

    for _ in range(PASSES):
        before = (sums**2).sum()
        for kind in np.argsort(-load[first].max(axis=1), kind="stable").tolist():
            for here in np.flatnonzero(held[kind]).tolist():
                ahead = products - products[kind]
                change = ahead[:, [here]] - ahead + (squares + squares[kind] - 2 * (brings @ brings[kind]))[:, None]
                change[held == 0] = 0
                change[:, here] = 0
                partner, there = divmod(int(np.argmin(change)), count)
                swapped = shows[partner] - shows[kind]
                after_here, after_there = holders[here] + swapped, holders[there] - swapped
                loses = ((after_here == 0) & (holders[here] > 0)) | ((after_there == 0) & (holders[there] > 0))
                if change[partner, there] >= 0 or loses.any():
                    continue
                move(kind, here, there)
                move(partner, there, here)
                holders[here], holders[there] = after_here, after_there
                sums[here] += brings[partner] - brings[kind]
                sums[there] -= brings[partner] - brings[kind]
                products[:, [here, there]] = brings @ sums[[here, there]].T
        if (sums**2).sum() == before:
            break
    return dealt


def _kinds(rows: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number different rows in the order in which they appear; return the first of each, and each row's number."""
    _, first, kind_of = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return first[order], np.argsort(order)[kind_of]
