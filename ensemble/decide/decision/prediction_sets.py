"""Prediction sets: of each pixel all classes that cannot be ruled out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.maps.geotiff import NODATA, TOP
from data.scenes.classes import IGNORE

__all__ = ["PredictionSets", "label_planes"]

Stored = NDArray[np.uint16]


@dataclass(frozen=True)
class PredictionSets:
    """From which probability on a label is in the set of a pixel.

    Parameters
    ----------
    coverage : float
        Share of each label's pixels whose set holds it, in the mean over groups.
    levels : tuple of int
        The least stored probability of each label; one above `TOP` where it is in a set only if it is mapped.
    sure : tuple of bool
        Of each label, whether it lies in groups enough; else it is in every set.
    held : tuple of float
        Share of each label's pixels whose set held it, with levels that were found without the fold of the pixel.
    size : float
        Labels in a set there, in the mean.
    """

    coverage: float
    levels: tuple[int, ...]
    sure: tuple[bool, ...]
    held: tuple[float, ...] = ()
    size: float = 1.0

    def __post_init__(self) -> None:
        if not len(self.levels) == len(self.sure) or not all(0 <= level <= NODATA + 1 for level in self.levels):
            raise ValueError("expected a level of each label, as stored")

    def apply(self, shown: Stored, *labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return which labels are in the set of each pixel.

        Parameters
        ----------
        shown : (n_classes, …) uint16
            Probabilities that are shown, as stored.
        labels : (…) uint8
            Label indices that are in the set at any rate: what is mapped.

        Returns
        -------
        sets : (n_labels, …) uint8
            1 where the label is in the set, else 0; `IGNORE` where nothing was predicted.

        Examples
        --------
        >>> sets = PredictionSets(0.9, (40000, 20000), (True, True))
        >>> sets.apply(np.array([[9000, 30000, 21000, NODATA]], np.uint16), np.array([0, 1, 0, IGNORE], np.uint8))
        array([[  1,   0,   1, 255],
               [  0,   1,   1, 255]], dtype=uint8)
        """
        planes = label_planes(shown)
        levels = np.array(self.levels).reshape(-1, *[1] * (planes.ndim - 1))
        inside = planes >= levels
        places = np.arange(len(planes)).reshape(levels.shape)
        for label in labels:
            inside |= label[None] == places
        return np.where(shown[:1] == NODATA, np.uint8(IGNORE), inside).astype(np.uint8)

    def words(self, names: tuple[str, ...]) -> str:
        """Write how often sets held the true label, fold by fold.

        >>> PredictionSets(0.9, (9, 9), (True, True), (0.93, 0.9), 1.1).words(("sea", "kelp"))
        'prediction sets hold sea in 93%, kelp in 90% of its pixels, asked for 90%; of 1.10 classes in the mean'
        """
        shares = ", ".join(f"{name} in {share:.0%}" for name, share in zip(names, self.held, strict=True))
        few = [name for name, sure in zip(names, self.sure, strict=True) if not sure]
        lacking = f"; {' and '.join(few)} in every one, since groups are too few to rule it out" if few else ""
        return (
            f"prediction sets hold {shares} of its pixels, asked for {self.coverage:.0%}; of {self.size:.2f} classes "
            f"in the mean{lacking}"
        )


def label_planes(shown: Stored) -> Stored:
    """Return the stored probability of every label, (n_labels, …): of a single class that of the background first."""
    if len(shown) > 1:
        return shown
    return np.concatenate([np.where(shown == NODATA, np.uint16(NODATA), TOP - shown).astype(np.uint16), shown])
