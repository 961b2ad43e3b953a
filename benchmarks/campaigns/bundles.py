"""Apply bundles that somebody changed who means harm: within each format, with all hashes made anew.

Ends: ``clean`` (an error of one message), ``mapped`` (a scene is mapped). All else is unclean: another exception, a
message of many lines, the end of the process, no end at all, more than 2 GB, or a file outside of the output.
"""

import io
import os
import random
import resource
import shutil
import signal
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import yaml

from campaigns.lab import EXPERIMENT, NETWORK, Lab
from campaigns.mutations import mutate
from data.errors import TerrablendError

__all__ = ["bundles"]

SECONDS = 30
"""Of CPU that a bundle may take."""

MOST_BYTES = 2 * 2**30

LONGEST = 1000
"""Characters of a message."""

TREES = {
    "lightgbm": {}, "xgboost": {"booster": "xgboost"}, "catboost": {"booster": "catboost"},
    "forest": {"booster": "random_forest"}, "histograms": {"booster": "hist_gradient_boosting"},
}  # fmt: skip
SMALL = {"branch": "trees", "rounds": 5, "learning_rate": 0.3, "leaves": 5}


@dataclass(frozen=True)
class Bundle:
    """A sound bundle, and a scene for it.

    Parameters
    ----------
    name : str
    entries : mapping of str to bytes
    scene : Path
    """

    name: str
    entries: Mapping[str, bytes]
    scene: Path


def bundles(lab: Lab, count: int, seed: int) -> bool:
    """Judge changed bundles, as many of each kind; print how they end, and return whether all end cleanly."""
    total: Counter[str] = Counter()
    folder = lab.folder / "bundles"
    made = list(_make_bundles(lab, folder))
    for place, bundle in enumerate(made):
        ends: Counter[str] = Counter()
        part = count * (place + 1) // len(made) - count * place // len(made)
        for number, end, text in _judge_bundles(bundle, folder, part, seed):
            ends[end] += 1
            if end not in ("clean", "mapped"):
                print(f"  {bundle.name}, {number}: {end}: {text}")
        total += ends
        print(f"{bundle.name:<20} {dict(ends)}", flush=True)
    unclean = total.total() - total["clean"] - total["mapped"]
    print(
        f"bundles: {total.total()} changed bundles of {len(made)} kinds, seed {seed}: {dict(total)}; {unclean} unclean"
    )
    return unclean == 0


def _make_bundles(lab: Lab, folder: Path) -> Iterator[Bundle]:
    """Yield a bundle of each kind of model, by runs on a small coast and on tagged scenes."""
    coast = folder / "coast"
    shutil.copytree(lab.folder / "coast", coast)
    values = yaml.safe_load(EXPERIMENT.replace("ensemble:", NETWORK * lab.networks + "ensemble:", 1))
    values["members"] |= {name: SMALL | more for name, more in TREES.items()}
    scene = min((coast / "test").glob("*.tif"))
    del values["scenes"]["test"]
    yield from _bundles_of(coast, values, scene)
    tags = coast / "tags.csv"
    names = sorted(path.name.removesuffix("_satellite.tif") for path in (coast / "train").glob("*.tif"))
    tags.write_text("scene,tags\n" + "".join(f"{name},{'a' * (place % 2)}\n" for place, name in enumerate(names)))
    values |= {
        "name": "tagged",
        "task": "multilabel",
        "classes": ["a"],
        "members": {"tags": SMALL | {"min_leaf_rows": 1}},
    }
    values["scenes"]["train"]["label"] = {"tags": "tags.csv", "id": "scene", "column": "tags"}
    values["ensemble"], values["features"] = {}, {"indices": ["NDVI"]}
    del values["submission"]
    yield from _bundles_of(coast, values, scene)


def _bundles_of(coast: Path, values: dict[str, object], scene: Path) -> Iterator[Bundle]:
    from ensemble.decide.decision.blend import Blend
    from terrablend.deliver.bundle import write_bundle
    from terrablend.run.opening import open_run, open_scene_run
    from terrablend.run.record import load_record, record_files

    file = coast / f"{values['name']}.yaml"
    file.write_text(yaml.safe_dump(values))
    folder = coast.parent / f"run-{values['name']}"
    run = open_run(file, folder, workers=1, device="cpu")
    for stage in run.stages:
        run.folder.carry_out(stage)
    path, record = folder / "ensemble" / "ensemble.json", folder / "stages" / "ensemble.json"
    for name in run.experiment.members:
        fitted = open_scene_run(folder).load_ensemble()
        blend = Blend((tuple(float(name == member) for member in fitted.members),), exclusive=False)
        replace(fitted, decision=replace(fitted.decision, blend=blend)).save(path)
        load_record(record).model_copy(update={"files": record_files(folder, ("ensemble",))}).save(record)
        out = coast.parent / f"{name}.zip"
        write_bundle(open_scene_run(folder, workers=1), out)
        with zipfile.ZipFile(out) as archive:
            yield Bundle(name, {entry: archive.read(entry) for entry in archive.namelist()}, scene)


def _judge_bundles(bundle: Bundle, folder: Path, count: int, seed: int) -> Iterator[tuple[int, str, str]]:
    """Yield number, end and message of changed bundles, each applied in a process that it may end."""
    number = -1
    while number < count:
        reader, writer = os.pipe()
        process = os.fork()
        if process == 0:
            _judge_from(bundle, folder, number, count, seed, writer)
        os.close(writer)
        with os.fdopen(reader) as lines:
            for line in lines:
                end, text = line.rstrip("\n").split("\t", 1)
                if number >= 0:
                    yield number, end, text
                elif end != "mapped":
                    raise RuntimeError(f"{bundle.name}, unchanged: {end}: {text}")
                number += 1
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if status:
            yield number, "hang" if status == -signal.SIGPROF else "crash", f"status {status}"
            number += 1


def _judge_from(bundle: Bundle, folder: Path, first: int, count: int, seed: int, pipe: int) -> None:
    """Judge bundles from a number on, the sound one first, write a line for each to a pipe, and end the process."""
    status, work = 1, folder / "work"
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        # Whatever asks for more takes the process, not the machine.
        resource.setrlimit(resource.RLIMIT_DATA, (2 * MOST_BYTES, 2 * MOST_BYTES))
        before = {"work", *_names(folder)}
        _parse_once(bundle.entries["experiment.yaml"].decode())
        for number in range(first, count):
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            rng = random.Random(f"{seed} {bundle.name} {number}")
            entries = bundle.entries
            if number >= 0:
                entries = mutate(entries, rng.choice(_chosen(entries, rng)), rng)
            work.mkdir(exist_ok=True)
            path = work / "bundle.zip"
            path.write_bytes(_pack(entries, rng if number >= 0 else None))
            end, text = _judge(path, bundle.scene, work / "out")
            if others := sorted({*_names(work), *_names(folder)} - {"bundle.zip", "out", *before}):
                end, text = "escaped", str(others)
            shutil.rmtree(work)
            if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10 > MOST_BYTES:
                os.write(pipe, f"memory\t{text!a}\n".encode())
                break
            os.write(pipe, f"{end}\t{text!a}\n".encode())
        status = 0
    finally:
        os._exit(status)


def _parse_once(sound: str) -> None:
    """Let this process parse the sound experiment file once: that takes as long as all the rest of a bundle."""
    from terrablend.experiment import files

    parse, value = files.parse_yaml, files.parse_yaml(sound, "")
    known = mock.patch.object(
        files, "parse_yaml", lambda text, what: deepcopy(value) if text == sound else parse(text, what)
    )
    known.start()


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _chosen(entries: Mapping[str, bytes], rng: random.Random) -> list[str]:
    """Return the entries of which one is changed: mostly the models."""
    models = [name for name in entries if not name.endswith((".json", ".yaml"))]
    return models if rng.random() < 0.6 else [name for name in entries if name not in models]


def _pack(entries: Mapping[str, bytes], rng: random.Random | None) -> bytes:
    """Return a zip; now and then with an entry that leads elsewhere, or unpacks to far more than it is."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
        if rng is not None and rng.random() < 0.02:
            link = zipfile.ZipInfo("members/link.txt")
            link.external_attr = 0o120777 << 16
            archive.writestr(
                rng.choice([link, zipfile.ZipInfo("../x.txt"), zipfile.ZipInfo("/tmp/x.txt")]), b"/etc/passwd"
            )
    return content.getvalue()


def _judge(path: Path, scene: Path, out: Path) -> tuple[str, str]:
    from terrablend.deliver.bundle import open_model
    from terrablend.deliver.predict import predict_scenes
    from terrablend.run.opening import open_scene_run

    try:
        with open_model(path) as model:
            predict_scenes(open_scene_run(model, workers=1, device="cpu"), [str(scene)], out)
    except TerrablendError as error:
        text = str(error)
        if len(text) > LONGEST or not text.isprintable():
            return "long", text[:300]
        return "clean", text[:300]
    except Exception as error:  # whatever it is, it is what is counted
        import traceback

        places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        return "unclean", f"{type(error).__name__}: {error}"[:200] + " at " + " ".join(places[-4:])
    return "mapped", ""
