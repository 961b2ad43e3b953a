"""Runs whose scenes lie in an object store, against a server of S3 on the loopback."""

import functools
import http.server
import os
import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from pyarrow import fs

from data.addresses import RemoteFile, identify, remote_path
from data.errors import CatalogueError, RunError, SceneError
from data.scenes.rasters import open_raster
from data.survey.patterns import find_files
from terrablend.experiment import load_experiment
from tests.terrablend.conftest import write_small_coast

BUCKET = Path("/vsis3/bucket")


@pytest.fixture(scope="module")
def server():
    """Yield the address of a server of S3."""
    moto = pytest.importorskip("moto.server")
    here = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    here.start()
    host, port = here.get_host_and_port()
    yield f"http://{host}:{port}"
    here.stop()
    # It leaves its socket open.
    here._server.server_close()


@pytest.fixture
def store(server, monkeypatch):
    """Return an empty bucket, and let the environment say where it is."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    where = fs.S3FileSystem(
        endpoint_override=server.removeprefix("http://"), scheme="http", region="us-east-1", allow_bucket_deletion=True,
        allow_bucket_creation=True,
    )  # fmt: skip
    where.create_dir("bucket")
    yield where
    where.delete_dir("bucket")


def upload(store, folder, prefix=""):
    """Copy the files of a folder to the bucket."""
    for path in folder.rglob("*.*"):
        put(store, f"{prefix}{path.relative_to(folder).as_posix()}", path.read_bytes())


def put(store, name, content):
    with store.open_output_stream(f"bucket/{name}") as stream:
        stream.write(content)


def test_files_of_a_store_are_found_told_apart_and_read(store, write_raster, tmp_path, capfd):
    values = np.arange(64, dtype=np.uint8).reshape(8, 8)
    content = write_raster("x.tif", values).read_bytes()
    for name in ("a b.tif", "c#1.tif", ".hidden.tif"):
        put(store, f"img/{name}", content)
    for name in ("s1", "s2"):
        put(store, f"deep/{name}/{name}_b4.tif", content)
    found = find_files("img/{id}.tif", BUCKET)
    assert found == {"a b": "s3://bucket/img/a b.tif", "c#1": "s3://bucket/img/c#1.tif"}
    assert find_files("s3://bucket/deep/{id}/{id}_b4.tif", tmp_path).keys() == {"s1", "s2"}
    for path in found.values():
        with open_raster(path) as raster:
            assert (raster.read(1) == values).all()
    paths = [remote_path(found["a b"]), remote_path(found["c#1"]), BUCKET / "deep/s1/s1_b4.tif"]
    before = identify(paths)
    assert [file.size for file in before.values()] == [len(content)] * 3
    put(store, "img/a b.tif", content + b"more")
    after = identify(paths)
    assert [before[path] == after[path] for path in paths] == [False, True, True]

    with pytest.raises(CatalogueError, match=r"s3://bucket/none/\{id\}\.tif: expected scenes, got no matching file"):
        find_files("none/{id}.tif", BUCKET)
    with pytest.raises(CatalogueError, match=r"s3://other/\{id\}\.tif: expected scenes, got no matching file"):
        find_files("s3://other/{id}.tif", tmp_path)
    with pytest.raises(RunError, match=r"s3://bucket/img/none\.tif: expected a file, got none"):
        identify([BUCKET / "img/none.tif"])
    put(store, "img/a b.tif.msk", content)
    with pytest.raises(CatalogueError, match=r"a b\.tif\.msk: expected rasters that say all themselves"):
        find_files("img/{id}.tif", BUCKET)


def test_a_file_of_a_store_that_describes_others_is_not_read(store, tmp_path):
    vrt = (
        '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1" '
        'subClass="VRTRawRasterBand"><SourceFilename relativetoVRT="0">/etc/passwd</SourceFilename>'
        "</VRTRasterBand></VRTDataset>"
    )
    put(store, "scene.tif", vrt.encode())
    with (
        pytest.raises(SceneError, match=r"s3://bucket/scene\.tif: expected a readable raster"),
        open_raster("s3://bucket/scene.tif"),
    ):
        pass


def test_a_run_on_a_store_ends_with_the_bytes_of_a_run_on_a_folder(store, tmp_path, terrablend, monkeypatch):
    here = tmp_path / "coast"
    overrides = {"members": {"lightgbm": {"branch": "trees", "rounds": 5, "leaves": 4}}}
    experiment = write_small_coast(here, **overrides)
    upload(store, here, "coast/")
    monkeypatch.setenv("KELP_BUCKET", "s3://bucket/coast")
    values = yaml.safe_load(experiment.read_text())
    there = tmp_path / "there.yaml"
    there.write_text(yaml.safe_dump({**values, "root": "${KELP_BUCKET}"}))
    for command, file, run in (
        ("check", experiment, "local"),
        ("features", experiment, "local"),
        ("run", there, "remote"),
    ):
        outcome = terrablend(command, file, "--run", tmp_path / run, "--workers", 1)
        assert outcome.code == 0, outcome.err
    local, remote = (
        {path.relative_to(tmp_path / run).as_posix(): path.read_bytes() for path in (tmp_path / run).rglob("*.*")}
        for run in ("local", "remote")
    )
    same = [name for name in local if name.startswith("pixels/") or name in ("columns.json", "folds.txt")]
    assert len(same) > 3
    assert [name for name in same if local[name] != remote[name]] == []
    assert load_experiment(tmp_path / "remote/experiment.yaml").root == BUCKET / "coast"
    assert b"${KELP_BUCKET}" in remote["experiment.yaml"]

    pattern = "s3://bucket/coast/test/{id}_satellite.tif"
    outcome = terrablend("predict", tmp_path / "remote", pattern, "-o", tmp_path / "maps", "--workers", 1)
    assert outcome.code == 0, outcome.err
    assert len([*(tmp_path / "maps").glob("*_classes.tif")]) == 1

    assert terrablend("bundle", tmp_path / "remote", "-o", tmp_path / "kelp").code == 0
    assert not [path for path in (tmp_path / "kelp").rglob("*.*") if b"s3://bucket" in path.read_bytes()]
    assert terrablend("status", tmp_path / "remote").code == 0
    label = next((here / "train_kelp").glob("*.tif"))
    put(store, f"coast/train_kelp/{label.name}", label.read_bytes() + b"\0")
    assert "stale" in terrablend("status", tmp_path / "remote").out


def test_a_list_in_a_store_names_scenes_and_groups(store, tmp_path, terrablend):
    here = tmp_path / "coast"
    experiment = write_small_coast(here)
    images = sorted((here / "train").glob("*.tif"))
    ids = [path.name.removesuffix("_satellite.tif") for path in images]
    labels = [f"train_kelp/{name}_kelp.tif" for name in ids]
    groups = [f"g{place // 2}" for place in range(len(ids))]
    upload(store, here)
    rows = {"id": ids, "image": [f"train/{path.name}" for path in images], "label": labels, "group": groups}
    pl.DataFrame(rows).write_parquet(here / "scenes.parquet")
    put(store, "scenes.parquet", (here / "scenes.parquet").read_bytes())
    values = yaml.safe_load(experiment.read_text())
    values["scenes"] = {**values["scenes"], "train": {"list": "scenes.parquet"}}
    there = tmp_path / "there.yaml"
    there.write_text(yaml.safe_dump({**values, "root": "s3://bucket", "folds": {"count": 2}}))
    outcome = terrablend("check", there, "--run", tmp_path / "run", "--workers", 1)
    assert outcome.code == 0, outcome.err
    rows = pl.read_parquet(tmp_path / "run/catalogue.parquet").filter(pl.col("split") == "train")
    assert dict(rows.select("id", "group").rows()) == dict(zip(ids, groups, strict=True))


def test_what_is_written_lies_on_this_disk(small_coast, tmp_path, terrablend):
    outcome = terrablend("check", small_coast, "--run", "s3://bucket/run")
    assert outcome.code == 2
    assert "expected a folder of this disk, got an address. Write to a local folder, and copy it." in outcome.err


def test_what_a_server_tells_of_a_file(tmp_path, monkeypatch):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.path.startswith("/closed"):
                self.send_error(403)
            else:
                super().do_GET()

        def log_message(self, *text):
            pass

    (tmp_path / "a.tif").write_bytes(b"12345")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path)) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        where = f"http://127.0.0.1:{web.server_port}"
        found = identify([remote_path(f"{where}/a.tif")])
        assert [file.size for file in found.values()] == [5]
        assert identify([remote_path(f"{where}/closed.tif")]).popitem()[1] == RemoteFile(-1, 0, "not told")
        with pytest.raises(RunError, match=r"none\.tif: expected files that can be read"):
            identify([remote_path(f"{where}/none.tif")])
        web.shutdown()
