import pytest

from data.maps.store import in_windows, worth_workers
from data.scenes.scene import Scene
from data.scenes.windows import Grid
from data.worker_pool import WorkerPool
from data.workers import held
from terrablend.run.opening import open_scene_run

from ..conftest import EXPERIMENT, write_small_coast

SCENES = {**EXPERIMENT["scenes"], "test": {"image": "train/{id}_satellite.tif"}}
MEMBERS = {"lightgbm": {"branch": "trees", "rounds": 3, "leaves": 4}}


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def handed_over(monkeypatch):
    """Let few small scenes be worth processes; return the names of what was handed to them."""
    monkeypatch.setattr(WorkerPool, "worth_pixels", 0)
    names, submit = set(), WorkerPool.submit

    def note(pool, work, *arguments):
        names.add(getattr(work, "func", type(work)).__name__)
        return submit(pool, work, *arguments)

    monkeypatch.setattr(WorkerPool, "submit", note)
    return names


@pytest.mark.slow
def test_maps_of_processes_are_those_of_one_byte_for_byte(tmp_path, terrablend, handed_over):
    file = write_small_coast(tmp_path / "coast", members=MEMBERS, scenes=SCENES)
    run = tmp_path / "run"
    outcome = terrablend("run", file, "--run", run, "--workers", 2)
    assert outcome.code == 0, outcome.err
    images = sorted((tmp_path / "coast" / "train").glob("*.tif"))[:2]
    for workers in (1, 2):
        options = ("--uncertainty", "--applicability", "--sets", "--workers", workers)
        outcome = terrablend("predict", run, *images, "-o", tmp_path / f"out{workers}", *options)
        assert outcome.code == 0, outcome.err
    of_members, of_ensemble = {"_write_loaded", "_map_scene", "SceneMapper"}, {"_work"}
    assert of_members | of_ensemble <= handed_over
    assert contents(tmp_path / "out1") == contents(tmp_path / "out2")
    assert len(list((tmp_path / "out2").glob("*.tif"))) == 10
    assert not [path for path in (tmp_path / "out2").iterdir() if path.name.startswith(".")]
    alone = open_scene_run(run, workers=1)
    for folder in ("members/lightgbm/oof", "members/lightgbm/test", "maps"):
        (run / folder).rename(tmp_path / folder.replace("/", "-"))
    alone.apply_member("lightgbm", alone.load_catalogue())
    alone._map_scenes(alone.load_catalogue().split("test"))
    for folder in ("members/lightgbm/oof", "members/lightgbm/test", "maps"):
        assert contents(run / folder) == contents(tmp_path / folder.replace("/", "-"))


def test_processes_are_started_for_many_or_large_scenes():
    small, large, huge = (Scene("a", "test", (), Grid(side, side)) for side in (64, 1024, 4096))
    with WorkerPool(2) as pool:
        assert worth_workers(pool, [small] * 500) is None
        assert worth_workers(pool, [small] * 512) is pool
        assert worth_workers(pool, [small] * 512, work=0.5) is None
        assert worth_workers(pool, [large]) is None
        assert in_windows(pool, [large])
        assert not in_windows(pool, [large] * 2)
        assert not in_windows(pool, [huge] * 2)
        assert in_windows(pool, [huge])
        assert worth_workers(pool, [large] * 2) is pool
        assert worth_workers(None, [large] * 2) is None


MADE = []


def make():
    MADE.append(1)
    return len(MADE)


def test_what_is_held_is_made_once():
    assert held(make) == held(make) == 1
    held(dict)
    assert held(make) == 2
