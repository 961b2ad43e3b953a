import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from torch import Tensor, nn

from cnn import load_member
from cnn.crops.crops import SceneStore
from cnn.export import ByName, random_windows, trace
from cnn.network.model_file import read_about
from cnn.network.network import build_network
from cnn.network.weights import load_weights
from cnn.predict.predict_scene import Tiling, predict_scene
from cnn.predict.runner import Runner
from cnn.settings import CnnSettings
from data.errors import MapError
from data.files import scene_rng
from data.maps.geotiff import map_writer, read_proba
from data.maps.member import Prediction
from data.maps.store import RasterStore, map_path, open_store, write_maps
from data.scenes.catalogue import Catalogue
from data.scenes.rasters import maybe_ungeoreferenced
from data.scenes.scene import Scene, read_scene, valid_mask
from data.scenes.windows import Grid, Window, tile_windows
from features.feature_set import FeatureSet
from features.stacked import input_channels, stacked_names

from ..conftest import fit_member

OPTIONS = {"seed": 3, "threads": 1, "device": "cpu"}
INPUTS = ("nir", "red")


class Guess:
    """A member that says of each pixel what chance says, and by how much which folds' models were asked."""

    def __init__(self, name: str, classes: int = 1, folds: Sequence[int] = (0, 1)) -> None:
        self.name, self.classes, self.folds = name, classes, tuple(folds)

    def whole(self, scene: Scene, folds: Sequence[int]) -> np.ndarray:
        shape = (self.classes, scene.grid.height, scene.grid.width)
        proba = scene_rng(len(self.name), scene.id).random(shape) / 2 + np.mean(folds) / 2
        return np.where(valid_mask(scene, read_scene(scene)), proba, np.nan).astype(np.float32)

    def predict(self, scenes: Sequence[Scene], folds: Sequence[int]) -> Iterator[Prediction]:
        for scene in scenes:
            proba = self.whole(scene, folds)
            for window in tile_windows(scene.grid.height, scene.grid.width, 16):
                yield scene, window, proba[:, *window.slices]


def write_map(member: Guess, scene: Scene, names: Sequence[str], directory: Path) -> None:
    """Write the map of a scene by the models of all folds, whether these saw it or not."""
    RasterStore(directory, tuple(names)).write(map_path(directory, scene), member, [replace(scene, fold=None)])


class Echo(nn.Module):
    """Says what one of its inputs says."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.channel = channel

    def forward(self, channels: Tensor) -> Tensor:
        return channels[:, self.channel : self.channel + 1].nan_to_num()


@pytest.fixture
def members(tmp_path: Path, catalogue: Catalogue) -> Path:
    """Maps of two members of the binary catalogue."""
    for name in ("trees", "forest"):
        write_maps(Guess(name), catalogue, open_store(tmp_path / "members" / name, catalogue.classes))
    return tmp_path / "members"


@pytest.fixture
def stacked(tiny: CnnSettings) -> CnnSettings:
    return tiny.model_copy(update={"stack": ["trees"], "inputs": ["nir"], "epochs": 1})


@pytest.mark.parametrize("cache_bytes", [1e9, 0.0])
@pytest.mark.parametrize("window", [Window(5, 9, 16, 20), Window(-6, 40, 24, 30)])
def test_maps_follow_the_features_channel_for_channel(
    multiclass_catalogue: Catalogue, tmp_path: Path, window: Window, cache_bytes: float
) -> None:
    classes = multiclass_catalogue.classes.names
    for name in ("trees", "forest"):
        write_maps(Guess(name, 3), multiclass_catalogue, open_store(tmp_path / name, multiclass_catalogue.classes))
    feature_set = FeatureSet(multiclass_catalogue.bands, INPUTS)
    channels = input_channels(feature_set, ["trees", "forest"], classes, tmp_path)
    assert channels.names == (
        "nir",
        "red",
        "trees:dark",
        "trees:bright",
        "trees:edge",
        "forest:dark",
        "forest:bright",
        "forest:edge",
    )
    store = SceneStore(channels, multiclass_catalogue.scenes, (1,), cache_bytes, seed=0)
    for scene in multiclass_catalogue.scenes:
        channels, _ = store.read(scene, window)
        inner = window.meet(scene.grid.window)
        wanted = np.full((8, window.height, window.width), np.nan, np.float32)
        wanted[:2] = feature_set.compute(scene, window)
        for member, first in (("trees", 2), ("forest", 5)):
            whole = read_proba(tmp_path / member / "oof" / f"{scene.id}.tif")
            wanted[first : first + 3, *inner.within(window)] = whole[:, *inner.slices]
        np.testing.assert_array_equal(channels, wanted)


def test_training_scenes_are_seen_out_of_fold_and_others_by_all_models(catalogue: Catalogue, members: Path) -> None:
    channels = input_channels(FeatureSet(catalogue.bands, INPUTS), ["trees"], catalogue.classes.names, members)
    for scene in catalogue.scenes:
        folds = (0, 1) if scene.fold is None else (scene.fold,)
        wanted = Guess("trees").whole(scene, folds)[0]
        np.testing.assert_allclose(channels.open(scene).compute()[2], wanted, atol=1e-5)


@pytest.mark.parametrize(("channel", "name"), [(2, "trees"), (3, "forest")])
def test_a_network_that_echoes_a_channel_makes_that_members_map(
    catalogue: Catalogue, members: Path, channel: int, name: str
) -> None:
    channels = input_channels(
        FeatureSet(catalogue.bands, INPUTS), ["trees", "forest"], catalogue.classes.names, members
    )
    scene = catalogue.split("test")[0]
    runner = Runner(torch.device("cpu"), torch.float32)
    strips = predict_scene(scene, channels, Echo(channel), 1, Tiling(32, 8, 4, 32), runner)
    whole = np.concatenate([proba for _, proba in strips], axis=1)
    np.testing.assert_allclose(whole, read_proba(map_path(members / name, scene)), atol=1e-6)


def test_a_copy_in_another_process_reads_the_same(catalogue: Catalogue, members: Path) -> None:
    channels = input_channels(FeatureSet(catalogue.bands, INPUTS), ["trees"], catalogue.classes.names, members)
    copy = pickle.loads(pickle.dumps(channels))
    scene = catalogue.scenes[0]
    np.testing.assert_array_equal(copy.open(scene).compute(), channels.open(scene).compute())


def test_a_stacked_member_is_normalised_by_the_maps_that_it_learns_from(
    catalogue: Catalogue, stacked: CnnSettings, members: Path
) -> None:
    fit_member("net", stacked, catalogue, members / "net", **OPTIONS, folds=[0])
    about = read_about(members / "net" / "fold0.safetensors")
    assert about["inputs"] == ["nir", "trees:bright"]
    maps = [read_proba(map_path(members / "trees", scene)) for scene in catalogue.outside_fold(0)]
    assert about["normalisation"]["offset"][1] == pytest.approx(np.nanmean(maps), abs=1e-6)
    assert about["normalisation"]["scale"][1] == pytest.approx(np.nanstd(maps), abs=1e-6)


def test_a_loaded_member_reads_maps_where_it_is_told_to(
    catalogue: Catalogue, stacked: CnnSettings, members: Path, tmp_path: Path
) -> None:
    fit_member("net", stacked, catalogue, tmp_path / "trial", **OPTIONS, members=members)
    scene = catalogue.split("test")[0]

    def predict(folder: Path) -> np.ndarray:
        member = load_member(tmp_path / "trial", device="cpu", members=folder)
        return np.concatenate([proba for _, _, proba in member.predict([scene], [0])], axis=1)

    other = Guess("trees")
    other.whole = lambda scene, folds: np.ones((1, scene.grid.height, scene.grid.width), np.float32)  # type: ignore[method-assign]
    write_map(other, scene, catalogue.classes.names, tmp_path / "others" / "trees")
    one, two = predict(members), predict(tmp_path / "others")
    np.testing.assert_array_equal(np.isnan(one), np.isnan(two))
    assert np.nanmax(np.abs(one - two)) > 1e-3, "what the other member says is looked at"


def test_weights_of_an_earlier_run_are_matched_by_the_names_of_stacked_channels(
    catalogue: Catalogue, stacked: CnnSettings, members: Path
) -> None:
    fit_member("net", stacked, catalogue, members / "net", **OPTIONS, folds=[0])
    settings = stacked.model_copy(update={"pretrained": str(members / "net" / "fold0.safetensors")})
    one, two = build_network(settings, 2, 1), build_network(settings, 2, 1)
    load_weights(one, settings, ["nir", "trees:bright"], 1)
    load_weights(two, settings, ["trees:bright", "nir"], 1)
    first = next(key for key, weight in one.state_dict().items() if weight.ndim == 4)
    torch.testing.assert_close(one.state_dict()[first], two.state_dict()[first].flip(1))


def test_every_channel_is_described(catalogue: Catalogue, members: Path) -> None:
    channels = input_channels(
        FeatureSet(catalogue.bands, INPUTS), ["forest", "trees"], catalogue.classes.names, members
    )
    told = channels.describe()
    assert [channel["name"] for channel in told] == list(channels.names)
    assert len({frozenset(channel) for channel in told}) == 1, "all are told by the same keys"
    assert "member forest" in str(told[2]["definition"])


def test_a_stacked_network_is_recorded_with_its_channels_by_name(
    catalogue: Catalogue, stacked: CnnSettings, members: Path
) -> None:
    fit_member("net", stacked, catalogue, members / "net", **OPTIONS, folds=[0])
    member = load_member(members / "net", device="cpu")
    model = ByName(member.apply_fold(0)).eval()
    program, any_size = trace(model, member)
    for windows in random_windows(member, 0, any_size):
        channels = [torch.from_numpy(channel) for channel in windows]
        assert len(channels) == len(member.channels.names) == 2
        with torch.no_grad():
            torch.testing.assert_close(program.module()(*channels), model(*channels), rtol=0, atol=1e-5)


def test_a_network_without_a_stack_sees_features_alone(catalogue: Catalogue, tmp_path: Path) -> None:
    feature_set = FeatureSet(catalogue.bands, INPUTS)
    assert input_channels(feature_set, [], catalogue.classes.names, tmp_path) is feature_set
    assert stacked_names([], ["kelp"]) == ()


class TestRefusals:
    """Of maps that would mislead the network."""

    @pytest.fixture
    def refusal(self, catalogue: Catalogue, stacked: CnnSettings, members: Path) -> Callable[[], str]:
        """Train on what is there, and return what is said against it."""

        def train() -> str:
            with pytest.raises(MapError) as caught:
                fit_member("net", stacked, catalogue, members / "net", **OPTIONS, folds=[1])
            assert not list((members / "net").glob("*.safetensors"))
            return str(caught.value)

        return train

    @pytest.fixture
    def scene(self, catalogue: Catalogue) -> Scene:
        return catalogue.outside_fold(1)[1]

    @pytest.mark.parametrize("folds", [[1], [0, 1]])
    def test_a_map_by_models_that_saw_the_scene(
        self, scene: Scene, catalogue: Catalogue, members: Path, refusal: Callable[[], str], folds: list[int]
    ) -> None:
        path = map_path(members / "trees", scene)
        write_map(Guess("trees", folds=folds), scene, catalogue.classes.names, members / "trees")
        said = refusal()
        assert str(path) in said
        assert "expected an out-of-fold map, by the model of fold 0 alone" in said
        assert f"got one by those of folds {','.join(map(str, folds))}, which is in-sample" in said

    def test_a_map_that_does_not_say_who_made_it(self, scene: Scene, members: Path, refusal: Callable[[], str]) -> None:
        path = map_path(members / "trees", scene)
        proba = read_proba(path)
        with map_writer(path, scene.grid, ("bright",), {"member": "trees", "scene": scene.id}) as writer:
            writer.write(scene.grid.window, proba)
        assert "in-sample" in refusal()

    def test_in_sample_maps_when_it_predicts(
        self, scene: Scene, catalogue: Catalogue, stacked: CnnSettings, members: Path
    ) -> None:
        fit_member("net", stacked, catalogue, members / "net", **OPTIONS, folds=[0])
        with maybe_ungeoreferenced(), rasterio.open(map_path(members / "trees", scene), "r+") as raster:
            raster.update_tags(folds="0,1")
        with pytest.raises(MapError, match="in-sample"):
            next(load_member(members / "net", device="cpu").predict([scene], [0]))

    def test_a_missing_map(self, scene: Scene, members: Path, refusal: Callable[[], str]) -> None:
        path = map_path(members / "trees", scene)
        path.unlink()
        said = refusal()
        assert f"{path}: expected the map of scene {scene.id} by member trees, got no such file" in said
        assert "Remove stages/trees.json from the run folder, if it is there, and give `terrablend run`." in said

    def test_a_map_of_another_scene(
        self, scene: Scene, catalogue: Catalogue, members: Path, refusal: Callable[[], str]
    ) -> None:
        other = catalogue.outside_fold(1)[0]
        map_path(members / "trees", other).replace(map_path(members / "trees", scene))
        map_path(members / "forest", other).replace(map_path(members / "trees", other))
        said = refusal()
        assert f"expected the map of scene {other.id} by member trees, got that of scene {other.id} by" in said
        assert "by member forest" in said

    def test_a_map_of_other_classes(self, scene: Scene, members: Path, refusal: Callable[[], str]) -> None:
        write_map(Guess("trees", folds=[0]), scene, ["dull"], members / "trees")
        assert "expected maps of bright, got dull" in refusal()

    @pytest.mark.parametrize(
        "grid",
        [
            Grid(40, 47, None, (10, 0, 7e5, 0, -10, 4e6)),
            Grid(40, 48, None, (10, 0, 7e5 + 10, 0, -10, 4e6)),
            Grid(40, 48, None, None),
        ],
    )
    def test_a_map_of_another_grid(self, scene: Scene, catalogue: Catalogue, members: Path, grid: Grid) -> None:
        placed = replace(scene, grid=Grid(40, 48, None, (10, 0, 7e5, 0, -10, 4e6)))
        path, tags = map_path(members / "trees", placed), {"member": "trees", "scene": scene.id, "folds": "0"}
        channels = input_channels(FeatureSet(catalogue.bands, INPUTS), ["trees"], catalogue.classes.names, members)
        with map_writer(path, grid, ("bright",), tags):
            pass
        with pytest.raises(MapError, match=f"expected the grid of scene {scene.id}, 40 × 48 pixels from"):
            channels.open(placed)
        with map_writer(path, placed.grid, ("bright",), tags):
            pass
        channels.open(placed)

    def test_a_scene_outside_training_may_be_predicted_by_any_models(self, catalogue: Catalogue, members: Path) -> None:
        channels = input_channels(FeatureSet(catalogue.bands, INPUTS), ["trees"], catalogue.classes.names, members)
        unseen = replace(catalogue.scenes[0], split="test", fold=None)
        write_map(Guess("trees", folds=[1]), unseen, catalogue.classes.names, members / "trees")
        np.testing.assert_allclose(channels.open(unseen).compute()[2], Guess("trees").whole(unseen, [1])[0], atol=1e-5)

    def test_a_member_named_twice(self) -> None:
        with pytest.raises(ValueError, match="expected each member once, got trees, trees"):
            CnnSettings(stack=["trees", "trees"])
