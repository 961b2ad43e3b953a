"""The front door: command line, experiment file, run folder, progress, demo data; and what Python users need.

What stands in `__all__` is imported when it is first asked for: the command line does not wait for it.
"""

import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from terrablend.api.arrays import context, features, pixel_table, spectral_indices
    from terrablend.api.decisions import FittedDecision, blend, calibrate, load_decision, tune_thresholds
    from terrablend.api.estimators import BlendClassifier, ThresholdTuner
    from terrablend.api.runs import FinishedRun, open_run, train

__all__ = [
    "BlendClassifier",
    "FinishedRun",
    "FittedDecision",
    "ThresholdTuner",
    "blend",
    "calibrate",
    "context",
    "features",
    "load_decision",
    "open_run",
    "pixel_table",
    "spectral_indices",
    "train",
    "tune_thresholds",
]

PUBLIC = {
    "arrays": ("context", "features", "pixel_table", "spectral_indices"),
    "decisions": ("FittedDecision", "blend", "calibrate", "load_decision", "tune_thresholds"),
    "estimators": ("BlendClassifier", "ThresholdTuner"),
    "runs": ("FinishedRun", "open_run", "train"),
}
"""Module of `terrablend.api` → what it gives."""

# Threads that spin while they wait are 20 times slower once another program wants a core. OpenMP reads this when the
# first library that uses it is loaded, so it is set before any is.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

PACKAGES = ("data", "features", "trees", "cnn", "maps", "ensemble", "recipes")
"""Packages beside this one, with names that files of a user's may have too."""


def _require_own_packages() -> None:
    """Refuse to go on where a user's file or folder stands before one of the packages."""
    ours = Path(__file__).parents[1]
    for name in PACKAGES:
        spec = find_spec(name)
        places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
        found = next((Path(place) for place in places if place), None)
        if found is not None and ours not in found.parents:
            found = found.parent if found.name == "__init__.py" else found
            raise ImportError(
                f"{found} hides the package {name} of Terrablend: rename it, or start Python in another folder."
            )


def __getattr__(name: str) -> Any:
    for module, names in PUBLIC.items():
        if name in names:
            return getattr(import_module(f"terrablend.api.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_require_own_packages()
