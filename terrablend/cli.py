"""The command line: each command is one thin function."""

import inspect
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from data.cluster import Cluster
from data.errors import ExperimentError, MemberError
from data.workers import cores, open_executor
from features.branch import Branch
from terrablend.branches import BRANCHES, branch_of
from terrablend.check.tables import describe_overview
from terrablend.columns import describe_columns, describe_explanation
from terrablend.endings import plain_endings, plain_stop
from terrablend.progress import bars, console, tell

if TYPE_CHECKING:
    from terrablend.run.run_folder import Stage
    from terrablend.run.scene_run import Run
    from terrablend.run.table_run import TableRun

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

Source = Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="Experiment file, or the folder of an earlier run.")]
RunPath = Annotated[Path | None, typer.Option("--run", help="Run folder; runs/<name> by default.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override a value: folds.count=5. Repeatable.")]
Fold = Annotated[list[int] | None, typer.Option("--fold", help="Train the model of this fold only. Repeatable.")]
Device = Annotated[Literal["auto", "cpu", "cuda"] | None, typer.Option("--device", help="Where models run.")]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Cores to use.")]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", help="Dask scheduler whose workers do the work: tcp://HOST:8786.")
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Override the experiment's seed.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Rebuild results that were made with other settings.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List the stages and whether each is done; do nothing.")]
Verify = Annotated[
    bool, typer.Option("--verify", help="Read all inputs and results again, and compare every byte with the records.")
]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show details, and tracebacks of errors.")]
Member = Annotated[str | None, typer.Argument(metavar="[MEMBER]", help="One member; all of the branch by default.")]
MemberToTune = Annotated[str, typer.Argument(metavar="MEMBER", help="The member.")]
TrialCount = Annotated[
    int | None, typer.Option("--trials", min=1, help="Trials in all; as the experiment says by default.")
]
Describe = Annotated[bool, typer.Option("--describe", help="Show what each column is and how well it separates.")]
Points = Annotated[
    Path | None, typer.Option("--points", help="Also write the table as GeoParquet points to this file.")
]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder to write to.")]


def print_version(wanted: bool) -> None:
    """Print the version and end, if that is wanted."""
    if wanted:
        typer.echo(f"terrablend {version('terrablend')}")
        raise typer.Exit


def on_run(plan: Callable[..., Iterable["Stage"]]) -> Callable[..., None]:
    """Make a command of a function that names the stages of a run to carry out.

    The command takes the function's own parameters and those that all such commands share.
    """

    def command(
        source: Source,
        run: RunPath = None,
        set_: Set = None,
        device: Device = None,
        workers: Workers = cores(),  # noqa: B008 - shown as the default in --help
        scheduler: Scheduler = None,
        seed: Seed = None,
        overwrite: Overwrite = False,
        dry_run: DryRun = False,
        verbose: Verbose = False,
        **extra: Any,
    ) -> None:
        overrides = [*(set_ or ()), *([] if seed is None else [f"seed={seed}"])]
        with (
            plain_endings(verbose),
            open_executor(1 if dry_run else workers, None if dry_run else scheduler) as executor,
        ):
            opened = open_run(source, run, overrides, device=device, workers=workers, executor=executor, track=bars)
            stages = plan(opened, **extra)
            if dry_run:
                for stage in stages:
                    tell(f"{stage.name:<20} {opened.folder.state(stage)}")
                return
            with opened.folder.lock():
                opened.require_workers()
                for stage in stages:
                    opened.folder.carry_out(stage, overwrite)

    source, *shared = list(inspect.signature(command).parameters.values())[:-1]
    parameters = [source, *list(inspect.signature(plan).parameters.values())[1:], *shared]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__, command.__name__ = plan.__doc__, plan.__name__
    return command


def open_run(source: Path, run: Path | None, overrides: list[str], **machine: Any) -> "Run | TableRun":
    """Open the run of an experiment file or of a run folder."""
    # Imported late: torch takes seconds to load, and `terrablend --help` should not wait for it.
    from terrablend.experiment import load_experiment
    from terrablend.run.opening import run_of

    experiment = load_experiment(source / "experiment.yaml" if source.is_dir() else source, overrides)
    folder = run or (source if source.is_dir() else Path("runs") / experiment.name)
    if isinstance(machine.get("executor"), Cluster):
        # Its workers have other working directories.
        folder = folder.absolute()
    return run_of(experiment, source, folder, **machine)


def open_scene_run(source: Path, **machine: Any) -> "Run":
    """Open the run of an experiment on scenes."""
    from terrablend.experiment import load_scene_experiment
    from terrablend.run.run_folder import RunFolder
    from terrablend.run.scene_run import Run

    file = source / "experiment.yaml" if source.is_dir() else source
    return Run(load_scene_experiment(file), source, RunFolder(source), **machine)


@app.command()
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


@app.command()
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


def fit_members_of(branch: Branch[Any]) -> Callable[..., None]:
    """Make the command of a branch, which fits its members."""

    def plan(run: "Run", member: Member = None, fold: Fold = None) -> Iterable["Stage"]:
        for name in _chosen(run, lambda other: other is branch, member):
            yield from run.below(name)
            yield run.member(name, fold)

    plan.__doc__ = branch.help
    return on_run(plan)


for _branch in BRANCHES.values():
    app.command(_branch.name)(fit_members_of(_branch))


@app.command()
@on_run
def explain(run: "Run", member: Member = None) -> Iterable["Stage"]:
    """Explain what the members that learned from the pixel table look at, class by class."""
    for name in _chosen(run, lambda branch: branch.reads_table, member):
        yield run.explain(name)
        if run.folder.state(run.explain(name)) == "done":
            tell(describe_explanation(run.load_explanation(name), run.load_facts()))


@app.command()
@on_run
def tune(run: "Run", member: MemberToTune, trials: TrialCount = None) -> Iterable["Stage"]:
    """Search better settings of a member; a search that was interrupted goes on."""
    from terrablend.tune.tuning import tune_stage

    return [tune_stage(run, member, trials or run.experiment.tune.trials)]


@app.command()
@on_run
def ensemble(run: "Run") -> Iterable["Stage"]:
    """Blend the members' out-of-fold maps, tune thresholds, and report."""
    return [run.ensemble]


@app.command()
@on_run
def submit(run: "Run") -> Iterable["Stage"]:
    """Write the maps of the test scenes and the submission."""
    return [run.submit]


@app.command("run")
@on_run
def run_all(run: "Run") -> Iterable["Stage"]:
    """Carry out every stage, and go on where an earlier try stopped."""
    return run.stages


@app.command()
def predict(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Folder of a finished run, or a bundle: its folder or zip.")
    ],
    scenes: Annotated[
        list[str],
        typer.Argument(
            metavar="SCENE...", help="Images; files of one scene joined by commas. Of a table's run: tables."
        ),
    ],
    out: Out = Path("predictions"),
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Also map entropy, margin and the members' disagreement.")
    ] = False,
    applicability: Annotated[
        bool, typer.Option("--applicability", help="Also map where the scene is unlike what was learned from.")
    ] = False,
    sets: Annotated[
        bool, typer.Option("--sets", help="Also map prediction sets: all classes that cannot be ruled out.")
    ] = False,
    maps: Annotated[
        list[str] | None,
        typer.Option("--maps", help="NAME=PATTERN with {id}: a member's maps of these scenes, by another tool."),
    ] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", help="K/N: of all scenes every N-th from the K-th on, such as 3/40.")
    ] = None,
    device: Device = None,
    workers: Workers = cores(),  # noqa: B008
    scheduler: Scheduler = None,
    verbose: Verbose = False,
) -> None:
    """Apply a finished ensemble to scenes, or to the rows of a table, that it has never seen."""
    with plain_endings(verbose), open_executor(workers, scheduler) as executor:
        from terrablend.deliver.bundle import open_model
        from terrablend.deliver.predict import from_anywhere, name_maps, predict_scenes, take_shard
        from terrablend.deliver.predict_table import predict_tables
        from terrablend.run.table_run import TableRun

        scenes, given = take_shard(scenes, shard), name_maps(maps or ())
        if isinstance(executor, Cluster):
            scenes, out = [from_anywhere(scene) for scene in scenes], out.absolute()
            given = {name: from_anywhere(pattern) for name, pattern in given.items()}
        with open_model(model, out if isinstance(executor, Cluster) else None) as folder:
            run = open_run(folder, None, [], device=device, workers=workers, executor=executor, track=bars)
            if isinstance(run, TableRun):
                options = {
                    "--uncertainty": uncertainty,
                    "--applicability": applicability,
                    "--sets": sets,
                    "--maps": maps,
                }
                predict_tables(run, list(map(Path, scenes)), out, [name for name, given in options.items() if given])
            else:
                predict_scenes(run, scenes, out, uncertainty, given, applicability, sets)


@app.command()
def status(source: Source, run: RunPath = None, verbose: Verbose = False) -> None:
    """Say what of a run is done, and what is missing; exit status 1 if anything is."""
    with plain_endings(verbose):
        from terrablend.run.status import describe_status

        lines, finished = describe_status(open_run(source, run, []))
        tell("\n".join(lines))
    if not finished:
        raise typer.Exit(1)


@app.command()
def suggest(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="Places.")] = 20,
    side: Annotated[int, typer.Option("--side", min=8, help="Pixels on a side of a place.")] = 64,
    out: Annotated[Path, typer.Option("-o", "--out", help="GeoPackage to write.")] = Path("suggested.gpkg"),
    verbose: Verbose = False,
) -> None:
    """List the places in the test scenes whose labels would help most, as a GeoPackage to digitise on."""
    with plain_endings(verbose):
        from terrablend.deliver.suggest import suggest_places

        for rank, (worth, place) in enumerate(suggest_places(open_scene_run(run, track=bars), out, count, side), 1):
            tell(f"{rank:>3}  {place.scene}  row {place.window.row}, column {place.window.col}  {worth:.2f}")


@app.command()
def bundle(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Zip, or folder, to write.")],
    push: Annotated[
        str | None,
        typer.Option("--push", metavar="OWNER/NAME", help="Upload the zip to this model of the Hugging Face hub."),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Pack what a finished run needs to map scenes into one verified zip or folder."""
    with plain_endings(verbose):
        from terrablend.deliver.bundle import write_bundle

        write_bundle(open_scene_run(run), out)
        if push is not None:
            from terrablend.deliver.hub import push_bundle

            tell(push_bundle(out, push))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write; beside ONNX goes a card in JSON.")],
    member: Annotated[str | None, typer.Argument(metavar="[MEMBER]", help="A trained member.")] = None,
    fold: Annotated[list[int] | None, typer.Option("--fold", help="Take the networks of these folds only.")] = None,
    qgis: Annotated[
        bool, typer.Option("--qgis", help="Write the whole ensemble for the QGIS plugin Deepness, without MEMBER.")
    ] = False,
    earth_engine: Annotated[
        bool, typer.Option("--earth-engine", help="Write the trees of MEMBER as text that Earth Engine reads, in JSON.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Write a network as an ONNX file, or trees as text, to use them where there is no Terrablend."""
    with plain_endings(verbose):
        opened = open_scene_run(run, device="cpu")
        if qgis:
            if member is not None or fold:
                raise ExperimentError("--qgis: expected a run alone, got a member or a fold, too. Leave them out.")
            from terrablend.deliver.qgis_run import export_run

            export_run(opened, out)
            return
        if member is None:
            raise ExperimentError("export: expected a member, or --qgis for the whole ensemble, got none. Name one.")
        how = "earth_engine" if earth_engine else "export"
        [name] = _chosen(opened, lambda branch: getattr(branch, how) is not None, member)
        export_of = getattr(branch_of(opened.member_settings(name)), how)
        assert export_of is not None
        export_of(opened.load_member(name), out, fold)


@app.command()
def relabel(
    audit: Annotated[Path, typer.Argument(metavar="AUDIT.gpkg", help="The audit of a run, with verdicts in it.")],
    run: Annotated[
        Path | None, typer.Option("--run", help="Folder of the run; by default the one that the audit lies in.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Write corrected labels beside the originals, as the verdicts in an audit say, and tell what becomes stale."""
    with plain_endings(verbose):
        from terrablend.deliver.relabel import relabel_scenes

        tell(relabel_scenes(open_scene_run(run or audit.resolve().parent.parent), audit))


@app.command()
def evaluate(
    source: Source,
    maps: Annotated[Path, typer.Argument(metavar="MAPS", help="Folder of class maps <id>.tif.")],
    labels: Annotated[
        str | None, typer.Argument(metavar="[LABELS]", help="Labels: a pattern with {id}, or a folder of <id>.tif.")
    ] = None,
    sample: Annotated[
        Path | None,
        typer.Option("--sample", help="CSV of points instead of labels: scene, class, and row and col or x and y."),
    ] = None,
    proba: Annotated[
        Path | None,
        typer.Option("--proba", help="With --sample: folder of probability maps; by default those beside the maps."),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Score class maps, and estimate class areas, by labels or by a design sample of points."""
    with plain_endings(verbose):
        from terrablend.deliver.evaluate import evaluate_maps, evaluate_sample

        if proba is not None and sample is None:
            raise ExperimentError("--proba: expected it with --sample, whose estimates it helps. Leave it out.")
        experiment = open_scene_run(source).experiment
        if labels is not None and sample is None:
            text = evaluate_maps(experiment, maps, labels)
        elif labels is None and sample is not None:
            text = evaluate_sample(experiment, maps, sample, proba)
        else:
            raise ExperimentError(
                f"expected LABELS or --sample, got {'neither' if labels is None else 'both'}. Name one of them."
            )
        tell(text)


@app.command()
def compare(
    experiments: Annotated[
        list[Path], typer.Argument(metavar="EXPERIMENT...", help="Experiment files; the first is compared with.")
    ],
    labels: Annotated[
        str, typer.Option("--labels", help="Shares of the labelled groups to learn from, such as 1.0,0.1.")
    ] = "1.0",
    out: Out = Path("comparison"),
    device: Device = None,
    workers: Workers = cores(),  # noqa: B008
    overwrite: Overwrite = False,
    verbose: Verbose = False,
) -> None:
    """Compare experiments on the same groups and folds, with paired intervals: bands, embeddings, trees, networks."""
    with plain_endings(verbose), open_executor(workers) as executor:
        from terrablend.compare.comparing import compare_experiments, parse_shares

        machine = {"device": device, "workers": workers, "executor": executor, "track": bars}
        typer.echo(compare_experiments(experiments, parse_shares(labels), out, overwrite, **machine))
        console.print(f"The comparison in pictures: {out / 'comparison.html'}")


@app.command()
def settings(
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="Such as members.trees, folds.count or n_estimators.")
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema that editors check files by.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page docs/settings.md.")] = False,
    verbose: Verbose = False,
) -> None:
    """Print what the experiment file can say: each setting's values, default, meaning and place."""
    with plain_endings(verbose):
        from terrablend.experiment import Experiment, TableExperiment
        from terrablend.reference import describe_settings, find_settings, list_settings, settings_page
        from terrablend.start.schema import experiment_schema

        listed = list_settings(Experiment, TableExperiment)
        if schema:
            tell(json.dumps(experiment_schema(), indent=1, ensure_ascii=False))
        elif markdown:
            tell(settings_page(listed), nl=False)
        else:
            tell(describe_settings(listed if key is None else find_settings(listed, key)))


@app.command()
def doctor(verbose: Verbose = False) -> None:
    """Say what is installed, what this machine can do, and what about it is odd; exit status 1 if it will not work."""
    with plain_endings(verbose):
        from terrablend.start.doctor import describe_findings, examine

        text, broken = describe_findings(examine(Path()))
        tell(text)
    if broken:
        raise typer.Exit(1)


@app.command()
def weights(verbose: Verbose = False) -> None:
    """List the weights that models can start from, and which of them are on this machine."""
    with plain_endings(verbose):
        tell("\n".join(branch.starts() for branch in BRANCHES.values() if branch.starts), nl=False)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the images and labels lie.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Experiment file to write.")] = Path("experiment.yaml"),
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Data set that the folder is: kelp, solar, deepglobe, …")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Look at a folder of scenes and write a first experiment file, or that of a known data set."""
    with plain_endings(verbose):
        from terrablend.start.init import write_experiment
        from terrablend.start.recipes import write_recipe

        if recipe is None:
            write_experiment(folder, out)
        else:
            write_recipe(recipe, folder, out, bars)


@app.command()
def demo(
    out: Out = Path("demo"),
    device: Device = None,
    workers: Workers = cores(),  # noqa: B008
    verbose: Verbose = False,
) -> None:
    """Make a small synthetic coast with known truth and run every stage on it."""
    with plain_endings(verbose), open_executor(workers) as executor:
        from terrablend.start.demo import run_demo

        run_demo(out, device=device, workers=workers, executor=executor, track=bars)


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    """Turn satellite scenes into maps: boosted trees and a CNN on the same leak-free folds, blended out of fold."""


def main() -> None:
    """Run the command line."""
    with plain_stop():
        app()


def _chosen(run: "Run", suits: Callable[[Branch[Any]], bool], member: str | None) -> list[str]:
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
