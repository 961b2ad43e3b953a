"""Services that log each epoch, by name. Their libraries are imported when they are asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from cnn.settings import LoggerName
from data.errors import MemberError

__all__ = ["LOGGERS", "Service", "check_loggers", "close_loggers", "open_loggers"]


@dataclass(frozen=True)
class Service:
    """A service that logs epochs.

    Parameters
    ----------
    library : str
        Import name, also that of the extra of Terrablend that installs it.
    open : callable
        (folder of the member, name of the training) → logger.
    """

    library: str
    open: Callable[[Path, str], Logger]


LOGGERS: dict[LoggerName, Service] = {
    "tensorboard": Service("tensorboard", lambda folder, name: TensorBoardLogger(folder, "tensorboard", name)),
    "mlflow": Service("mlflow", lambda folder, name: MLFlowLogger("terrablend", name, save_dir=str(folder / "mlruns"))),
    "wandb": Service("wandb", lambda folder, name: WandbLogger(name, folder, project="terrablend")),
}


def check_loggers(names: Sequence[LoggerName]) -> None:
    """Make sure that the libraries of some loggers are installed.

    Raises
    ------
    MemberError
        If one is not.
    """
    for name in names:
        library = LOGGERS[name].library
        if find_spec(library) is None:
            raise MemberError(
                f"loggers {name}: expected the library {library}, it is not installed. "
                f"Install `terrablend[{library}]`, or take {name} out of loggers."
            )


def open_loggers(names: Sequence[LoggerName], folder: Path, name: str) -> list[Logger]:
    """Open the loggers of a training: ``folder`` is the member's, ``name`` the training's."""
    return [LOGGERS[service].open(folder, name) for service in names]


def close_loggers(loggers: Sequence[Logger]) -> None:
    """Close the loggers of a training that is over."""
    for logger in loggers:
        logger.finalize("success")
        if isinstance(logger, WandbLogger):
            # Else the next fold's would go on in the same run.
            logger.experiment.finish()
