import hashlib
from collections import Counter

import numpy as np
import pytest
import rasterio
import yaml
from sklearn.metrics import roc_auc_score

from data.files import read_json
from data.folds.plan import plan_folds
from data.scenes.classes import Classes
from data.scenes.rasters import maybe_ungeoreferenced
from data.scenes.scene import read_label, read_scene
from data.settings import ClassSettings, FoldSettings, SceneSettings
from data.survey.discovery import find_scenes
from data.survey.inspection import build_catalogue
from terrablend.start.coast import BANDS, EXPERIMENT, NODATA, write_coast

SIZE = 96


@pytest.fixture(scope="module")
def coast(tmp_path_factory):
    root = tmp_path_factory.mktemp("coast")
    write_coast(root, places=8, acquisitions=3, test=2, size=SIZE, seed=1)
    return root


@pytest.fixture(scope="module")
def planned(coast):
    experiment = yaml.safe_load(EXPERIMENT)
    scenes = SceneSettings.model_validate(experiment["scenes"])
    classes = Classes.from_settings("binary", {1: ClassSettings(name=experiment["classes"][1])})
    catalogue, _ = build_catalogue(*find_scenes(scenes, classes, coast), scenes, classes)
    return plan_folds(catalogue, FoldSettings.model_validate(experiment["folds"]), coast, 0)


def read(path):
    with maybe_ungeoreferenced(), rasterio.open(path) as raster:
        return raster.read(), raster.profile | {"descriptions": raster.descriptions}


def hash_files(root):
    return {p.relative_to(root): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*") if p.is_file()}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_coast(tmp_path / name, places=2, acquisitions=2, test=1, size=48, seed=seed)
    assert hash_files(tmp_path / "a") == hash_files(tmp_path / "b")
    assert len(hash_files(tmp_path / "a")) == 4 * 2 + 1 + 5 + 2
    assert not set(hash_files(tmp_path / "a")) & {p for p in hash_files(tmp_path / "c") if p.suffix == ".tif"}


def test_a_scene_does_not_depend_on_how_many_others_there_are(tmp_path):
    write_coast(tmp_path / "few", places=1, acquisitions=2, test=0, size=48)
    write_coast(tmp_path / "many", places=3, acquisitions=2, test=0, size=48)
    few, many = hash_files(tmp_path / "few" / "train"), hash_files(tmp_path / "many" / "train")
    assert few.items() <= many.items()


def test_scenes_have_the_bands_of_the_kelp_job(coast):
    for path in sorted(coast.glob("t*/*_satellite.tif")):
        pixels, profile = read(path)
        assert pixels.dtype == np.int16
        assert profile["descriptions"] == BANDS
        assert profile["nodata"] == NODATA
        assert profile["crs"] is None
        seen = pixels[0] != NODATA
        assert (pixels[:, ~seen] == NODATA).all()
        assert (pixels[:5, seen] >= 0).all()
        assert np.isin(pixels[5, seen], (0, 1)).all()


def test_scenes_of_a_place_share_a_group_and_places_do_not(coast, planned):
    catalogue, report = planned
    places = read_json(coast / "truth" / "places.json")
    pairs = {(scene.group, places[scene.id]) for scene in catalogue.split("train")}
    assert len(pairs) == len({group for group, _ in pairs}) == len({place for _, place in pairs}) == 8
    assert not report.leaks
    assert report.outside_duplicates == {}
    assert len(catalogue.folds) == 4


def test_the_ids_tell_nothing_of_the_place(coast):
    places = read_json(coast / "truth" / "places.json")
    assert len(places) == 8 * 3 + 2
    assert all(len(scene) == 8 for scene in places)
    assert [places[scene] for scene in sorted(places)] != sorted(places.values())


def test_kelp_is_rare_and_lies_on_the_sea_where_it_can_be_seen(coast):
    shares = []
    for path in sorted((coast / "truth").glob("*.tif")):
        truth = read(path)[0][0] > 0
        pixels = read(next(coast.glob(f"t*/{path.stem}_satellite.tif")))[0]
        assert (pixels[5, truth] == 0).all()
        shares.append(truth.mean())
    assert 0.005 < np.mean(shares) < 0.03
    assert 0 < sum(share == 0 for share in shares) <= len(shares) / 2


def test_labels_differ_from_the_truth_by_the_errors_that_are_listed(tmp_path):
    coast = tmp_path
    write_coast(coast, places=6, acquisitions=3, test=0, size=SIZE, label_errors=0.3)
    errors = read_json(coast / "truth" / "label_errors.json")
    kinds = Counter()
    for scene, found in errors.items():
        label = read(coast / "train_kelp" / f"{scene}_kelp.tif")[0][0] > 0
        truth = read(coast / "truth" / f"{scene}.tif")[0][0] > 0
        kinds.update(kind for kind, value in found.items() if np.any(value))
        if np.any(found["shift"]):
            continue
        for bed in found["false"]:
            assert (label & ~truth).sum() >= bed["pixels"]
        missed = sum(bed["pixels"] for bed in found["missed"])
        assert (truth & ~label).sum() >= missed
        assert (
            label.sum() <= truth.sum() - missed + sum(bed["pixels"] for bed in found["false"]) + 0.2 * truth.sum() + 5
        )
    assert set(kinds) == {"shift", "missed", "false"}
    assert all(count < len(errors) for count in kinds.values())


def test_labels_without_errors_are_the_truth_up_to_their_edges(tmp_path):
    write_coast(tmp_path, places=2, acquisitions=2, test=0, size=SIZE, label_errors=0.0, seed=2)
    for path in sorted((tmp_path / "train_kelp").glob("*.tif")):
        label = read(path)[0][0] > 0
        truth = read(tmp_path / "truth" / f"{path.stem.removesuffix('_kelp')}.tif")[0][0] > 0
        assert 2 * (label & truth).sum() >= 0.8 * (label.sum() + truth.sum())


def test_kelp_is_bright_in_the_near_infrared_but_so_is_much_else(coast, planned):
    catalogue, _ = planned
    nir, kelp, dem = [], [], []
    for scene in catalogue.split("train"):
        pixels = read_scene(scene, bands=["nir", "dem"])
        seen = np.isfinite(pixels[0])
        nir.append(pixels[0, seen])
        dem.append(np.nan_to_num(pixels[1, seen]))
        kelp.append(read_label(scene)[seen] == 1)
    nir, dem, kelp = (np.concatenate(parts) for parts in (nir, dem, kelp))
    at_sea = dem <= 0
    assert roc_auc_score(kelp[at_sea], nir[at_sea]) > 0.85
    # Of what is as bright as the median kelp, most is something else, even where the elevation model says sea.
    assert kelp[at_sea & (nir > np.median(nir[kelp]))].mean() < 0.5
