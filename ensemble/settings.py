"""Settings of the ensemble and the submission in the experiment file."""

from string import Formatter
from typing import Annotated, Literal

from pydantic import Field, model_validator

from data.settings import Settings
from ensemble.metric_settings import MetricSettings

__all__ = ["CleaningSettings", "EnsembleSettings", "RuleSettings", "SubmissionSettings"]

Sizes = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class CleaningSettings(Settings):
    """Sizes that are tried on the labels of a scene, in every combination; 0 does nothing."""

    min_size: Sizes = Field([0], description="objects of fewer pixels are replaced by the class around them")
    fill: Sizes = Field([0], description="holes in objects of up to this many pixels are filled")
    smooth: Sizes = Field([0], description="radius in pixels of the square in which labels vote")


class RuleSettings(Settings):
    """What a label becomes where a formula of the scene's bands holds."""

    label: str = Field(description="class, or `background` when binary")
    where: str = Field(description="such as `dem > 0`; where a band has no data the rule does not hold")
    becomes: str | None = Field(None, description="class; when binary the other one of class and background")


class EnsembleSettings(Settings):
    """How the members are blended, and for what."""

    metric: MetricSettings | None = Field(
        None, description="what is optimised; default: dice when binary, macro_iou when multiclass, macro_dice of tags"
    )
    policy: Literal["cautious", "average", "tuned"] = Field(
        "cautious",
        description="cautious: equal weights of calibrated logits, from which only what gains more than its noise "
        "departs, and shrunk; average: nothing departs; tuned: the best of all candidates on parts left out, the best "
        "member alone first",
    )
    calibration: Literal["auto", "none", "temperature", "platt", "beta", "isotonic"] = Field(
        "auto",
        description="of each member's probabilities; auto: temperature or, tuned, by log loss out of fold, none unless "
        "one gains",
    )
    blend: Literal["auto", "stacked", "greedy", "convex", "equal", "best", "largest", "smallest", "noisy-or"] = Field(
        "auto",
        description="what may depart from equal weights: weights a member (convex, greedy), also by class (stacked), "
        "these and unions of members (auto), none (equal), or the best member alone (best); largest, smallest, "
        "noisy-or: always the largest or the smallest of the members' probabilities, or that at least one is right; "
        "tuned: a grid of convex weights, greedy selection with replacement, a logistic regression on all members "
        "(stacked), or all of these (auto)",
    )
    thresholds: Literal["per-class", "fixed"] = Field(
        "per-class", description="tuned out of fold, or 0.5 (binary) and the plain argmax (multiclass)"
    )
    cleaning: Literal["auto", "none"] | CleaningSettings = Field(
        "auto",
        description="sizes to try on decided labels, out of fold; auto: a few of each, and each rule with and without",
    )
    rules: list[RuleSettings] = Field([], description="what labels become where, once they are decided")
    sample: int = Field(
        500_000, ge=1000, description="most pixels that are fitted to; binary thresholds and all scores use every pixel"
    )
    confidence_level: float = Field(
        0.95, gt=0, lt=1, description="share of cases in which an interval holds the score of other groups"
    )
    smallest_gain: float = Field(
        0.002, ge=0, description="the smallest gain that matters: what cannot gain so much adds nothing"
    )
    set_coverage: float = Field(
        0.9,
        gt=0,
        lt=1,
        description="share of each class's pixels that prediction sets should contain, on average over groups",
    )

    @model_validator(mode="after")
    def _nothing_breaks_a_promise(self) -> "EnsembleSettings":
        if self.metric is None or self.metric.confidence is None:
            return self
        changed = {
            "thresholds": self.thresholds == "fixed",
            "cleaning": self.cleaning not in ("auto", "none"),
            "rules": bool(self.rules),
        }
        broken = [key for key, given in changed.items() if given]
        if broken:
            raise ValueError(
                f"expected no {broken[0]} beside metric.confidence, whose promise holds for the thresholds that it "
                f"finds and for nothing that is done to labels after them. Leave {broken[0]} out"
            )
        return self

    @model_validator(mode="after")
    def _unions_are_not_tuned(self) -> "EnsembleSettings":
        if self.policy == "tuned" and self.blend in ("largest", "smallest", "noisy-or"):
            raise ValueError(f"expected blend: {self.blend} with policy cautious or average, got tuned")
        return self


FormatName = Literal["geotiff", "kelp", "png", "rle", "tags", "probabilities", "polygons"]

COLUMN_FIELDS: dict[str, tuple[str, ...]] = {"rle": ("runs", "id", "name", "value"), "tags": ("tags", "id")}
"""What may stand in the columns of a table, first what must be a column of its own."""


class SubmissionSettings(Settings):
    """The form of the submission."""

    format: FormatName = Field(
        "geotiff",
        description="geotiff: class maps; kelp: a tar of 0/1 GeoTIFFs; png: a zip of images in the classes' colours; "
        "rle: a CSV of run lengths; tags: a CSV of tags; probabilities: probability maps; polygons: a GeoPackage",
    )
    columns: dict[str, str] = Field(
        {},
        description="header → content of each column of a table; in it {id} is the scene, {name} and {value} are the "
        "class, {runs} or {tags} is what the row says; default: ImageId, ClassId (unless binary) and EncodedPixels, or "
        "image_name and tags",
    )
    proba: bool = Field(False, description="also write the blended probabilities of the test scenes")
    uncertainty: bool = Field(False, description="also write entropy, margin and the members' disagreement")
    sets: bool = Field(False, description="also write prediction sets: all classes that cannot be ruled out")

    @model_validator(mode="after")
    def _columns_suit_the_format(self) -> "SubmissionSettings":
        if not self.columns:
            return self
        if self.format not in COLUMN_FIELDS:
            raise ValueError(f"expected columns with format rle or tags alone, got format {self.format}")
        whole, *others = (f"{{{name}}}" for name in COLUMN_FIELDS[self.format])
        for header, pattern in self.columns.items():
            fields = [f"{{{name}}}" for _, name, _, _ in Formatter().parse(pattern) if name is not None]
            if pattern != whole and not set(fields) <= set(others):
                raise ValueError(
                    f"column {header}: expected {whole} alone, or a text with {' or '.join(others)}, got {pattern}"
                )
        if list(self.columns.values()).count(whole) != 1:
            raise ValueError(f"expected one column that is {whole}, got {self.columns}")
        return self
