"""The front door: command line, experiment file, run folder, progress, demo data."""

import os
from importlib.util import find_spec
from pathlib import Path

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


_require_own_packages()
