import hashlib
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import rasterio

from data.errors import BundleError
from data.files import hash_file, read_json
from data.records import CHECKSUM, write_record
from data.scenes.rasters import maybe_ungeoreferenced
from ensemble.decide.decision.blend import Blend
from ensemble.ensemble import Ensemble
from terrablend.deliver import bundle
from terrablend.deliver.bundle import open_model
from terrablend.run.fitted_run import MODEL
from terrablend.run.record import load_record, record_files
from terrablend.start.coast import NODATA
from trees.learning import LEARNERS

from ..conftest import EXPERIMENT, write_small_coast
from .mlm import ITEM

SMALL = {"branch": "trees", "rounds": 5, "leaves": 5}
STACKED = {
    "members": {
        "lightgbm": SMALL,
        "forest": {**SMALL, "booster": "random_forest"},
        "unet": {**EXPERIMENT["members"]["unet"], "stack": ["lightgbm"]},
    },
    "ensemble": {"metric": "dice"},
}


@pytest.fixture(scope="module")
def stacked(tmp_path_factory):
    """Return the experiment file of a coast with trees of two makes and a network that is stacked on the first."""
    return write_small_coast(tmp_path_factory.mktemp("bundled"), **STACKED)


@pytest.fixture
def finished(stacked, terrablend):
    """Return the folder of its finished run, all of whose members are used."""
    folder = stacked.parent / "run"
    if not (folder / "ensemble" / "ensemble.json").exists():
        outcome = terrablend("run", stacked, "--run", folder, "--workers", 1)
        assert outcome.code == 0, outcome.err
        give_weight(folder, *STACKED["members"])
    return folder


def give_weight(folder, *names):
    """Give some members of a run the same weight and the others none, as if that had been found to be best."""
    path, record = folder / "ensemble" / "ensemble.json", folder / "stages" / "ensemble.json"
    ensemble = Ensemble.load(path)
    blend = Blend((tuple(float(name in names) / len(names) for name in ensemble.members),))
    replace(ensemble, decision=replace(ensemble.decision, blend=blend)).save(path)
    files = record_files(folder, ("ensemble",))
    load_record(record).model_copy(update={"files": files}).save(record)


@pytest.fixture
def packed(finished, terrablend):
    """Return its bundle, which no test changes."""
    path = finished.parent / "kelp.zip"
    if not path.exists():
        outcome = terrablend("bundle", finished, "-o", path)
        assert outcome.code == 0, outcome.err
    return path


def unpack(path, folder):
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return folder


def pack(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder).as_posix())
    return path


def refuse(path, message):
    with pytest.raises(BundleError, match=message), open_model(path):
        pass


def read(path):
    with maybe_ungeoreferenced(), rasterio.open(path) as raster:
        return raster.read()


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_maps_from_a_bundle_are_those_of_the_run_byte_for_byte(finished, stacked, packed, terrablend, tmp_path):
    image = min((stacked.parent / "test").glob("*.tif"))
    unpacked = unpack(packed, tmp_path / "unpacked")
    for name, model in (("run", finished), ("zip", packed), ("folder", unpacked)):
        more = ("--uncertainty", "--applicability", "--sets", "--workers", 1)
        outcome = terrablend("predict", model, image, "-o", tmp_path / name, *more)
        assert outcome.code == 0, outcome.err
    maps = contents(tmp_path / "run")
    assert {name.removeprefix(image.stem) for name in maps} == {
        "_classes.tif",
        "_classes.tif.aux.xml",
        "_classes.qml",
        "_proba.tif",
        "_proba.qml",
        "_uncertainty.tif",
        "_uncertainty.qml",
        "_sets.tif",
        "_applicability.tif",
    }
    with maybe_ungeoreferenced(), rasterio.open(tmp_path / "run" / f"{image.stem}_applicability.tif") as layers:
        assert layers.descriptions == ("dissimilarity", "density", "applicable")
        index, density, applicable = (layers.read(band, masked=True) * layers.scales[band - 1] for band in (1, 2, 3))
        threshold = float(layers.tags()["threshold"])
    with maybe_ungeoreferenced(), rasterio.open(image) as scene:
        np.testing.assert_array_equal(index.mask, (scene.read() == NODATA).all(axis=0))
    np.testing.assert_array_equal(applicable > 0.5, density > 0.5)
    assert (index[applicable > 0.5] < threshold + 1e-3).all()
    assert contents(tmp_path / "zip") == maps
    assert contents(tmp_path / "folder") == maps


def test_a_bundle_holds_all_members_that_are_needed_and_nothing_of_the_machine_it_was_made_on(
    finished, packed, tmp_path
):
    files = contents(unpack(packed, tmp_path / "unpacked"))
    members = {Path(name).parts[1] for name in files if name.startswith("members/")}
    assert members == {"lightgbm", "forest", "unet"}
    assert {Path(name).suffix for name in files} <= bundle.SUFFIXES
    assert not any(str(finished.parent).encode() in content for content in files.values())
    listed = json.loads(files.pop("manifest.json"))
    assert listed["files"] == {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)} for name, content in files.items()
    }


@pytest.mark.parametrize(("used", "needed"), [("forest", ["forest"]), ("unet", ["lightgbm", "unet"])])
def test_members_without_weight_stay_behind_unless_another_is_stacked_on_them(
    finished, terrablend, tmp_path, used, needed
):
    run = shutil.copytree(finished, tmp_path / "run")
    give_weight(run, used)
    assert terrablend("bundle", run, "-o", tmp_path / "small").code == 0
    assert sorted(folder.name for folder in (tmp_path / "small" / "members").iterdir()) == needed


def test_the_same_run_makes_the_same_bundle(finished, packed, terrablend, tmp_path):
    assert terrablend("bundle", finished, "-o", tmp_path / "again.zip").code == 0
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()
    outcome = terrablend("bundle", finished, "-o", tmp_path)
    assert outcome.code == 2
    assert "expected a new folder" in outcome.err


def test_every_kind_of_model_file_is_taken():
    for learner in LEARNERS.values():
        assert MODEL.fullmatch(f"fold12{learner.booster.suffix}")
    assert MODEL.fullmatch("fold0.safetensors")
    assert MODEL.fullmatch("fold0.json")
    for name in ("fold0.csv", "fold0.ckpt", "fold0.txt.py", "afold0.txt"):
        assert not MODEL.fullmatch(name)


def test_a_member_that_lacks_a_fold_is_refused(finished, terrablend, tmp_path):
    model = finished / "members" / "forest" / "fold1.npz"
    model.rename(model.with_suffix(".away"))
    try:
        outcome = terrablend("bundle", finished, "-o", tmp_path / "x.zip")
    finally:
        model.with_suffix(".away").rename(model)
    assert outcome.code == 2
    assert "member forest: expected a model of each of 2 folds, got 1" in outcome.err
    assert not (tmp_path / "x.zip").exists()


class TestWhatWasChanged:
    """Bundles that are not as they were made: refused by name before any of their content is read."""

    @pytest.fixture
    def folder(self, packed, tmp_path):
        return unpack(packed, tmp_path / "unpacked")

    @pytest.fixture(params=["folder", "zip"])
    def refuses(self, request, folder, tmp_path):
        def refuses(message):
            path = folder if request.param == "folder" else pack(folder, tmp_path / "changed.zip")
            refuse(path, message)

        return refuses

    @pytest.mark.parametrize(
        "name", ["experiment.yaml", "ensemble/ensemble.json", "members/unet/fold1.safetensors", "item.json"]
    )
    def test_an_altered_byte_is_found_in_any_file(self, folder, refuses, name):
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        refuses(f"expected {name} as its manifest lists it, got other bytes")

    def test_a_file_that_goes_on_or_ends_early(self, folder, refuses):
        name = "members/lightgbm/fold0.txt"
        content = (folder / name).read_bytes()
        for other in (content + b"\n", content[:-1], b""):
            (folder / name).write_bytes(other)
            refuses(f"expected {name} as its manifest lists it")

    def test_a_file_more_or_less(self, folder, refuses):
        (folder / "members" / "lightgbm" / "fold7.txt").write_text("tree")
        refuses("got 'members/lightgbm/fold7.txt' unlisted")
        (folder / "members" / "lightgbm" / "fold7.txt").unlink()
        (folder / "item.json").unlink()
        refuses("got 'item.json' missing")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda manifest: manifest | {"bundle": 2}, "expected a bundle of layout 1, got 2"),
            (lambda manifest: {key: manifest[key] for key in ("bundle", "name")}, "Field required"),
            (lambda manifest: manifest | {"more": 1}, "got more"),
            (lambda manifest: manifest | {"files": {"x.json": {"sha256": "0", "size": 1}}}, "String should match"),
            (
                lambda manifest: manifest | {"files": {"x.json": {"sha256": "0" * 64, "size": 1 << 40}}},
                "expected at most",
            ),
        ],
    )
    def test_a_manifest_of_another_make(self, folder, refuses, change, message):
        path = folder / "manifest.json"
        path.write_text(json.dumps(change(read_json(path))))
        refuses(message)

    @pytest.mark.parametrize(
        "name",
        ["../x.json", "/tmp/x.json", "a/../../x.json", "a\\x.json", "c:/x.json", "./x.json", "a//x.json",
         "manifest.json", "x.json\n"],
    )  # fmt: skip
    def test_paths_that_leave_the_bundle(self, folder, refuses, name):
        path = folder / "manifest.json"
        manifest = read_json(path)
        manifest["files"][name] = {"sha256": "0" * 64, "size": 0}
        path.write_text(json.dumps(manifest))
        refuses("expected paths within the bundle")

    @pytest.mark.parametrize("name", ["x.py", "x.pkl", "x.so", "x"])
    def test_files_that_could_be_run(self, folder, refuses, name):
        path = folder / "manifest.json"
        manifest = read_json(path)
        manifest["files"][name] = {"sha256": "0" * 64, "size": 0}
        path.write_text(json.dumps(manifest))
        refuses("expected files of")

    def test_no_manifest(self, folder, refuses):
        (folder / "manifest.json").unlink()
        refuses(r"with manifest\.json, got none")

    def test_entries_that_are_doubled_or_lie_elsewhere(self, packed, tmp_path):
        evil = tmp_path / "evil.zip"
        evil.write_bytes(packed.read_bytes())
        with zipfile.ZipFile(evil, "a") as archive:
            archive.writestr("../../outside.json", "{}")
        refuse(evil, r"got '\.\./\.\./outside\.json' unlisted")
        assert not list(tmp_path.rglob("outside.json"))
        evil.write_bytes(packed.read_bytes())
        with zipfile.ZipFile(evil, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("item.json", "{}")
        refuse(evil, r"got 'item\.json' doubled")

    def test_what_unpacks_to_more_than_it_should_is_read_no_farther(self, folder, tmp_path, monkeypatch):
        (folder / "item.json").write_bytes(b" " * 50_000_000)
        path = tmp_path / "bomb.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(folder).as_posix())
        written = []
        monkeypatch.setattr(bundle.tempfile, "tempdir", str(tmp_path))
        check = bundle._check_file

        def watched(stream, target, size):
            found = check(stream, target, size)
            written.append(target.stat().st_size - size)
            return found

        monkeypatch.setattr(bundle, "_check_file", watched)
        refuse(path, r"expected item\.json as its manifest lists it")
        assert max(written) <= 1

    def test_what_is_no_zip(self, packed, tmp_path):
        refuse(tmp_path / "none.zip", "got no such file")
        (tmp_path / "a.zip").write_bytes(b"PK no zip")
        refuse(tmp_path / "a.zip", "expected the zip of a bundle")
        content = bytearray(packed.read_bytes())
        content[len(content) // 3] ^= 255
        (tmp_path / "b.zip").write_bytes(content)
        with (
            pytest.raises(BundleError, match=r"expected (the zip of a bundle|\S+ as its manifest)"),
            open_model(tmp_path / "b.zip"),
        ):
            pass

    def test_a_run_folder_is_what_it_is(self, finished):
        with open_model(finished) as folder:
            assert folder == finished


class TestRecord:
    """The STAC item, by the fields that its extensions ask for."""

    @pytest.fixture
    def item(self, packed):
        with zipfile.ZipFile(packed) as archive:
            return json.loads(archive.read("item.json"))

    def test_it_is_an_item(self, item, finished):
        assert item["type"] == "Feature"
        assert item["stac_version"] == "1.1.0"
        assert item.keys() >= {"id", "geometry", "properties", "links", "assets", "stac_extensions"}
        assert item["geometry"] is None, "the coast lies nowhere"
        assert "bbox" not in item
        assert item["properties"]["datetime"] is None
        assert item["properties"]["start_datetime"] < item["properties"]["end_datetime"]

    def test_the_model_extension_has_all_that_it_requires(self, item):
        jsonschema.validate(item, ITEM)
        found = item["properties"]
        assert found["mlm:tasks"] == ["semantic-segmentation"]
        assert found["mlm:architecture"] == "random_forest + lightgbm + unet (tu-regnetx_002)"
        for array in (*(one["input"] for one in found["mlm:input"]), *(one["result"] for one in found["mlm:output"])):
            assert len(array["shape"]) == len(array["dim_order"])
        classes = found["mlm:output"][1]["classification:classes"]
        assert [(one["value"], one["name"]) for one in classes] == [(0, "background"), (1, "kelp")]
        del found["mlm:input"][0]["bands"]
        with pytest.raises(jsonschema.ValidationError, match="'bands' is a required"):
            jsonschema.validate(item, ITEM)

    def test_the_extension_s_own_package_takes_all_of_it(self, item):
        schema = pytest.importorskip("stac_model.schema", reason="needs stac-model")
        for one in item["properties"]["mlm:output"][1]["classification:classes"]:
            # Of the classification extension since 2.0, which the package does not know yet.
            del one["title"]
        known = schema.MLModelProperties.model_validate(item["properties"])
        assert known.output[1].classes[1].name == "kelp"
        assert [one.name for one in known.input] == [one["name"] for one in item["properties"]["mlm:input"]]

    def test_networks_say_how_their_inputs_are_normalised(self, item, finished):
        by_name = {one["name"]: one for one in item["properties"]["mlm:input"]}
        assert set(by_name) == {"lightgbm", "forest", "unet-fold0", "unet-fold1"}
        network = by_name["unet-fold1"]
        assert [band if isinstance(band, str) else band["name"] for band in network["bands"]] == [
            "red",
            "green",
            "blue",
            "nir",
            "NDVI",
            "lightgbm:kelp",
        ]
        assert len(network["value_scaling"]) == 6
        assert all(one.keys() == {"type", "mean", "stddev"} for one in network["value_scaling"])
        assert by_name["unet-fold0"]["value_scaling"] != network["value_scaling"]

    def test_every_file_of_the_models_is_an_asset_with_its_hash(self, item, packed):
        models = [asset for asset in item["assets"].values() if "mlm:model" in asset["roles"]]
        assert any("bands" in asset for asset in models)
        with zipfile.ZipFile(packed) as archive:
            assert {asset["href"].removeprefix("./") for asset in item["assets"].values()} == {
                name for name in archive.namelist() if name not in ("item.json", "manifest.json")
            }
            for asset in item["assets"].values():
                content = archive.read(asset["href"].removeprefix("./"))
                assert asset["file:size"] == len(content)
                assert asset["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()


@pytest.mark.filterwarnings("ignore")  # MLflow warns of itself.
def test_mlflow_serves_a_bundle(stacked, finished, packed, terrablend, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "runs"))
    outcome = terrablend("bundle", finished, "-o", tmp_path / "kelp", "--mlflow", tmp_path / "model")
    assert outcome.code == 0, outcome.err
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    assert model.metadata.metadata["bands"] == EXPERIMENT["scenes"]["bands"]
    images = sorted(stacked.parent.glob("t*/*_satellite.tif"))
    classes = model.predict(np.stack([read(image) for image in images]).astype("float32"))
    assert terrablend("predict", packed, *images, "-o", tmp_path / "maps", "--workers", 1).code == 0
    for image, found in zip(images, classes, strict=True):
        np.testing.assert_array_equal(found, read(tmp_path / "maps" / f"{image.stem}_classes.tif")[0])
    assert (classes == 1).any()
    with pytest.raises(mlflow.MlflowException, match="shape"):
        model.predict(np.zeros((1, 2, 32, 32), np.float32))
    again = terrablend("bundle", finished, "-o", tmp_path / "kelp", "--mlflow", tmp_path / "model")
    assert again.code == 2
    assert "expected a new folder for --mlflow" in again.err


def test_a_member_of_another_name_writes_nowhere(finished, packed, terrablend, tmp_path):
    unpacked = unpack(packed, tmp_path / "unpacked")
    record = unpacked / "members" / "lightgbm" / "member.json"
    values = read_json(record)
    values["name"] = str(tmp_path / "elsewhere")
    write_record(record, {key: value for key, value in values.items() if key != CHECKSUM})
    seal(unpacked, "members/lightgbm/member.json")
    outcome = terrablend("predict", unpacked, min((finished.parent / "test").glob("*.tif")), "-o", tmp_path / "out")
    assert outcome.code == 2
    assert "expected the member lightgbm, got" in outcome.err
    assert not (tmp_path / "elsewhere").exists()


def test_links_in_the_folder_of_a_bundle_are_refused(packed, tmp_path):
    unpacked = unpack(packed, tmp_path / "unpacked")
    (unpacked / "members" / "more").symlink_to(tmp_path)
    refuse(unpacked, r"more: expected a plain file in a bundle, got a link")


def seal(folder, name):
    """Make the hashes of a file of a bundle anew: in the ensemble's record, and of both in the manifest."""
    ensemble = folder / "ensemble" / "ensemble.json"
    values = read_json(ensemble)
    values["models"][name] = hash_file(folder / name)
    write_record(ensemble, {key: value for key, value in values.items() if key != CHECKSUM})
    manifest = read_json(folder / "manifest.json")
    for path in (folder / name, ensemble):
        key = path.relative_to(folder).as_posix()
        manifest["files"][key] = {"sha256": hash_file(path), "size": path.stat().st_size}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_an_ensemble_of_members_that_there_are_not_is_named(finished, packed, terrablend, tmp_path):
    unpacked = unpack(packed, tmp_path / "unpacked")
    values = read_json(unpacked / "ensemble" / "ensemble.json")
    values["members"][0] = "nobody"
    write_record(unpacked / "ensemble" / "ensemble.json", {k: v for k, v in values.items() if k != CHECKSUM})
    seal(unpacked, "members/lightgbm/member.json")
    outcome = terrablend("predict", unpacked, min((finished.parent / "test").glob("*.tif")), "-o", tmp_path / "out")
    assert outcome.code == 2
    assert "expected an ensemble of members of the experiment, got 'nobody'" in outcome.err
