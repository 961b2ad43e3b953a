"""Run the experiments on real scenes, and print what they reached as Markdown.

    TERRABLEND_DATA=… python benchmarks/quality/run.py [--runs FOLDER] [--table] [NAME …] [-- OPTION …]

Names are those of the files beside this one; all that need no GPU by default. Options after ``--`` go to
``terrablend run``. Finished runs are kept, and only their tables are printed again; ``--table`` runs nothing.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import polars as pl

from ensemble.ensemble import Ensemble
from terrablend.run.run_folder import RunFolder

HERE = Path(__file__).parent
SPLITS = {"train": "nested out of fold", "val": "official val"}
METRICS = ("macro_iou", "iou", "macro_dice", "dice", "accuracy")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["naip", "ombria", "burnscars"])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--table", action="store_true", help="print the tables of runs that are done")
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    chosen = parser.parse_args(words[:split])
    for name in chosen.names:
        run = chosen.runs / name
        if not chosen.table:
            command = [
                sys.executable,
                "-m",
                "terrablend",
                "run",
                HERE / f"{name}.yaml",
                "--run",
                run,
                *words[split + 1 :],
            ]
            subprocess.run(list(map(str, command)), check=True)
        print_tables(name, run)


def print_tables(name: str, run: Path) -> None:
    """Print the verdict, the scores by candidate and by class, and what each stage took."""
    scores = pl.read_parquet(run / "ensemble" / "scores.parquet")
    ensemble = Ensemble.load(run / "ensemble" / "ensemble.json")
    print(f"\n## {name}\n\n{ensemble.verdict_}\n")
    weights = ", ".join(f"{member} {weight:.2f}" for member, weight in ensemble.weights_.items())
    print(f"Weights: {weights}. Thresholds: {', '.join(f'{value:.3f}' for value in ensemble.thresholds_)}.\n")
    for split in scores["split"].unique(maintain_order=True):
        part = scores.filter(pl.col("split") == split)
        print_candidates(part, SPLITS[split])
        print_classes(part)
    print("| stage | seconds | peak MiB |\n| --- | ---: | ---: |")
    for stage, cost in sorted(RunFolder(run).costs().items(), key=lambda item: item[1].seconds):
        print(f"| {stage} | {cost.seconds} | {cost.peak_mib} |")


def print_candidates(scores: pl.DataFrame, title: str) -> None:
    """Print pooled scores with intervals, their spread over folds, and their means over scenes."""
    pooled = scores.filter(pl.col("label") == "")
    names = [name for name in METRICS if name in pooled["metric"].unique()]
    print(f"| {title} | {' | '.join(names)} | folds ({names[0]}) | mean over scenes |")
    print("| --- |" + " ---: |" * (len(names) + 2))
    for candidate in scores["candidate"].unique(maintain_order=True):
        own = pooled.filter(pl.col("candidate") == candidate)
        cells = []
        for metric in names:
            row = own.filter((pl.col("metric") == metric) & (pl.col("scope") == "pooled")).row(0, named=True)
            cells.append(f"{row['value']:.3f} ({row['low']:.3f}–{row['high']:.3f})")
        first = own.filter(pl.col("metric") == names[0])
        folds = first.filter(pl.col("scope").str.starts_with("fold "))["value"]
        cells.append(f"{folds.min():.3f}–{folds.max():.3f}" if len(folds) else "–")
        means = {row["metric"]: row["value"] for row in own.filter(pl.col("scope") == "scene mean").rows(named=True)}
        cells.append(f"accuracy {means['accuracy']:.3f}, {names[0]} {means[names[0]]:.3f}")
        print(f"| {candidate} | {' | '.join(cells)} |")
    print()


def print_classes(scores: pl.DataFrame) -> None:
    """Print the IoU of each class."""
    part = scores.filter((pl.col("label") != "") & (pl.col("metric") == "iou") & (pl.col("scope") == "pooled"))
    labels = part["label"].unique(maintain_order=True).to_list()
    print(f"| IoU | {' | '.join(labels)} |")
    print("| --- |" + " ---: |" * len(labels))
    for candidate in part["candidate"].unique(maintain_order=True):
        values = {row["label"]: row["value"] for row in part.filter(pl.col("candidate") == candidate).rows(named=True)}
        print(f"| {candidate} | {' | '.join(f'{values[label]:.3f}' for label in labels)} |")
    print()


if __name__ == "__main__":
    main()
