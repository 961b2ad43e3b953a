"""Settings of a member of the CNN branch in the experiment file."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from cnn.inputs.settings import AugmentSettings, NormaliseSettings
from cnn.known_weights import KNOWN_WEIGHTS
from cnn.losses.loss_terms import parse_loss
from data.metrics.metric import MetricName
from data.settings import BandNames, OneOrMore, aliases
from features.branch import DeviceName
from features.stack_settings import StackEntry, StackingSettings, derived_members

__all__ = ["CLASSIFIER", "OF_TAGS", "CnnSettings", "DeviceName", "PrecisionName"]

PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]
InputInitName = Literal["mean", "copy", "zero"]
FreezeName = Literal["none", "encoder", "batch_norm", "gradual"]
OptimizerName = Literal["adamw", "adam", "sgd"]
ScheduleName = Literal["one_cycle", "cosine", "step", "plateau", "constant"]
AverageName = Literal["none", "ema", "swa"]
MonitorName = MetricName | Literal["macro_f2", "loss"]
LoggerName = Literal["tensorboard", "mlflow", "wandb"]
Weight = Annotated[float, Field(ge=0)]

CLASSIFIER = "classifier"
"""Architecture that predicts tags of whole scenes, not labels of pixels."""

OF_TAGS: dict[str, Any] = {"architecture": CLASSIFIER, "loss": "bce"}
"""Defaults of a multilabel task."""

OTHERWISE: dict[str | None, dict[str, Any]] = {
    "adam": {"weight_decay": 0.0},
    "sgd": {"learning_rate": 0.05, "weight_decay": 1e-4},
}
"""Defaults of one optimizer alone."""


class CnnSettings(StackingSettings):
    """A member that is a convolutional network: what it is, what it sees, how it is trained and applied."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "in_channels": "inputs lists the bands and features that are its channels; their number follows.",
        **dict.fromkeys(("classes", "num_classes", "n_classes"), "They are the experiment's classes."),
        "activation": "It follows from the experiment's task.",
        "ignore_index": "scenes.train.label.ignore lists the values that are never trained on.",
        "freeze_encoder": "Write freeze: encoder.",
        "amp": "precision says in which arithmetic it is trained.",
        "use_ema": "Write average: ema.",
        "use_swa": "Write average: swa.",
        "metric": "monitor is what training is watched by, ensemble.metric what the ensemble is tuned for.",
        "stride": "overlap says how far neighbouring windows overlap.",
        **dict.fromkeys(("seed", "random_state", "random_seed"), "Write seed at the top of the experiment file."),
        **dict.fromkeys(("num_workers", "workers", "n_jobs"), "Say --workers on the command line."),
    }

    branch: Literal["cnn"] = Field("cnn", description="cnn: a convolutional network")

    architecture: str = Field(
        "unet",
        description="segmentation-models-pytorch architecture, such as unet or fpn; with the task multilabel always "
        "classifier, which pools the deepest features of the encoder",
        json_schema_extra=aliases("arch"),
    )
    encoder: str = Field(
        "resnet34",
        description="encoder: its name in smp, or `tu-` and its name in timm; weights that `terrablend weights` lists "
        "bring their own",
        json_schema_extra=aliases("encoder_name", "backbone"),
    )
    encoder_depth: int | None = Field(
        None, ge=1, le=5, description="times the encoder halves its input; default: that of the architecture"
    )
    decoder_channels: list[int] | int | None = Field(
        None, description="channels of the decoder, for a U-Net one number a block, the coarsest first"
    )
    attention: Literal["scse"] | None = Field(
        None,
        description="scse: spatial and channel squeeze-and-excitation in the decoder of unet and unetplusplus",
        json_schema_extra=aliases("decoder_attention_type"),
    )
    parameters: dict[str, Any] = Field(
        {},
        description="further arguments of the smp architecture, as smp names them",
        json_schema_extra=aliases("params"),
    )
    pretrained: str | None = Field(
        None,
        description="weights to start from: a name that `terrablend weights` lists, one on the hub such as `imagenet`, "
        "or a local file (that of an earlier run must not have seen these scenes, or their scores are too good); "
        "default: random weights",
        json_schema_extra=aliases("encoder_weights"),
    )
    input_conv_init: InputInitName = Field(
        "mean",
        description="weights of the first layer for an input channel that the pretrained ones do not know by its name: "
        "the mean of those that they know, these in turn, or zero",
    )
    freeze: FreezeName = Field(
        "none",
        description="part of the encoder that keeps its pretrained weights: none, all of it, its batch normalisation; "
        "gradual: all of it at first, released stage by stage, the deepest first, over the first half of the epochs",
    )
    inputs: BandNames | None = Field(
        None, min_length=1, description="bands and features that are input channels; default: all bands but masks"
    )

    normalise: NormaliseSettings = Field(NormaliseSettings(), description="how input channels are scaled")
    resize: float = Field(
        1.0,
        ge=0.1,
        le=8,
        description="scenes are enlarged N times for the network, below 1 shrunk; its maps are resized back",
    )

    loss: str = Field(
        "ce+dice",
        description="weighted sum of losses such as `0.3 bce + 0.5 jaccard + 0.2 focal`, of ce, bce, focal, dice, "
        "jaccard, tversky, lovasz, mcc and boundary; with the task multilabel of bce and focal, default bce",
        json_schema_extra=aliases("criterion", "loss_fn"),
    )
    class_weights: Literal["none", "balanced"] | dict[str, Weight] = Field(
        "none",
        description="weight of a class in ce, bce and focal: none (all 1), balanced (1 / its share of the labelled "
        "pixels), or by name, 1 if not named",
        json_schema_extra=aliases("class_weight"),
    )
    pos_weight: Literal["none", "balanced"] | dict[str, Weight] = Field(
        "none",
        description="multilabel: weight of a tag in scenes that have it: none (1), balanced (scenes without it / "
        "scenes with it), or by name, 1 if not named",
    )
    region_weights: dict[str, Weight] = Field(
        {},
        description="weight of a class in the losses of regions, dice to boundary, by name; default: 1, and 0 for the "
        "background when binary",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the truth that ce, bce and focal spread evenly over the classes"
    )
    focal_gamma: float = Field(2.0, ge=0, description="focal: exponent; larger gives easy pixels less weight")
    tversky_alpha: float = Field(0.3, ge=0, description="tversky: weight of false positives")
    tversky_beta: float = Field(0.7, gt=0, description="tversky: weight of false negatives")

    crop: int = Field(
        256,
        ge=8,
        le=2048,
        description="side of the square training crops, in pixels that the network sees",
        json_schema_extra=aliases("crop_size", "patch_size", "image_size", "img_size", "chip_size"),
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        description="crops a batch, on all devices together; default: 16, or so many fewer, down to 4, that an epoch "
        "has 32 batches",
    )
    epochs: int = Field(
        50, ge=1, description="epochs of training", json_schema_extra=aliases("max_epochs", "num_epochs")
    )
    steps: int | None = Field(
        None,
        ge=1,
        description="batches an epoch; default: enough to show the scenes' area once, but 8 or more",
        json_schema_extra=aliases("steps_per_epoch", "limit_train_batches"),
    )
    accumulate: int = Field(
        1,
        ge=1,
        description="batches whose gradients are summed into one step",
        json_schema_extra=aliases("accumulate_grad_batches", "gradient_accumulation_steps"),
    )
    optimizer: OptimizerName = Field(
        "adamw", description="adamw, adam, or sgd with momentum", json_schema_extra=aliases("optim")
    )
    learning_rate: float = Field(
        1e-3,
        gt=0,
        description="highest learning rate of the schedule; default with sgd: 0.05",
        json_schema_extra=aliases("lr", "max_lr"),
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="each stage of the encoder learns at N times the rate of the next deeper one"
    )
    weight_decay: float = Field(
        1e-2,
        ge=0,
        description="weight decay, never of biases and normalisation weights; default with sgd 1e-4, with adam 0",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd; one_cycle moves it between 0.85 and 0.95")
    gradient_clip: float = Field(
        1.0,
        ge=0,
        description="largest norm of the gradient; 0: no limit",
        json_schema_extra=aliases("gradient_clip_val", "clip_grad_norm"),
    )
    schedule: ScheduleName = Field(
        "one_cycle",
        description="schedule of the learning rate: up, then down to nearly 0 (one_cycle), down to 0 (cosine), lowered "
        "every `lr_step_epochs` (step) or after `lr_step_epochs` without a gain (plateau), or constant",
        json_schema_extra=aliases("scheduler", "lr_scheduler"),
    )
    warmup: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="share of the steps in which the rate rises; default: 0.3 one_cycle, else 0.05",
        json_schema_extra=aliases("pct_start", "warmup_ratio"),
    )
    lr_step_epochs: int | None = Field(
        None,
        ge=1,
        description="epochs after which step and plateau lower the rate; default: a third of all for step, a tenth for "
        "plateau",
        json_schema_extra=aliases("step_size"),
    )
    lr_factor: float = Field(0.1, gt=0, lt=1, description="factor by which step and plateau multiply the rate")
    average: AverageName = Field(
        "none",
        description="weights that are applied: the last ones (none), their moving average over the steps (ema), or "
        "their mean over the ends of the last epochs (swa)",
    )
    ema_decay: float = Field(
        0.999, gt=0, lt=1, description="ema: share of the average that each step keeps; less in the first steps"
    )
    swa_share: float = Field(0.25, gt=0, le=1, description="swa: share of the epochs, the last ones, that it averages")

    validation_fraction: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the training groups held out to score each epoch, never those of the predicted fold; the "
        "best epoch is then used, at 0 the last",
        json_schema_extra=aliases("val_fraction", "validation_split"),
    )
    monitor: MonitorName | None = Field(
        None,
        description="score of the held-out groups; default: iou when binary, else macro_iou, both at a threshold of "
        "0.5 or of the likeliest class; multilabel: macro_dice (F1), or macro_f2",
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="epochs without a gain in that score before training stops; default: it never stops",
        json_schema_extra=aliases("early_stopping_patience", "early_stopping_rounds"),
    )
    min_delta: float = Field(0.0, ge=0, description="smallest rise of the score that is a gain")
    pictures: int | None = Field(
        None, ge=1, description="epochs between two grids of held-out predictions; default: a fifth of all epochs"
    )
    loggers: Annotated[list[LoggerName], OneOrMore()] = Field(
        [],
        description="services that get each epoch's log: tensorboard, mlflow, wandb",
        json_schema_extra=aliases("logger"),
    )

    augment: AugmentSettings = Field(
        AugmentSettings(),
        description="how crops are altered at random",
        json_schema_extra=aliases("augmentation", "augmentations", "transforms"),
    )
    positive_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of the crops that are placed on a pixel of the positive class (binary), or of a class drawn "
        "by `crop_weights` (multiclass); default: 0.5 when binary, 0 when multiclass",
    )
    crop_weights: dict[str, Weight] = Field(
        {}, description="how often such a crop is placed on each class, by name, 1 if not named"
    )
    scene_weights: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {},
        description="a crop comes N times as often from the scene where a fact is highest as from the one where it is "
        "lowest, by the fact's name: has_kelp, kelp_share, valid_share, nir_mean …",
    )
    cache_gb: float = Field(
        4, ge=0, description="memory for the training scenes, GB; if they need more they are read again for each crop"
    )

    tile: int = Field(
        512,
        ge=32,
        le=4096,
        description="side of the windows that larger scenes are predicted in, in pixels that the network sees",
        json_schema_extra=aliases("tile_size", "window_size"),
    )
    overlap: int = Field(
        128,
        ge=0,
        description="least overlap of neighbouring windows, blended smoothly, in pixels that the network sees",
    )
    tta: Literal["none", "d4"] = Field(
        "none",
        description="test-time augmentation; d4: mean prediction of the 8 flips and quarter turns of each window, "
        "which takes 8 times as long",
        json_schema_extra=aliases("test_time_augmentation"),
    )
    predict_batch: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        "auto",
        description="windows predicted at once; auto: as many as fit the GPU's memory, on a CPU one a core, 8 at most",
        json_schema_extra=aliases("predict_batch_size"),
    )
    predict_precision: PrecisionName = Field(
        "auto",
        description="arithmetic of prediction; auto: bfloat16 where the GPU or CPU has instructions for it, else "
        "float16 on a GPU and float32 on a CPU",
    )
    predict_engine: Literal["torch", "openvino"] = Field(
        "torch", description="library that predicts on a CPU; openvino is an extra, and compiles for seconds first"
    )

    device: DeviceName = Field("auto", description="auto takes a GPU when there is one")
    devices: int = Field(1, ge=1, description="GPUs, or processes on a CPU, that share each batch in training")
    compile: bool = Field(
        False,
        description="compile the network with torch.compile for training; pays in long ones",
        json_schema_extra=aliases("torch_compile"),
    )
    precision: PrecisionName = Field(
        "auto", description="arithmetic of training; auto: bfloat16 or float16 on a GPU, float32 on a CPU"
    )

    @field_validator("loss")
    @classmethod
    def _is_a_loss(cls, text: str) -> str:
        parse_loss(text)
        return text

    @model_validator(mode="before")
    @classmethod
    def _suit_the_optimizer(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return cls.with_defaults(values, OTHERWISE.get(values.get("optimizer", values.get("optim")), {}))

    @model_validator(mode="before")
    @classmethod
    def _suit_the_weights(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        known = KNOWN_WEIGHTS.get(str(values.get("pretrained", values.get("encoder_weights"))))
        return cls.with_defaults(values, {"encoder": known.encoder}) if known else values

    @field_validator("stack")
    @classmethod
    def _no_layers(cls, stack: list[StackEntry]) -> list[StackEntry]:
        if layers := [*derived_members(stack)]:
            raise ValueError(f"expected members, got the layer {layers[0]}: only trees see layers")
        return stack

    @model_validator(mode="after")
    def _training_makes_sense(self) -> "CnnSettings":
        if self.freeze != "none" and self.pretrained is None:
            raise ValueError(f"expected pretrained weights to freeze, got freeze: {self.freeze} without pretrained")
        if self.normalise.by == "pretrained" and self.pretrained is None:
            raise ValueError("expected pretrained weights, got normalise: pretrained without pretrained")
        watched = [key for key in ("monitor", "patience", "pictures") if getattr(self, key) is not None]
        if watched and self.validation_fraction == 0:
            raise ValueError(
                f"{', '.join(watched)}: expected held-out groups, got none. Write `validation_fraction: 0.15`"
            )
        if self.predict_engine == "openvino" and self.normalise.per_scene:
            raise ValueError("expected one normalisation to compile, got predict_engine: openvino with per_scene")
        if self.batch_size is not None and self.batch_size % self.devices:
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
