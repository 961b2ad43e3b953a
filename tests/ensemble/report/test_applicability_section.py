import re
from dataclasses import replace

import numpy as np
import pytest

from data.scenes.windows import Window
from ensemble.fitted import fit_and_measure
from ensemble.maps import MemberFolder, open_maps
from ensemble.report.applicability_section import _squares, applicability_values
from ensemble.report.section import ReportSource, RunFacts

from ..conftest import LAND, SETTINGS, quicklook


def test_shares_outside_are_those_of_the_pixels_of_each_mapped_class(make_catalogue, make_members):
    classes = LAND
    train, test = make_catalogue(classes), make_catalogue(classes, n_scenes=3, split="test")
    both = replace(train, scenes=train.scenes + test.scenes, statistics=train.statistics | test.statistics)
    directories = make_members(both, a=(3, 0), b=(3, 1))
    members = {name: MemberFolder(path, "trees") for name, path in directories.items()}
    fitted = fit_and_measure(members, both, SETTINGS, seed=0)
    maps = open_maps(directories, classes)
    seen = {}

    def measure(scene, window):
        rng = np.random.default_rng([window.row, window.col, len(scene.id)])
        applicable = rng.integers(0, 2, (window.height, window.width)).astype(np.float32)
        applicable[:3] = np.nan
        seen[scene.id] = applicable
        return np.stack([applicable, applicable, applicable])

    source = ReportSource(fitted, RunFacts("coast", quicklook, applicability=measure), maps, both, SETTINGS)
    [part] = applicability_values(source)["parts"]
    assert part["split"] == "test"
    assert part["n_scenes"] == part["looked_at"] == 3
    mapped, outside = np.zeros((2, classes.n_labels))
    for scene in test.scenes:
        ensemble = fitted.ensemble
        chosen = open_maps({name: directories[name] for name in ensemble.used}, classes)
        label = ensemble.decide(ensemble.proba(chosen.read(scene)))[0]
        known = np.isfinite(seen[scene.id]) & (label < classes.n_labels)
        for index in range(classes.n_labels):
            mapped[index] += np.count_nonzero(known & (label == index))
            outside[index] += np.count_nonzero(known & (label == index) & (seen[scene.id] == 0))
    np.testing.assert_allclose(part["by_label"], outside / mapped)
    assert part["whole"] == pytest.approx(outside.sum() / mapped.sum())
    shares = [share for _, share in part["scenes"]]
    assert shares == sorted(shares, reverse=True)


def test_a_run_without_trees_or_without_other_scenes_has_no_such_section(report, make_catalogue):
    page, _ = report(make_catalogue(), a=(3, 0))
    assert not re.search("Unlike the training scenes", page)


def test_squares_are_spread_over_a_scene_and_never_leave_it(make_catalogue):
    scene = make_catalogue().scenes[0]
    for height, width in ((256, 256), (10, 700), (257, 256), (5000, 4000)):
        grid = replace(scene.grid, height=height, width=width)
        squares = list(_squares(replace(scene, grid=grid)))
        assert all(square.meet(Window(0, 0, height, width)) == square for square in squares)
        assert len(squares) == (1 + (height > 256)) * (1 + (width > 256))
        assert max(square.row + square.height for square in squares) == height
        assert max(square.col + square.width for square in squares) == width
