"""The files of a finished run, and of its bundles."""

import io
import json
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path

from campaigns.damage import Kind, Read
from campaigns.lab import Lab
from data.maps.geotiff import map_names, map_tags, read_class_map, read_map
from terrablend.deliver.bundle import MANIFEST, open_model
from terrablend.deliver.predict import predict_scenes
from terrablend.run.opening import open_scene_run
from terrablend.run.run_folder import RunFolder, Stage
from terrablend.run.scene_run import Run

__all__ = ["make_run_files"]


def make_run_files(lab: Lab) -> Iterator[Kind]:
    """Yield the kinds of file of a finished run, as they are read."""
    run = open_scene_run(lab.reference / "run", workers=1, device="cpu")
    folder, catalogue = run.folder.path, run.load_catalogue()
    train, test = (catalogue.split(split)[0].id for split in ("train", "test"))
    for name in run.experiment.members:
        # Loading compares what it finds with the records.
        for file in (file for file in run.model_files(name) if "1" not in file.stem):
            yield Kind(f"{name}, {file.name}", file, lambda path, name=name: _read_member(run, name))
        stage = run.member(name)
        yield _map_kind(f"{name}, map", folder / "members" / name / "oof" / f"{train}.tif", run, stage)
    classes = catalogue.classes
    path = folder / "maps" / f"{test}.tif"
    yield Kind(
        "class map", path, lambda path: read_class_map(path, classes).tobytes(), verify=_verifier(run, run.submit)
    )
    for stage in (run.check, run.ensemble):
        path = folder / "stages" / f"{stage.name}.json"
        yield Kind(f"record of {stage.name}", path, lambda path, stage=stage: _read_state(run, stage))
    yield from _bundle_kinds(lab)


def _read_member(run: Run, name: str) -> object:
    scene = run.load_catalogue().split("test")[:1]
    member = run.load_member(name)
    return [proba.tobytes() for _, _, proba in member.predict(scene, [0, 1])]


def _map_kind(name: str, path: Path, run: Run, stage: Stage) -> Kind:
    def read(path: Path) -> object:
        return read_map(path).tobytes(), map_names(path), sorted(map_tags(path).items())

    return Kind(name, path, read, verify=_verifier(run, stage))


def _verifier(run: Run, stage: Stage) -> Read:
    # Another run folder each time: what one has verified it takes for verified.
    return lambda path: RunFolder(run.folder.path).verify(stage)


def _read_state(run: Run, stage: Stage) -> str:
    folder = RunFolder(run.folder.path)
    folder.verify(stage)
    return folder.state(stage)


def _bundle_kinds(lab: Lab) -> Iterator[Kind]:
    """Yield a bundle's zip, and its entries: as they were listed, and listed anew with their damage."""
    path, scene = lab.reference / "model.zip", min((lab.folder / "coast" / "test").glob("*.tif"))
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}

    def apply(path: Path) -> object:
        with open_model(path) as folder, tempfile.TemporaryDirectory() as out:
            run = open_scene_run(folder, workers=1, device="cpu")
            predict_scenes(run, [str(scene)], Path(out))
            maps = sorted(Path(out).glob("*_proba.tif"))
            return [read_map(path).tobytes() for path in maps]

    yield Kind("bundle", path, apply)
    unpacked = lab.reference / "model"
    for name in (MANIFEST, "experiment.yaml", "members/lightgbm/fold0.txt"):
        wrap = partial(_zip_with, entries, name, anew=False)
        yield Kind(f"bundle, {name}", path, apply, part=entries[name], wrap=wrap)
        yield Kind(f"unpacked, {name}", unpacked / name, lambda path: apply(unpacked))
    for name in sorted(entries.keys() - {MANIFEST}):
        # Nothing tells what the experiment file of a bundle was.
        anew = partial(_zip_with, entries, name, anew=True)
        yield Kind(f"bundle listed anew, {name}", path, apply, sealed=False, part=entries[name], wrap=anew)


def _zip_with(entries: Mapping[str, bytes], name: str, part: bytes, anew: bool) -> bytes:
    """Return a bundle with another entry, with its hash in the manifest as it was, or as it is now."""
    entries = {**entries, name: part}
    if anew:
        manifest = json.loads(entries[MANIFEST])
        manifest["files"][name] = {"sha256": sha256(part).hexdigest(), "size": len(part)}
        entries[MANIFEST] = json.dumps(manifest).encode()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for entry, data in entries.items():
            archive.writestr(entry, data)
    return content.getvalue()
