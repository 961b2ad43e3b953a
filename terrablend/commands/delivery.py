"""What a finished run is for: maps of other scenes, bundles, exports, better labels, scores of maps, comparisons."""

from pathlib import Path
from typing import Annotated, Any

import typer

from data.cluster import Cluster
from data.errors import ExperimentError
from data.files import require_on_disk
from data.workers import open_executor
from terrablend.branches import branch_of
from terrablend.commands.options import CORES, Device, FinishedRun, Out, Overwrite, Scheduler, Source, Workers, plainly
from terrablend.commands.stages import chosen_members
from terrablend.progress import bars, console, tell

__all__ = ["COMMANDS"]


@plainly
def predict(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Folder of a finished run, or a bundle: its folder or zip.")
    ],
    scenes: Annotated[
        list[str],
        typer.Argument(
            metavar="SCENE...",
            help="Images, or patterns with {id}; files of one scene joined by commas. Of a table's run: tables.",
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
    workers: Workers = CORES,
    scheduler: Scheduler = None,
) -> None:
    """Apply a finished ensemble to scenes, or to the rows of a table, that it has never seen."""
    asked = {"--uncertainty": uncertainty, "--applicability": applicability, "--sets": sets, "--maps": maps}
    with open_executor(workers, scheduler) as executor:
        from terrablend.deliver.bundle import open_model
        from terrablend.deliver.predict import expand_scenes, from_anywhere, name_maps, predict_scenes, take_shard
        from terrablend.deliver.predict_table import predict_tables
        from terrablend.run.opening import open_run
        from terrablend.run.table_run import TableRun

        require_on_disk(out, "-o")
        scenes, given = take_shard(expand_scenes(scenes), shard), name_maps(maps or ())
        if isinstance(executor, Cluster):
            scenes, out = [from_anywhere(scene) for scene in scenes], out.absolute()
            given = {name: from_anywhere(pattern) for name, pattern in given.items()}
        with open_model(model, out if isinstance(executor, Cluster) else None) as folder:
            run = open_run(folder, device=device, workers=workers, executor=executor, track=bars)
            if isinstance(run, TableRun):
                predict_tables(run, list(map(Path, scenes)), out, [name for name, given in asked.items() if given])
            else:
                predict_scenes(run, scenes, out, uncertainty, given, applicability, sets)


@plainly
def suggest(
    run: FinishedRun,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="Places.")] = 20,
    side: Annotated[int, typer.Option("--side", min=8, help="Pixels on a side of a place.")] = 64,
    out: Annotated[Path, typer.Option("-o", "--out", help="GeoPackage to write.")] = Path("suggested.gpkg"),
) -> None:
    """List the places in the test scenes whose labels would help most, as a GeoPackage to digitise on."""
    from terrablend.deliver.suggest import suggest_places
    from terrablend.run.opening import open_scene_run

    for rank, (worth, place) in enumerate(suggest_places(open_scene_run(run, track=bars), out, count, side), 1):
        tell(f"{rank:>3}  {place.scene}  row {place.window.row}, column {place.window.col}  {worth:.2f}")


@plainly
def bundle(
    run: FinishedRun,
    out: Annotated[Path, typer.Option("-o", "--out", help="Zip, or folder, to write.")],
    push: Annotated[
        str | None,
        typer.Option("--push", metavar="OWNER/NAME", help="Upload the zip to this model of the Hugging Face hub."),
    ] = None,
    mlflow: Annotated[
        Path | None, typer.Option("--mlflow", metavar="FOLDER", help="Write the bundle as a model of MLflow, too.")
    ] = None,
) -> None:
    """Pack what a finished run needs to map scenes into one verified zip or folder."""
    from terrablend.deliver.bundle import write_bundle
    from terrablend.run.opening import open_scene_run

    write_bundle(open_scene_run(run), out)
    if mlflow is not None:
        from terrablend.deliver.mlflow_model import write_mlflow_model

        write_mlflow_model(out, mlflow)
    if push is not None:
        from terrablend.deliver.hub import push_bundle

        tell(push_bundle(out, push))


@plainly
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
) -> None:
    """Write a network as an ONNX file, or trees as text, to use them where there is no Terrablend."""
    from terrablend.run.opening import open_scene_run

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
    [name] = chosen_members(opened, lambda branch: getattr(branch, how) is not None, member)
    export_of = getattr(branch_of(opened.member_settings(name)), how)
    export_of(opened.load_member(name), out, fold)


@plainly
def relabel(
    audit: Annotated[Path, typer.Argument(metavar="AUDIT.gpkg", help="The audit of a run, with verdicts in it.")],
    run: Annotated[
        Path | None, typer.Option("--run", help="Folder of the run; by default the one that the audit lies in.")
    ] = None,
) -> None:
    """Write corrected labels beside the originals, as the verdicts in an audit say, and tell what becomes stale."""
    from terrablend.deliver.relabel import relabel_scenes
    from terrablend.run.opening import open_scene_run

    tell(relabel_scenes(open_scene_run(run or audit.resolve().parent.parent), audit))


@plainly
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
) -> None:
    """Score class maps, and estimate class areas, by labels or by a design sample of points."""
    from terrablend.deliver.evaluate import evaluate_maps, evaluate_sample
    from terrablend.experiment import experiment_file, load_scene_experiment

    if proba is not None and sample is None:
        raise ExperimentError("--proba: expected it with --sample, whose estimates it helps. Leave it out.")
    experiment = load_scene_experiment(experiment_file(source))
    if labels is not None and sample is None:
        tell(evaluate_maps(experiment, maps, labels))
    elif labels is None and sample is not None:
        tell(evaluate_sample(experiment, maps, sample, proba))
    else:
        raise ExperimentError(
            f"expected LABELS or --sample, got {'neither' if labels is None else 'both'}. Name one of them."
        )


@plainly
def compare(
    experiments: Annotated[
        list[Path], typer.Argument(metavar="EXPERIMENT...", help="Experiment files; the first is compared with.")
    ],
    labels: Annotated[
        str, typer.Option("--labels", help="Shares of the labelled groups to learn from, such as 1.0,0.1.")
    ] = "1.0",
    out: Out = Path("comparison"),
    device: Device = None,
    workers: Workers = CORES,
    overwrite: Overwrite = False,
) -> None:
    """Compare experiments on the same groups and folds, with paired intervals: bands, embeddings, trees, networks."""
    with open_executor(workers) as executor:
        from terrablend.compare.comparing import compare_experiments, parse_shares

        machine: dict[str, Any] = {"device": device, "workers": workers, "executor": executor, "track": bars}
        typer.echo(compare_experiments(experiments, parse_shares(labels), out, overwrite, **machine))
        console.print(f"The comparison in pictures: {out / 'comparison.html'}")


COMMANDS = (predict, suggest, bundle, export, relabel, evaluate, compare)
