"""Sound files of each kind of model."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from campaigns.damage import Kind, Read

__all__ = ["make_models"]


def make_models(folder: Path, networks: bool = True) -> list[Kind]:
    """Write a small sound file of each kind of model, and say how it is read without a record of its hash."""
    return [*_boosters(folder), *(_networks(folder) if networks else ())]


def _boosters(folder: Path) -> Iterator[Kind]:
    import lightgbm
    import xgboost

    from trees.boosters.lightgbm_booster import LightGBMBooster
    from trees.boosters.sklearn_boosters import SklearnBooster
    from trees.boosters.xgboost_booster import XGBoostBooster
    from trees.forest.forest import Tree, Trees
    from trees.tag_boosters import TagBoosters

    rng = np.random.default_rng(0)
    features, label = rng.normal(size=(200, 4)).astype(np.float32), rng.integers(0, 2, 200)
    names = ["a", "b", "c", "d"]
    options = {"objective": "binary", "num_leaves": 5, "verbosity": -1, "num_threads": 1}
    grown = LightGBMBooster(lightgbm.train(options, lightgbm.Dataset(features, label, feature_name=names), 4))
    rows = xgboost.DMatrix(features, label, feature_names=names)
    other = XGBoostBooster(xgboost.train({"objective": "binary:logistic", "max_depth": 3, "nthread": 1}, rows, 4))
    leaves = np.array([[-0.1], [0.2]])
    tree = Tree(np.array([1]), np.float32([0.5]), np.array([True]), np.array([-1]), np.array([-2]), leaves)
    plain = SklearnBooster(Trees.of([tree] * 3, np.zeros(1), 4, "sigmoid"), dict.fromkeys(names, 0.25), 3)

    def predict(kind: Any) -> Read:
        return lambda path: kind.load(path).predict_proba(features).tobytes()

    grown.save(folder / "fold0.txt")
    other.save(folder / "fold0.ubj")
    plain.save(folder / "fold0.npz")
    TagBoosters("lightgbm", ["haze", "kelp"], [grown, 0.25], names).save(folder / "fold0.zip")
    yield Kind("LightGBM", folder / "fold0.txt", predict(LightGBMBooster), sealed=False)
    yield Kind("XGBoost", folder / "fold0.ubj", predict(XGBoostBooster), sealed=False)
    yield Kind("scikit-learn", folder / "fold0.npz", predict(SklearnBooster))
    yield Kind("boosters of tags", folder / "fold0.zip", predict(TagBoosters))


def _networks(folder: Path) -> Iterator[Kind]:
    import torch

    from cnn.network.model_file import read_about, read_tensors, write_tensors
    from cnn.network.weight_files import read_torch
    from cnn.train.checkpoints import CheckpointKeeper, read_kept

    def list_tensors(tensors: Mapping[str, Any]) -> object:
        return [(name, tensors[name].float().numpy().tobytes()) for name in sorted(tensors)]

    def read_checkpoint(path: Path) -> object:
        kept = read_kept(path)
        return list_tensors(kept.weights), kept.epoch, kept.score

    tensors = {"weight": torch.arange(12.0).reshape(3, 4), "count": torch.tensor(3), "bias": torch.ones(2).bfloat16()}
    write_tensors(folder / "fold0.safetensors", tensors, {"normalisation": None, "fold": 0})
    torch.save(tensors, folder / "pretrained.pth")
    kept = {"weights": tensors, "epoch": 2, "score": 0.5, "made_from": "ab"}
    torch.save({"callbacks": {CheckpointKeeper.__qualname__: kept}}, folder / "fold0.ckpt")
    network = folder / "fold0.safetensors"
    yield Kind("network", network, lambda path: (list_tensors(read_tensors(path)[0]), read_about(path)))
    yield Kind("checkpoint", folder / "fold0.ckpt", read_checkpoint)
    yield Kind("pretrained weights", folder / "pretrained.pth", lambda path: list_tensors(read_torch(path)))
