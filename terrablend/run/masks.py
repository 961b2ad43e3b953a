"""Compute the masks of the ensemble's rules: where a formula of a scene's bands holds."""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from data.scenes.rasters import keep_open
from data.scenes.scene import Scene, read_scene
from data.scenes.windows import tile_windows
from ensemble.decide.decision.cleaning import Masks
from features.bases import Bases
from features.formula import Formula

__all__ = ["rule_masks"]


def rule_masks(conditions: Sequence[str], formulas: Mapping[str, str], side: int = 2048) -> Masks:
    """Return what makes the masks of a scene.

    Parameters
    ----------
    conditions : sequence of str
        Of the rules, such as ``dem > 0``: of bands, indices, changes and ``formulas``.
    formulas : mapping of str to str
        The user's own, by name.
    side : int
        Pixels on a side of the windows in which bands are read, so that memory does not grow with scenes.

    Returns
    -------
    masks : callable
        Scene → condition → (H, W) bool. A condition holds where its value is a number other than 0; where a band has
        no data it does not hold.

    Raises
    ------
    FeatureError
        When called, if a condition is no formula or uses a name that there is not.
    """
    return partial(_find_masks, tuple(conditions), tuple(formulas.items()), side)


def _find_masks(
    conditions: tuple[str, ...], formulas: tuple[tuple[str, str], ...], side: int, scene: Scene
) -> Mapping[str, NDArray[np.bool_]]:
    chosen = _compile(scene.bands, conditions, formulas)
    height, width = scene.grid.height, scene.grid.width
    planes = {condition: np.zeros((height, width), bool) for condition in chosen}
    needed = sorted(set().union(*(formula.names for formula in chosen.values())))
    with keep_open():
        for window in tile_windows(height, width, side) if needed else ():
            pixels = dict(zip(needed, read_scene(scene, window, bands=needed), strict=True))
            for condition, formula in chosen.items():
                values = formula(pixels)
                planes[condition][window.slices] = np.isfinite(values) & (values != 0)
    return planes


@lru_cache(maxsize=8)
def _compile(
    bands: tuple[str, ...], conditions: tuple[str, ...], formulas: tuple[tuple[str, str], ...]
) -> dict[str, Formula]:
    named = {f"ensemble_rule_{number}": condition for number, condition in enumerate(conditions, 1)}
    bases = Bases(bands, {**dict(formulas), **named})
    holding = {condition: bases.find(name) for name, condition in named.items()}
    return {condition: base.formula for condition, base in holding.items() if base is not None}
