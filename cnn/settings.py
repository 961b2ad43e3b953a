"""What a member of the CNN branch can be told in the experiment file."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from cnn.inputs.settings import AugmentSettings, NormaliseSettings
from cnn.losses.loss_terms import parse_loss
from data.metrics.metric import MetricName
from data.settings import Settings

__all__ = ["CLASSIFIER", "OF_TAGS", "CnnSettings", "DeviceName", "PrecisionName"]

DeviceName = Literal["auto", "cpu", "cuda"]
PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]
PlanesName = Literal["mean", "copy", "zero"]
FreezeName = Literal["none", "encoder", "batch_norm", "gradual"]
OptimizerName = Literal["adamw", "adam", "sgd"]
ScheduleName = Literal["one_cycle", "cosine", "step", "plateau", "constant"]
AverageName = Literal["none", "ema", "swa"]
StopName = MetricName | Literal["macro_f2", "loss"]
LoggerName = Literal["tensorboard", "mlflow", "wandb"]
Weight = Annotated[float, Field(ge=0)]

CLASSIFIER = "classifier"
"""The architecture that tells tags of whole scenes, not labels of pixels."""

OF_TAGS: dict[str, Any] = {"architecture": CLASSIFIER, "loss": "bce"}
"""Defaults of a multilabel task."""

OTHERWISE: dict[str | None, dict[str, Any]] = {
    "adam": {"weight_decay": 0.0},
    "sgd": {"learning_rate": 0.05, "weight_decay": 1e-4},
}
"""Defaults that only suit one kind of optimizer."""


class CnnSettings(Settings):
    """A member that is a convolutional network: what it is, what it sees, how it is trained and applied."""

    branch: Literal["cnn"] = "cnn"

    architecture: str = Field(
        "unet",
        description="segmentation-models-pytorch architecture, such as unet or fpn; with the task multilabel "
        "classifier, an encoder whose deepest features are pooled",
    )
    encoder: str = Field("resnet34", description="its encoder: an smp name, or `tu-` and a timm name")
    encoder_depth: int | None = Field(
        None, ge=1, le=5, description="times the encoder halves its input; default: the architecture's own"
    )
    decoder_channels: list[int] | int | None = Field(
        None, description="width of the decoder, for a U-Net from its coarsest to its finest block"
    )
    attention: Literal["scse"] | None = Field(
        None,
        description="attention in the decoder of unet and unetplusplus: squeeze and excitation in space and channel",
    )
    parameters: dict[str, Any] = Field({}, description="further arguments of the smp architecture, as smp names them")
    weights: str | None = Field(
        None,
        description="what the network starts from: nothing, weights of the hub such as `imagenet`, or a local file "
        "(an earlier run's must not have seen these scenes: their scores would be flattered)",
    )
    input_conv_init: PlanesName = Field(
        "mean",
        description="what weights of the first layer an input plane gets that `weights` do not know by its name: the "
        "mean of those that they know, these in turn, or zero",
    )
    freeze: FreezeName = Field(
        "none",
        description="what of the encoder keeps its `weights`: nothing, all of it, its batch normalisation, or all at "
        "first and over the first half of the epochs stage after stage less, from the deepest up",
    )
    inputs: list[str] | None = Field(
        None, min_length=1, description="bands and features that are its input planes; default: all bands but masks"
    )
    stack: list[str] = Field(
        [], description="members whose probabilities are input planes too, one a class, out of fold wherever it learns"
    )

    normalise: NormaliseSettings = NormaliseSettings()
    resize: float = Field(
        1.0,
        gt=0,
        le=8,
        description="scenes are enlarged so many times for the network, or shrunk, and its maps brought back",
    )

    loss: str = Field(
        "ce+dice",
        description="a sum such as `0.3 bce + 0.5 jaccard + 0.2 focal` of ce, bce, focal, dice, jaccard, tversky, "
        "lovasz, mcc and boundary; with the task multilabel of bce and focal, default bce",
    )
    class_weights: Literal["none", "balanced"] | dict[str, Weight] = Field(
        "none",
        description="what a pixel of a class counts in ce, bce and focal: all the same, 1 / the share of the labelled "
        "pixels, or by name, 1 if not named",
    )
    pos_weight: Literal["none", "balanced"] | dict[str, Weight] = Field(
        "none",
        description="multilabel: how many times as much a tag counts in a scene that has it: as much, as many times as "
        "there are more scenes without it, or by name, 1 if not named",
    )
    region_weights: dict[str, Weight] = Field(
        {},
        description="what a class counts in the losses of regions, dice to boundary, by name; default: 1, and 0 for "
        "the background when binary",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the truth that ce, bce and focal spread evenly over the classes"
    )
    focal_gamma: float = Field(2.0, ge=0, description="focal: how much less a pixel counts that is right already")
    tversky_alpha: float = Field(0.3, ge=0, description="tversky: what a false alarm costs")
    tversky_beta: float = Field(0.7, gt=0, description="tversky: what a miss costs")

    crop: int = Field(256, ge=8, description="side of the square crops trained on, in pixels that the network sees")
    batch_size: int = Field(16, ge=1, description="crops that go through the network at once, on all devices together")
    epochs: int = Field(50, ge=1)
    steps: int | None = Field(
        None, ge=1, description="batches an epoch; default: as many as show the scenes' area once"
    )
    accumulate: int = Field(1, ge=1, description="batches whose gradients make a step together")
    optimizer: OptimizerName = Field("adamw", description="adamw, adam or sgd with momentum")
    learning_rate: float = Field(1e-3, gt=0, description="highest of the schedule; with sgd 0.05")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="each stage of the encoder learns at so many times the rate of the next deeper one"
    )
    weight_decay: float = Field(
        1e-2, ge=0, description="biases and normalisation weights have none; with sgd 1e-4, with adam 0"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd; one_cycle moves it between 0.85 and 0.95")
    gradient_clip: float = Field(1.0, ge=0, description="largest norm of the gradient; 0: any")
    schedule: ScheduleName = Field(
        "one_cycle",
        description="of the learning rate: up and down to nothing (one_cycle), down to nothing (cosine), cut after "
        "every `lr_step_epochs` (step) or after as many without a gain (plateau), or constant",
    )
    warmup: float | None = Field(
        None, ge=0, lt=1, description="share of the steps in which the rate rises; default: 0.3 one_cycle, else 0.05"
    )
    lr_step_epochs: int | None = Field(
        None, ge=1, description="epochs; default: a third of all for step, a tenth of all for plateau"
    )
    cut: float = Field(0.1, gt=0, lt=1, description="what step and plateau multiply the rate with")
    average: AverageName = Field(
        "none",
        description="what is applied: the last weights, their moving average over the steps (ema), or their mean over "
        "the ends of the last epochs (swa)",
    )
    ema_decay: float = Field(0.999, gt=0, lt=1, description="share of the average that a step keeps; less at first")
    swa_share: float = Field(0.25, gt=0, le=1, description="share of the epochs, the last ones, that swa averages")

    validation_fraction: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the training groups held out to watch the training, never those of the fold that is "
        "predicted; the best epoch is used then, without it the last",
    )
    monitor: StopName | None = Field(
        None,
        description="what these are scored by; default: iou of the plain map when binary, else macro_iou; "
        "multilabel: macro_dice (F1) or macro_f2 of tags at 0.5",
    )
    patience: int | None = Field(
        None, ge=1, description="epochs without a gain there before training stops; default: it never does"
    )
    min_delta: float = Field(0.0, ge=0, description="gain that counts as one")
    pictures: int | None = Field(
        None, ge=1, description="epochs from one sheet of held-out scenes to the next; default: a fifth of all"
    )
    loggers: list[LoggerName] = Field([], description="also tell these of each epoch: tensorboard, mlflow, wandb")

    augment: AugmentSettings = AugmentSettings()
    positive_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of crops that are placed on a pixel of the positive class (binary) or of a class drawn "
        "evenly from all (multiclass), so that rare ones are seen; default: 0.5 when binary, 0 when multiclass",
    )
    crop_weights: dict[str, Weight] = Field(
        {}, description="how often each class is the one that such a crop is placed on, by name, 1 if not named"
    )
    scene_weights: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {},
        description="how many times as often a crop is cut from the scene where a fact is highest as from the one "
        "where it is lowest, by the fact's name: has_kelp, kelp_share, valid_share, nir_mean …",
    )
    cache_gb: float = Field(4, ge=0, description="memory for the training scenes; if they need more they are re-read")

    tile: int = Field(
        512,
        ge=32,
        description="side of the windows that larger scenes are predicted in, in pixels that the network sees",
    )
    overlap: int = Field(
        128,
        ge=0,
        description="least overlap of neighbouring windows, blended smoothly, in pixels that the network sees",
    )
    turns: bool = Field(False, description="average predictions over mirror images and quarter turns: 8 times the work")
    predict_batch: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description="windows predicted at once; auto: as many as fit the GPU's memory, on a CPU one a core, 8 at most",
    )
    predict_precision: PrecisionName = Field(
        "auto",
        description="of the arithmetic of prediction; auto: bfloat16 where the GPU or CPU has instructions for it, "
        "else float16 on a GPU and float32 on a CPU",
    )
    predict_engine: Literal["torch", "openvino"] = Field(
        "torch", description="what computes maps on a CPU; openvino is an extra, and compiles for seconds first"
    )

    device: DeviceName = Field("auto", description="auto takes a GPU when there is one")
    devices: int = Field(1, ge=1, description="GPUs, or processes on a CPU, that share each batch while training")
    compile: bool = Field(False, description="let torch compile the network for training; it pays in long ones")
    precision: PrecisionName = Field(
        "auto", description="of the arithmetic of training; auto: bfloat16 or float16 on a GPU, float32 on the CPU"
    )

    @field_validator("loss")
    @classmethod
    def _is_a_loss(cls, text: str) -> str:
        parse_loss(text)
        return text

    @model_validator(mode="before")
    @classmethod
    def _suit_the_optimizer(cls, values: Any) -> Any:
        return {**OTHERWISE.get(values.get("optimizer"), {}), **values} if isinstance(values, dict) else values

    @field_validator("stack")
    @classmethod
    def _names_differ(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError(f"expected each member once, got {', '.join(names)}")
        return names

    @field_validator("loggers", mode="before")
    @classmethod
    def _wrap_logger(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _training_makes_sense(self) -> "CnnSettings":
        if self.freeze != "none" and self.weights is None:
            raise ValueError(f"expected weights to freeze, got freeze: {self.freeze} without weights")
        watched = [key for key in ("monitor", "patience", "pictures") if getattr(self, key) is not None]
        if watched and self.validation_fraction == 0:
            raise ValueError(f"expected a holdout, which {', '.join(watched)} is about, got none")
        if self.predict_engine == "openvino" and self.normalise.per_scene:
            raise ValueError("expected one normalisation to compile, got predict_engine: openvino with per_scene")
        if self.batch_size % self.devices:
            raise ValueError(
                f"expected batch_size to be a multiple of devices, got {self.batch_size} on {self.devices}"
            )
        if (self.augment.mixup or self.augment.cutmix) and self.batch_size == self.devices:
            raise ValueError(
                f"expected batches to mix crops of, got batch_size: {self.batch_size} with mixup or cutmix"
            )
        return self

    @model_validator(mode="after")
    def _overlap_leaves_a_middle(self) -> "CnnSettings":
        if 2 * self.overlap > self.tile:
            raise ValueError(f"expected overlap to be at most half of tile, got {self.overlap} of {self.tile}")
        return self
