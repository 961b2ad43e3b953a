"""Policies of the ensemble compared by what each loses to the best that could have been decided.

    python benchmarks/policies.py [--worlds N] [--seed S] [--groups 6,12,…] [--only WORD] [--runs FOLDER …]

Simulated members are decided on a few groups and scored on many others. Of run folders, whose members' out-of-fold maps
are there, a few groups decide and the others score, many times; and the ensemble is fitted as in a run. The last line
says which goals are met; the exit status is 1 if one is not.
"""

import argparse
import sys
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from simulated_members import Draw, families

from data.metrics.confusion import group_counts
from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from ensemble import BLEND, EnsembleSettings, fit_ensemble
from ensemble.decide.calibration.calibrators import Calibrator
from ensemble.decide.decision.decision import Decision
from ensemble.decide.decision.thresholds import plain_thresholds
from ensemble.decide.policy.policies import Cautious, Policy, Tuned
from ensemble.decide.sample.inner_folds import InnerFolds
from ensemble.decide.sample.pool import PixelPool, sample_pool
from ensemble.decide.thresholds.one_standard_error import CAUTION
from ensemble.decide.thresholds.threshold_tuning import tune_pool
from ensemble.decide.weights.blenders import CONVEX_LOGITS, GREEDY, GREEDY_LOGITS, STACKED, Blender
from ensemble.maps import open_maps
from ensemble.objective import Objective, objective_of

PARTS = 6
"""Parts that candidates are tried on, as of six folds."""
POPULATION = 80
"""Groups that decisions are scored on."""
NEW, NOW, PLAIN = "cautious", "best of candidates", "equal + plain"
FEW = (6, 12, 20)

Weight = NDArray[np.float64]
Rule = Callable[["Sample"], Decision]


@dataclass(frozen=True)
class Sample:
    """Groups that decide.

    Parameters
    ----------
    draw : Draw
    classes : Classes
    weight : (n,) float64
    settings : EnsembleSettings
    """

    draw: Draw
    classes: Classes
    weight: Weight
    settings: EnsembleSettings = field(default_factory=EnsembleSettings)

    @property
    def objective(self) -> Objective:
        """What is optimised."""
        return objective_of(self.settings, self.classes)

    @property
    def n_members(self) -> int:
        """The number of members."""
        return len(self.draw.stored)

    def inner(self, fixed: bool = False) -> InnerFolds:
        """Return the pixels in parts, as a run has them."""
        n_groups = int(self.draw.group.max()) + 1
        part = (np.arange(n_groups) % min(PARTS, n_groups)).astype(np.int16)
        scene = self.draw.group.astype(np.int32)
        pool = PixelPool(self.draw.stored, self.draw.label, self.weight, part[scene], scene)
        parts = {int(one): (int(one),) for one in np.unique(part)}
        places = {f"{group:04d}": int(part[group]) for group in range(n_groups)}
        return InnerFolds(
            pool, pool, self.classes, self.objective, np.arange(n_groups, dtype=np.int64), places, parts, fixed
        )

    def score(self, decision: Decision) -> float:
        """Score a decision on these groups."""
        draw, n_groups = self.draw, int(self.draw.group.max()) + 1
        found = decision.apply(draw.stored)
        counts = group_counts(draw.label, found, self.weight, self.classes.n_labels, draw.group, n_groups)
        return float(self.objective.over(counts))


def by_policy(kind: str, **settings: object) -> Rule:
    """Return the rule that a policy of the package is, with some settings."""

    def decide(sample: Sample) -> Decision:
        chosen = sample.settings.model_copy(update=settings)
        inner = sample.inner(chosen.thresholds == "fixed")
        names = tuple(f"m{place}" for place in range(sample.n_members))
        calibrators = [Calibrator(inner, place) for place in range(len(names))]
        policy: Policy = (
            Tuned(inner, calibrators, names, chosen)
            if kind == "tuned"
            else Cautious(inner, calibrators, names, chosen, departs=kind == "cautious")
        )
        decision = policy.plan(tuple(range(len(names))), inner.outside(None)).decision
        return with_thresholds(decision, inner, policy.centred)

    return decide


def with_thresholds(decision: Decision, inner: InnerFolds, centred: bool) -> Decision:
    """Return a decision with thresholds tuned on all parts."""
    if inner.fixed_thresholds:
        return replace(decision, thresholds=plain_thresholds(inner.classes))
    blended = decision.proba(inner.pool.stored)
    caution = CAUTION if centred else CAUTION / 2
    tuned = tune_pool(
        inner.pool, blended, inner.objective, inner.classes, inner.blocks, caution, centred, decision.sharpness
    )
    return replace(decision, thresholds=tuned.thresholds)


def by_candidate(name: str, plain: bool = False) -> Rule:
    """Return the rule that always takes one candidate, fitted to all groups."""

    def decide(sample: Sample) -> Decision:
        inner = sample.inner(plain)
        places = tuple(range(sample.n_members))
        blender = Blender(inner, [Calibrator(inner, place) for place in places], places)
        raw = tuple("none" for _ in places)
        return with_thresholds(blender.fit(name, raw, inner.outside(None)), inner, centred=False)  # type: ignore[arg-type]

    return decide


RULES: dict[str, Rule] = {
    PLAIN: by_policy("average", calibration="none", thresholds="fixed"),
    "average": by_policy("average"),
    "best member": by_policy("tuned", blend="best"),
    "greedy": by_candidate(GREEDY_LOGITS),
    "convex": by_candidate(CONVEX_LOGITS),
    "logistic stacking": by_candidate(STACKED),
    "greedy as AutoGluon's": by_candidate(GREEDY, plain=True),
    NOW: by_policy("tuned"),
    NEW: by_policy("cautious"),
}
"""Policy → how it decides. `NOW` is the policy before, named ``tuned`` in the settings."""

MOST_CONVEX = 3


@dataclass
class Tally:
    """What each policy lost to the best, in worlds by name and groups."""

    lost: dict[tuple[str, int], dict[str, list[float]]] = field(default_factory=lambda: defaultdict(dict))
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def run(self, place: tuple[str, int], sample: Sample, truth: Sample, best: float) -> None:
        """Decide by every policy on a sample, and score on the truth."""
        for name, rule in RULES.items():
            if name == "convex" and sample.n_members > MOST_CONVEX:
                continue
            begun = time.perf_counter()
            decision = rule(sample)
            self.seconds[name] += time.perf_counter() - begun
            self.lost[place].setdefault(name, []).append(best - truth.score(decision))

    def mean(self, name: str, family: str | None = None) -> float:
        """Return the mean regret of a policy, of all worlds or of a family."""
        some = [
            np.mean(found[name]) for (one, _), found in self.lost.items() if family in (None, one) and name in found
        ]
        return float(np.mean(some)) if some else float("nan")

    def table(self, title: str) -> None:
        """Print a row for each world, in 10⁻⁴ of the score."""
        print(f"\n| {title} | groups | {' | '.join(RULES)} |\n| --- | --- |{' --- |' * len(RULES)}")
        for (family, groups), found in self.lost.items():
            cells = [f"{1e4 * np.mean(found[name]):.0f}" if name in found else "–" for name in RULES]
            print(f"| {family} | {groups} | {' | '.join(cells)} |")
        means = [f"{1e4 * self.mean(name):.0f}" for name in RULES]
        print(f"| **mean** | | {' | '.join(means)} |", flush=True)


def best_of(truth: Sample, rules: Sequence[str]) -> float:
    """Return the best score that is reached where decisions are made on what they are scored on."""
    return max(truth.score(RULES[name](truth)) for name in rules)


def whole(draw: Draw, classes: Classes) -> Sample:
    """Return a sample of pixels that all count the same."""
    return Sample(draw, classes, np.ones(len(draw.group)))


def simulate(worlds: int, seed: int, groups: Sequence[int], only: str) -> tuple[Tally, dict[str, float]]:
    """Return what policies lose in simulated worlds, and what useless members cost the new one."""
    tally, costs = Tally(), {}
    for family, world in families():
        if only not in family:
            continue
        key = zlib.crc32(family.encode())
        truth = whole(world.draw(POPULATION, np.random.default_rng([seed, key])), world.classes)
        oracle = best_of(truth, ["logistic stacking", NEW, "greedy"])
        useful = [place for place, strength in enumerate(world.strength) if np.any(strength)]
        for n in groups:
            cost = []
            for number in range(worlds):
                sample = whole(world.draw(n, np.random.default_rng([seed, key, n, number])), world.classes)
                tally.run((family, n), sample, truth, oracle)
                if len(useful) < len(world.strength):
                    # Useless members are the last ones.
                    bare, known = slice(len(useful)), tally.lost[family, n][NEW][-1]
                    fewer = RULES[NEW](replace(sample, draw=sample.draw.take(bare)))
                    cost.append(known - (oracle - replace(truth, draw=truth.draw.take(bare)).score(fewer)))
            if cost:
                costs[f"{family}, {n} groups"] = float(np.mean(cost))
            print(f"{family}, {n} groups", flush=True, file=sys.stderr)
    return tally, costs


@dataclass(frozen=True)
class RealRun:
    """A run folder whose members' maps are there."""

    name: str
    catalogue: Catalogue
    members: dict[str, Path]
    settings: EnsembleSettings

    @classmethod
    def open(cls, folder: Path) -> "RealRun":
        """Find what the members of a run left."""
        catalogue = Catalogue.load(folder / "catalogue.parquet")
        members = {path.name: path for path in sorted((folder / "members").iterdir()) if (path / "oof").is_dir()}
        metric = {"ombria": "macro_iou", "burnscars": "iou"}.get(folder.name.split("_")[0])
        return cls(folder.name, catalogue, members, EnsembleSettings.model_validate({"metric": metric}))

    def sample(self, size: int = 200_000) -> Sample:
        """Draw labelled pixels of all training scenes."""
        maps = open_maps(self.members, self.catalogue.classes)
        pool = sample_pool(maps, self.catalogue, size, seed=0)
        scenes = sorted(self.catalogue.split("train"), key=lambda scene: scene.id)
        names = [scene.group or scene.id for scene in scenes]
        place = {name: rank for rank, name in enumerate(sorted(set(names)))}
        group = np.array([place[name] for name in names])[pool.scene]
        return Sample(Draw(pool.stored, pool.label, group), self.catalogue.classes, pool.weight, self.settings)


def cut_down(run: RealRun, draws: int, seed: int, tally: Tally) -> None:
    """Let a few groups of a run decide and the others score, many times."""
    everything = run.sample()
    every = np.unique(everything.draw.group)
    for n in FEW:
        if n > len(every) - 3:
            continue
        for number in range(draws):
            some = np.random.default_rng([seed, n, number]).choice(every, n, replace=False)
            sample, truth = (
                replace(everything, draw=everything.draw.within(groups), weight=everything.weight[inside])
                for groups in (some, np.setdiff1d(every, some))
                for inside in (np.isin(everything.draw.group, groups),)
            )
            tally.run((run.name, n), sample, truth, best_of(truth, ["logistic stacking", NEW, "greedy", "best member"]))


def fit_whole(run: RealRun) -> dict[str, float]:
    """Fit the ensemble as a run does, print it, and return its scores by split, beside those of equal + plain."""
    scores = {}
    plain = {"policy": "average", "calibration": "none", "thresholds": "fixed", "cleaning": "none"}
    for title, update in ((NEW, {}), (PLAIN, plain)):
        settings = run.settings.model_copy(update=update)
        ensemble, evaluations = fit_ensemble(run.members, run.catalogue, settings, seed=0)
        objective = objective_of(settings, run.catalogue.classes)
        for evaluation in evaluations:
            scores[f"{title}, {evaluation.split}"] = float(objective.over(evaluation.stack(BLEND)))
        if title == NEW:
            print(f"\n{run.name}: {ensemble.verdict_}")
            for worth in ensemble.worths_:
                print(f"{run.name}: {worth.words(settings.confidence_level)}")
    print(f"{run.name}: {', '.join(f'{name} {score:.4f}' for name, score in scores.items())}", flush=True)
    return scores


def judge(tally: Tally, costs: dict[str, float]) -> dict[str, bool]:
    """Print what policies lost in simulated worlds, and return which goals are met."""
    tally.table("lost to the oracle, 10⁻⁴")
    print("\n" + "; ".join(f"{name}: {seconds:.0f} s" for name, seconds in tally.seconds.items()))
    for name, cost in costs.items():
        print(f"useless members cost {1e4 * cost:.0f} · 10⁻⁴: {name}")
    names = list(dict.fromkeys(family for family, _ in tally.lost))
    worse = [name for name in names if not tally.mean(NEW, name) < tally.mean(PLAIN, name)]
    return {
        "at most half of the regret before": tally.mean(NEW) <= tally.mean(NOW) / 2,
        f"below equal + plain in every family ({', '.join(worse) or 'all'})": not worse,
        "a useless member costs less than .002": all(cost < 0.002 for cost in costs.values()),
    }


def judge_real(folders: Sequence[Path], draws: int, seed: int) -> dict[str, bool]:
    """Decide on the members' maps of runs, print what is lost, and return which goals are met."""
    tally, goals, gaps = Tally(), {}, []
    for folder in folders:
        run = RealRun.open(folder)
        cut_down(run, draws, seed, tally)
        scores = fit_whole(run)
        splits = [split for split in ("train", "val") if f"{NEW}, {split}" in scores]
        gaps += [scores[f"{PLAIN}, {split}"] - scores[f"{NEW}, {split}"] for split in splits]
        if folder.name.startswith("naip"):
            nested, val = (scores[f"{NEW}, {split}"] for split in splits)
            goals["NAIP: nested ≥ .728 and val ≥ .803"] = nested >= 0.728 and val >= 0.803
    tally.table("real members, groups that decide")
    gaps += [float(np.mean(found[NEW]) - np.mean(found[PLAIN])) for found in tally.lost.values()]
    goals["never more than .003 below equal + plain on a real set"] = max(gaps) <= 0.003
    goals["real sets: at most half of the regret before"] = tally.mean(NEW) <= tally.mean(NOW) / 2
    return goals


def main() -> None:
    """Compare the policies."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--worlds", type=int, default=4, help="draws of each simulated world and number of groups")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--groups", default="6,12,30,100", help="numbers of groups")
    parser.add_argument("--only", default="", help="a word in the names of worlds")
    parser.add_argument("--runs", nargs="*", type=Path, default=[], help="run folders with members' maps")
    parser.add_argument("--draws", type=int, default=20, help="of groups of each run")
    chosen = parser.parse_args()
    goals: dict[str, bool] = {}
    if chosen.worlds:
        goals |= judge(*simulate(chosen.worlds, chosen.seed, [int(n) for n in chosen.groups.split(",")], chosen.only))
    if chosen.runs:
        goals |= judge_real(chosen.runs, chosen.draws, chosen.seed)
    missed = [name for name, met in goals.items() if not met]
    print(f"\n{len(goals) - len(missed)} of {len(goals)} goals met{'; missed: ' if missed else ''}{'; '.join(missed)}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
