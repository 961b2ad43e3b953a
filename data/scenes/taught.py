"""Scenes without labels of their own that a model learns from all the same."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from data.scenes.catalogue import Catalogue, SceneStatistics
from data.scenes.scene import Scene, Split

__all__ = ["TAUGHT_FOLD", "Taught"]

TAUGHT_FOLD = -1
"""Fold of such scenes: no model holds them out."""


@dataclass(frozen=True)
class Taught:
    """What the model of a fold learns from besides the training scenes outside that fold.

    Parameters
    ----------
    scenes : tuple of Scene
        Training scenes of the fold `TAUGHT_FOLD`, with labels that other models gave them.
    statistics : mapping
        Scene id → statistics.
    pixels : Path
        Folder of their rows of the pixel table, if any model learns from rows.
    """

    scenes: tuple[Scene, ...] = ()
    statistics: dict[str, SceneStatistics] = field(default_factory=dict)
    pixels: Path = Path()

    def alone(self, catalogue: Catalogue) -> Catalogue:
        """Return a catalogue of these scenes alone."""
        statistics: dict[tuple[Split, str], SceneStatistics] = {
            ("train", name): found for name, found in self.statistics.items()
        }
        return replace(catalogue, scenes=self.scenes, statistics=statistics)

    def beside(self, catalogue: Catalogue) -> Catalogue:
        """Return a catalogue with these scenes too."""
        own = self.alone(catalogue)
        statistics = {**catalogue.statistics, **own.statistics}
        return replace(catalogue, scenes=(*catalogue.scenes, *self.scenes), statistics=statistics)
