"""The report of scenes that have tags: no maps, a card a tag, and what was said of each scene."""

import json
import re

import numpy as np
import pytest

from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from data.scenes.scene import Scene
from data.scenes.windows import Grid
from ensemble import EnsembleSettings, fit_ensemble, score_table
from ensemble.audit.label_audit import audit_labels
from ensemble.fitted import FittedEnsemble
from ensemble.maps import open_maps
from ensemble.report.page import write_report
from ensemble.report.section import ReportSource, RunFacts

from ..conftest import quicklook

TAGS = Classes("multilabel", (0, 1, 2), ("haze", "road", "water"), ((0, 0, 255), (90, 90, 90), (230, 159, 0)))
SETTINGS = EnsembleSettings(sample=2000)


@pytest.fixture
def tags(write_tag_maps):
    """Sixty scenes with tags, and what two members say of them."""
    rng = np.random.default_rng(0)
    has = {f"s{n:02}": (rng.random(3) < 0.4).astype(np.uint8) for n in range(60)}
    scenes = tuple(
        Scene(name, "train", (), Grid(40, 50), group=name, fold=n % 3, tags=tuple(np.flatnonzero(label)))
        for n, (name, label) in enumerate(has.items())
    )

    def say(label):
        return np.rint(65534 * np.clip(0.45 * label + rng.random(3) * 0.55, 0, 1)).astype(np.uint16)

    members = {
        name: write_tag_maps(name, TAGS, {scene: say(label) for scene, label in has.items()}) for name in ("a", "b")
    }
    return Catalogue(TAGS, (), scenes), members


def test_the_report_of_tags_has_cards_and_signs_but_no_maps(tags, browse, tmp_path):
    catalogue, members = tags
    maps = open_maps(members, TAGS)
    ensemble, (nested,) = fit_ensemble(members, catalogue, SETTINGS, seed=0)
    path = tmp_path / "report.html"
    scores, audit = score_table([nested], TAGS, SETTINGS), audit_labels(maps, catalogue, nested)
    fitted = FittedEnsemble(ensemble, (nested,), scores, audit=audit)
    write_report(path, ReportSource(fitted, RunFacts("tags", quicklook), maps, catalogue, SETTINGS))
    page = path.read_text("utf-8")
    body = page[page.index("<main>") :]
    assert "confusion" not in body[: body.index("<script>")]
    shown = re.findall(r"<figure data-fold.*?</figure>", body, re.DOTALL)
    assert len(shown) > 40
    signs = {(True, True): "✓", (True, False): "✗", (False, True): "+"}
    for figure in shown:
        scene = next(scene for scene in catalogue.scenes if f"<b>{scene.id}</b>" in figure)
        said = nested.decisions[scene.fold][nested.final].apply(maps.read(scene)).ravel() == 1
        pairs = zip(TAGS.names, maps.label(scene).ravel() == 1, said, strict=True)
        expected = [f"{signs[bool(has), bool(was_said)]} {tag}" for tag, has, was_said in pairs if has or was_said]
        assert re.findall(r'class="tag">([^<]+)<', figure) == expected
        assert figure.count("<img") == 1
    told = json.loads(re.search(r'id="explorer-data">(.*?)</script>', page)[1])
    having = np.sum([maps.label(scene).ravel() for scene in catalogue.scenes], axis=0)
    assert [row["positives"] for row in told["classes"]] == having.tolist()
    assert told["hectares"] is None
    assert browse(path, "return document.querySelectorAll('.explorer').length") == 3
