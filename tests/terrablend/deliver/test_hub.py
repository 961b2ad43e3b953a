"""Uploads of bundles, to a stand-in for the hub."""

from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

import terrablend.deliver.hub as hub
from data.errors import BundleError
from data.files import write_json
from ensemble.decide.decision.blend import Blend
from ensemble.decide.decision.calibration import Calibration
from ensemble.decide.decision.decision import Decision
from ensemble.ensemble import Ensemble

from ...conftest import KELP


class Hub:
    endpoint = "https://hub"

    def __init__(self, files=None, error=None, folder=None):
        self.files, self.error, self.folder, self.repositories = dict(files or {}), error, folder, []

    def create_repo(self, repository, private, exist_ok):
        if self.error:
            raise self.error
        self.repositories.append((repository, private, exist_ok))

    def upload_file(self, path_or_fileobj, path_in_repo, repo_id):
        content = path_or_fileobj if isinstance(path_or_fileobj, bytes) else Path(path_or_fileobj).read_bytes()
        self.files[path_in_repo] = content

    def file_exists(self, repository, name):
        return name in self.files

    def hf_hub_download(self, repository, name):
        path = self.folder / "downloaded.md"
        path.write_bytes(self.files[name])
        return str(path)


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A bundle's zip, whose content lies beside it."""
    folder = tmp_path / "content"
    (folder / "ensemble").mkdir(parents=True)
    decision = Decision((Calibration(), Calibration()), Blend(((0.25, 0.75),)), (0.4,))
    Ensemble(KELP, ("trees", "unet"), "dice", decision, 0.7318, "The blend pays.").save(
        folder / "ensemble/ensemble.json"
    )
    write_json(folder / "manifest.json", {"name": "kelp", "model": "abc"})
    write_json(folder / "item.json", {"bbox": [-60, -52, -58, -51]})
    (folder / "experiment.yaml").write_text(yaml.safe_dump({"scenes": {"bands": ["red", "nir"]}}))
    path = tmp_path / "kelp.zip"
    path.write_bytes(b"zip")

    @contextmanager
    def opened(path):
        yield folder

    monkeypatch.setattr(hub, "open_model", opened)
    return path


def test_a_bundle_goes_to_the_hub_with_a_card(bundle, tmp_path):
    api = Hub(folder=tmp_path)
    assert hub.push_bundle(bundle, "me/kelp", api=api) == "https://hub/me/kelp"
    assert api.repositories == [("me/kelp", True, True)]
    assert api.files["kelp.zip"] == b"zip"
    card = api.files["README.md"].decode()
    head = yaml.safe_load(card.split("---\n")[1])
    assert (head["library_name"], head["pipeline_tag"]) == ("terrablend", "image-segmentation")
    for part in (
        "The blend pays.",
        "red, nir",
        "| dice, nested out of fold | 0.7318 |",
        "| unet | 0.750 |",
        "-60, -52, -58",
    ):
        assert part in card
    # Uploaded again it is written again.
    api.files["README.md"] = card.replace("0.7318", "0.1").encode()
    hub.push_bundle(bundle, "me/kelp", api=api)
    assert "0.7318" in api.files["README.md"].decode()


def test_a_card_that_somebody_wrote_stays(bundle, tmp_path, caplog):
    api = Hub({"README.md": b"# My model"}, folder=tmp_path)
    hub.push_bundle(bundle, "me/kelp", api=api)
    assert api.files["README.md"] == b"# My model"
    assert "its README.md is not ours" in caplog.text


def test_what_the_hub_refuses_is_one_message(bundle, tmp_path):
    with pytest.raises(BundleError, match=r"me/kelp: expected a repository .* got: 401 Client Error\. Log in"):
        hub.push_bundle(bundle, "me/kelp", api=Hub(error=OSError("401 Client Error\nfor you")))
    with pytest.raises(BundleError, match="expected the zip of a bundle"):
        hub.push_bundle(tmp_path / "content", "me/kelp", api=Hub())
