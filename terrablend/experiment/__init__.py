"""The experiment file: what a user may write, and what is made of it."""

from terrablend.experiment.files import (
    change_experiment,
    experiment_file,
    load_experiment,
    load_scene_experiment,
    read_experiment,
    save_experiment,
)
from terrablend.experiment.settings import AnyExperiment, E, Experiment, TableExperiment

__all__ = [
    "AnyExperiment",
    "E",
    "Experiment",
    "TableExperiment",
    "change_experiment",
    "experiment_file",
    "load_experiment",
    "load_scene_experiment",
    "read_experiment",
    "save_experiment",
]
