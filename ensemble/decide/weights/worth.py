"""What a member is worth: the score with it less the score without it, and how sure that is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from data.pages.numbers import format_minus
from data.records import Number
from ensemble.decide.sample.choice import standard_error

__all__ = ["Worth", "measure_worth"]


@dataclass(frozen=True)
class Worth:
    """The gain of equal weights with a member over those without it, on the pixels that decisions are made on.

    Parameters
    ----------
    member : str
    stays : bool
        Whether it has weight.
    gain : float
        NaN where there is nothing to compare.
    error : float
        Standard error over groups, by the jackknife; NaN where there are too few.
    n_groups : int
    """

    member: str
    stays: bool
    gain: Number
    error: Number
    n_groups: int

    def ends(self, confidence_level: float) -> tuple[float, float]:
        """Return the ends of the interval of the gain, by Student's t; infinite where nothing is known of chance."""
        if not np.isfinite(self.error):
            return -np.inf, np.inf
        reach = float(stdtrit(self.n_groups - 1, (1 + confidence_level) / 2)) * self.error
        return self.gain - reach, self.gain + reach

    def words(self, confidence_level: float) -> str:
        """Say what the member is worth.

        >>> Worth("unet", True, 0.010, 0.003, 12).words(0.95)
        'unet is worth +0.010, between +0.003 and +0.017'
        >>> Worth("unet", True, 0.001, 0.003, 12).words(0.95)
        'no gain of unet is shown: +0.001, but it could be up to +0.008'
        >>> Worth("unet", False, -0.02, 0.003, 12).words(0.95)
        'unet harms and is left out: −0.020, between −0.027 and −0.013'
        """
        low, high = self.ends(confidence_level)
        left = "" if self.stays else " and is left out"
        if np.isnan(self.gain):
            said = f"{self.member} has nothing to be compared with"
        elif low > 0:
            said = f"{self.member} is worth {self.gain:+.3f}, between {low:+.3f} and {high:+.3f}"
        elif high < 0:
            said = f"{self.member} harms{left}: {self.gain:+.3f}, between {low:+.3f} and {high:+.3f}"
        elif np.isfinite(high):
            said = f"no gain of {self.member} is shown: {self.gain:+.3f}, but it could be up to {high:+.3f}"
            said += "" if self.stays else "; it is left out"
        else:
            said = f"the groups are too few to tell what {self.member} is worth"
        return format_minus(said)


def measure_worth(member: str, stays: bool, having: NDArray[np.float64], lacking: NDArray[np.float64]) -> Worth:
    """Return the worth of a member by the scores with and without it.

    Parameters
    ----------
    member : str
    stays : bool
    having, lacking : (1 + n_groups,) float64
        Scores, then those without each group in turn.
    """
    difference = having - lacking
    error = standard_error(difference)
    return Worth(
        member, stays, float(difference[0]), error if np.isfinite(error) else float("nan"), len(difference) - 1
    )
