"""The stages of a run, one by one and all at once, and how far a run is."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data.errors import MemberError
from data.workers import open_executor
from features.branch import Branch
from terrablend.branches import BRANCHES
from terrablend.check.tables import describe_overview
from terrablend.columns import describe_columns, describe_explanation
from terrablend.commands.options import (
    CORES,
    Command,
    Device,
    Overwrite,
    RunPath,
    Scheduler,
    Source,
    Workers,
    plainly,
    sign,
)
from terrablend.progress import bars, console, tell

if TYPE_CHECKING:
    from terrablend.run.run_folder import Stage
    from terrablend.run.scene_run import Run

__all__ = ["COMMANDS", "chosen_members"]

Set = Annotated[list[str] | None, typer.Option("--set", help="Override a value: folds.count=5. Repeatable.")]
Fold = Annotated[list[int] | None, typer.Option("--fold", help="Train the model of this fold only. Repeatable.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Override the experiment's seed.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List the stages and whether each is done; do nothing.")]
Verify = Annotated[
    bool, typer.Option("--verify", help="Read all inputs and results again, and compare every byte with the records.")
]
Member = Annotated[str | None, typer.Argument(metavar="[MEMBER]", help="One member; all of the branch by default.")]
MemberToTune = Annotated[str, typer.Argument(metavar="MEMBER", help="The member.")]
TrialCount = Annotated[
    int | None, typer.Option("--trials", min=1, help="Trials in all; as the experiment says by default.")
]
Describe = Annotated[bool, typer.Option("--describe", help="Show what each column is and how well it separates.")]
Points = Annotated[
    Path | None, typer.Option("--points", help="Also write the table as GeoParquet points to this file.")
]


def on_run(plan: Callable[..., Iterable["Stage"]]) -> Callable[..., None]:
    """Make a command of a function that names the stages of a run to carry out.

    The command takes the function's own parameters and those that all such commands share.
    """

    def command(
        source: Source,
        run: RunPath = None,
        set_: Set = None,
        device: Device = None,
        workers: Workers = CORES,
        scheduler: Scheduler = None,
        seed: Seed = None,
        overwrite: Overwrite = False,
        dry_run: DryRun = False,
        **extra: Any,
    ) -> None:
        # Imported late: torch takes seconds to load, and `terrablend --help` should not wait for it.
        from terrablend.run.opening import open_run

        overrides = [*(set_ or ()), *([] if seed is None else [f"seed={seed}"])]
        with open_executor(1 if dry_run else workers, None if dry_run else scheduler) as executor:
            opened = open_run(source, run, overrides, device=device, workers=workers, executor=executor, track=bars)
            stages = plan(opened, **extra)
            if dry_run:
                for stage in stages:
                    tell(f"{stage.name:<20} {opened.folder.state(stage)}")
                return
            opened.carry_out(stages, overwrite)

    source, *shared = list(inspect.signature(command).parameters.values())[:-1]
    own = list(inspect.signature(plan).parameters.values())[1:]
    return plainly(sign(command, plan, [source, *own, *shared]))


@on_run
def check(run: "Run", verify: Verify = False) -> Iterable["Stage"]:
    """Read every scene, list every problem, split the scenes into folds, and draw the data."""
    run = replace(run, verify=verify)
    yield run.check
    if verify:
        from data.survey.verification import verify_scenes

        done = [stage for stage in run.stages if run.folder.state(stage) == "done"]
        for stage in done:
            run.folder.verify(stage)
        run.folder.require(run.check)
        verify_scenes(run.load_catalogue(), run.executor, run.track)
        console.print(f"The user's files, and all that {', '.join(stage.name for stage in done)} wrote: as they were.")
    if run.folder.state(run.check) == "done":
        from data.survey.overview import summarise

        catalogue = run.load_catalogue()
        tell(describe_overview(catalogue, summarise(catalogue)))
        console.print(f"The data in pictures: {run.folder.path / 'check.html'}")


@on_run
def features(run: "Run", describe: Describe = False, points: Points = None) -> Iterable["Stage"]:
    """Write the pixel table that the trees learn from."""
    yield run.features
    if describe:
        tell(describe_columns(run.load_facts()))
    if points is not None:
        from features.geoparquet import write_points

        run.folder.require(run.features)
        write_points(run.pixels, run.load_catalogue().split("train"), points, run.track)


def fit_members_of(branch: Branch[Any]) -> Command:
    """Make the command of a branch, which fits its members."""

    def plan(run: "Run", member: Member = None, fold: Fold = None) -> Iterable["Stage"]:
        for name in chosen_members(run, lambda other: other is branch, member):
            yield from run.below(name)
            yield run.member(name, fold)

    plan.__doc__, plan.__name__ = branch.help, branch.name
    return on_run(plan)


@on_run
def explain(run: "Run", member: Member = None) -> Iterable["Stage"]:
    """Explain what the members that learned from the pixel table look at, class by class."""
    for name in chosen_members(run, lambda branch: branch.reads_table, member):
        yield run.explain(name)
        if run.folder.state(run.explain(name)) == "done":
            tell(describe_explanation(run.load_explanation(name), run.load_facts()))


@on_run
def tune(run: "Run", member: MemberToTune, trials: TrialCount = None) -> Iterable["Stage"]:
    """Search better settings of a member; a search that was interrupted goes on."""
    from terrablend.tune.tuning import tune_stage

    return [tune_stage(run, member, trials or run.experiment.tune.trials)]


@on_run
def ensemble(run: "Run") -> Iterable["Stage"]:
    """Blend the members' out-of-fold maps, tune thresholds, and report."""
    return [run.ensemble]


@on_run
def submit(run: "Run") -> Iterable["Stage"]:
    """Write the maps of the test scenes and the submission."""
    return [run.submit]


@on_run
def run(run: "Run") -> Iterable["Stage"]:
    """Carry out every stage, and go on where an earlier try stopped."""
    return run.stages


@plainly
def status(source: Source, run: RunPath = None) -> None:
    """Say what of a run is done, and what is missing; exit status 1 if anything is."""
    from terrablend.run.opening import open_run
    from terrablend.run.status import describe_status

    lines, finished = describe_status(open_run(source, run))
    tell("\n".join(lines))
    if not finished:
        raise typer.Exit(1)


@plainly
def plan(
    source: Source,
    scenes: Annotated[int, typer.Option("--scenes", min=1, help="Scenes of all splits together.")],
    workers: Annotated[int, typer.Option("--cores", min=1, help="Cores that they are worked on with.")] = CORES,
    run: RunPath = None,
) -> None:
    """Say what a run on more scenes takes: hours, memory, disk, and what is first to fail; measured, not assumed."""
    from terrablend.run.opening import open_run
    from terrablend.run.planning import describe_plan

    tell("\n".join(describe_plan(open_run(source, run, track=bars), scenes, workers)))


def chosen_members(run: "Run", suits: Callable[[Branch[Any]], bool], member: str | None) -> list[str]:
    """Return the member that is asked for, or all that are of a suitable branch."""
    names = run.members(suits)
    if member is None and names:
        return names
    if member not in names:
        suitable = " or ".join(branch.name for branch in BRANCHES.values() if suits(branch))
        raise MemberError(
            f"expected a member of the branch {suitable} ({', '.join(names) or 'there is none'}), "
            f"got {member or 'none'}. Correct the name, or add the member to the experiment file."
        )
    return [member]


COMMANDS = (
    check,
    features,
    *map(fit_members_of, BRANCHES.values()),
    explain,
    tune,
    ensemble,
    submit,
    run,
    status,
    plan,
)
