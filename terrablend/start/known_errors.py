"""Score the label audit of the demo against the truth that no label shows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.scenes.rasters import open_raster
from ensemble.audit.audit_files import read_audit

__all__ = ["JudgedAudit", "judge_audit"]


@dataclass(frozen=True)
class JudgedAudit:
    """Which regions of an audit are errors of the label.

    Parameters
    ----------
    wrong : tuple of bool
        The worst region first.
    """

    wrong: tuple[bool, ...]

    @property
    def average_precision(self) -> float:
        """Return the mean, over the errors, of the share of errors among the regions up to each; NaN without any.

        >>> JudgedAudit((True, False, True)).average_precision
        0.8333333333333333
        """
        hits = np.array(self.wrong)
        ranks = np.flatnonzero(hits) + 1
        return float((np.arange(1, len(ranks) + 1) / ranks).mean()) if len(ranks) else float("nan")

    def line(self, first: int = 20) -> str:
        """Return in words how many of the first regions are errors, and how well all of them are ranked."""
        shown = self.wrong[:first]
        return (
            f"Label audit: {sum(shown)} of the {len(shown)} worst regions are errors of the label, "
            f"{sum(self.wrong)} of all {len(self.wrong)}; average precision {self.average_precision:.2f}."
        )


def judge_audit(audit: Path, coast: Path, positive: str = "kelp") -> JudgedAudit:
    """Count which regions of an audit are errors, by the truth at the middle of each.

    Parameters
    ----------
    audit : Path
        ``audit.parquet``.
    coast : Path
        Folder that `terrablend.start.coast.write_coast` wrote.
    positive : str
        Class whose truth is 1.

    Returns
    -------
    judged : JudgedAudit
        A region is an error of the label if the truth at its middle is what the ensemble says.
    """
    truths = {}
    wrong = []
    for region in read_audit(audit).iter_rows(named=True):
        scene = region["scene"]
        if scene not in truths:
            with open_raster(str(coast / "truth" / f"{scene}.tif")) as raster:
                truths[scene] = raster.read(1)
        truth = truths[scene][region["row"], region["col"]]
        wrong.append(bool(truth == (region["prediction"] == positive)))
    return JudgedAudit(tuple(wrong))
