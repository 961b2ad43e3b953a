"""The errors that a user can cause, one line each.

Messages have three parts with their values: what was expected, what was found, what to do about it.
The command line prints the message alone and exits with status 2; ``-v`` adds the traceback.
"""

__all__ = [
    "BundleError",
    "CatalogueError",
    "EnsembleError",
    "ExperimentError",
    "FeatureError",
    "FoldError",
    "LabelError",
    "MapError",
    "MemberError",
    "OutputError",
    "RunError",
    "SceneError",
    "SubmissionError",
    "TableError",
    "TerrablendError",
]


class TerrablendError(Exception):
    """Base of every error that Terrablend raises on purpose."""


class ExperimentError(TerrablendError):
    """The experiment file, or an override of it, cannot be used as written."""


class SceneError(TerrablendError):
    """An image cannot be read, or lacks a band or pixels it should have."""


class LabelError(TerrablendError):
    """A label does not fit its image or holds a value that no class declares."""


class CatalogueError(TerrablendError):
    """The scenes found on disk do not make a data set that can be trained on."""


class FoldError(TerrablendError):
    """The scenes cannot be split into the folds asked for."""


class FeatureError(TerrablendError):
    """A feature is unknown, or needs a band that the scenes lack."""


class TableError(TerrablendError):
    """The pixel table is missing, empty or incompatible."""


class MemberError(TerrablendError):
    """A member cannot be trained, or its files do not fit together."""


class MapError(TerrablendError):
    """A probability or class map is missing, damaged or incompatible."""


class EnsembleError(TerrablendError):
    """The members' maps cannot be blended as asked."""


class OutputError(TerrablendError):
    """What is to be written would take the place of a file that this command did not write."""


class SubmissionError(TerrablendError):
    """A submission was not written as its format demands."""


class RunError(TerrablendError):
    """The run folder cannot be written, or holds results of other settings."""


class BundleError(TerrablendError):
    """A bundle is damaged, was changed, or holds what no bundle may hold."""
