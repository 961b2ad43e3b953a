"""Shrink choices towards the plain one, as far as the scenes do not contradict.

The best threshold of some scenes is the best of others only roughly: near it the score is flat, and where exactly the
top lies is chance. So of the choices whose score is within one standard error of the best, the one nearest to the
plain choice is taken (Breiman et al. 1984, section 3.4.3). The standard error is that of the difference of the two
scores when blocks of scenes are drawn again with replacement.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCKS", "CAUTION", "RESAMPLES", "resample", "shrink_to_plain", "spread_of"]

CAUTION = 1.0
BLOCKS = 200
"""Most blocks of scenes that are drawn."""
RESAMPLES = 100


def resample(n_blocks: int) -> NDArray[np.float64]:
    """Return how often each block is drawn in each resample, (resamples, n_blocks); always the same."""
    draws = np.random.default_rng(0).multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=RESAMPLES)
    return draws.astype(np.float64)


def shrink_to_plain(
    scores: NDArray[np.float64], resampled: NDArray[np.float64], best: int, plain: int, caution: float = CAUTION
) -> int:
    """Return the choice nearest to the plain one of those that are not clearly worse than the best.

    Parameters
    ----------
    scores : (n,) float64
        Of each choice.
    resampled : (resamples, n) or coarser (resamples, m) float64
        The same over resampled blocks. Coarser ones are of choices at equal distances, the first and the last
        included; between them the standard error is interpolated.
    best, plain : int
    caution : float
        Standard errors that a choice may be worse than the best.
    """
    at = np.linspace(0, len(scores) - 1, resampled.shape[1])
    gaps = resampled[:, [int(np.argmin(np.abs(at - best)))]] - resampled
    error = np.interp(np.arange(len(scores)), at, _deviation(gaps))
    near = np.flatnonzero(scores[best] - scores <= caution * error + 1e-12)
    return int(near[np.argmin(np.abs(near - plain))]) if len(near) else plain


def spread_of(resampled: NDArray[np.float64], at: NDArray[np.float64]) -> float:
    """Return the standard deviation of the best choice over resamples; choice i of them stands for ``at[i]``."""
    scored = resampled[np.isfinite(resampled).any(axis=1)]
    return float(np.std(at[np.nanargmax(scored, axis=1)])) if len(scored) else 0.0


def _deviation(gaps: NDArray[np.float64]) -> NDArray[np.float64]:
    seen = np.isfinite(gaps)
    n = np.maximum(seen.sum(axis=0), 1)
    known = np.where(seen, gaps, 0)
    deviation: NDArray[np.float64] = np.sqrt(np.maximum((known**2).sum(axis=0) / n - (known.sum(axis=0) / n) ** 2, 0))
    return deviation
