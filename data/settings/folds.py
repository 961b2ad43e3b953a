"""Settings of folds and the groups that share one."""

from typing import Literal

from pydantic import Field

from data.settings.base import BandNames, Settings, aliases

__all__ = ["FoldSettings", "GroupSettings"]


class GroupSettings(Settings):
    """Which scenes stay together in one fold. Every rule given is applied; groups that share a scene are joined."""

    pattern: str | None = Field(
        None, description="regular expression on the scene id; its first parenthesis is the group's name"
    )
    file: str | None = Field(None, description="JSON, CSV or parquet file under `root` of scene id → group")
    column: str | None = Field(
        None, description="column of the table `file` with the group; default: `group` or `cluster`"
    )
    overlap: bool = Field(False, description="join scenes whose footprints overlap on the ground")
    field: str | None = Field(
        None,
        description="column of a drawn label, such as `plot`, whose equal values stay together; `shape`: each shape is "
        "kept whole",
    )
    similar: str | None = Field(
        None, description="band by which near-duplicates are found and joined: one that stays the same, such as dem"
    )
    content: Literal["join", "report", "none"] | BandNames = Field(
        "join",
        description="scenes without georeferencing that show the same ground, shifted by any offset: `join` them, "
        "`report` them, or look for `none`; or bands by which scenes are looked through and joined, georeferenced ones "
        "too; default band: dem or the like, else the first",
    )
    similarity: float = Field(0.98, gt=0, le=1, description="least correlation of near-duplicates on that band, 0 … 1")


class FoldSettings(Settings):
    """How the training scenes are split for cross-validation."""

    count: int = Field(
        5, ge=2, description="number of folds", json_schema_extra=aliases("n_splits", "n_folds", "folds", "k")
    )
    group: GroupSettings = Field(GroupSettings(), description="which scenes stay together in one fold")
    file: str | None = Field(
        None,
        description="CSV file under `root` with the columns `id` and `fold`: folds that are given, in place of `count`",
    )
    labels: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the labelled groups of each fold that is learned from; maps are made of all scenes",
    )
    gap: int | str = Field(
        0,
        description="pixels, or a length such as `60 m`: labels of a block this near to a block of another fold are "
        "left out",
        json_schema_extra=aliases("buffer_distance"),
    )
    stratify: Literal["presence", "none"] = Field(
        "presence",
        description="presence: folds alike in the share of scenes that show a class; none: alike in size alone",
    )
    match: Literal["none", "test"] = Field(
        "none",
        description="test: join groups that lie close together until folds are as far apart as test scenes are from "
        "training scenes, on the ground or, without georeferencing, in what they look like",
    )
