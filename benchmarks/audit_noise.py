"""Measure how well the label audit finds errors, by their kind and by how many scenes have them.

    python benchmarks/audit_noise.py [--draws N] [--seed S] [--plot docs/audit_noise.svg]

Scenes of worlds whose truth is known have errors of one kind in a share of their labels. Prints the average precision
of listed regions, by the old score and as learned, and of scenes, by the expected share of wrong labels and as ordered.
"""

import argparse
from pathlib import Path

import numpy as np
from trust_decisions import judge_audit
from trust_plots import draw_lines
from trust_worlds import Cell

from data.files import replacing
from ensemble.audit.injection import ERRORS

SHARES = (0.05, 0.1, 0.25, 0.5)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    cells = []
    print("| errors | scenes with errors | regions, old score → learned | scenes, share → ordered |")
    print("| --- | --- | --- | --- |")
    for kind, inject in ERRORS.items():
        if kind == "another class":  # of two classes that is a missing object
            continue
        for share in SHARES:
            found = np.array([judge_audit(inject, [options.seed, draw], share) for draw in range(options.draws)])
            learned, plain, ordered, by_share = np.nanmean(found, axis=0)
            row = f"| {kind} | {share:.0%} | {plain:.2f} → {learned:.2f} | {by_share:.2f} → {ordered:.2f} |"
            print(row, flush=True)
            cells.append(Cell(kind, learned, 0, (0.9, 1.0), series=kind, at=100 * share))
    if options.plot:
        title = "Average precision of listed regions, by % of scenes with errors"
        with replacing(options.plot) as temporary:
            temporary.write_text(draw_lines(title, cells, low=0.4), "utf-8")


if __name__ == "__main__":
    main()
