"""Upload a bundle to the Hugging Face hub, with a model card that says what it is and how sure."""

import json
import logging
from pathlib import Path
from typing import Any

import yaml

from data.errors import BundleError
from data.files import read_json
from ensemble.ensemble import Ensemble
from terrablend.deliver.bundle import open_model

__all__ = ["model_card", "push_bundle"]

logger = logging.getLogger(__name__)

OURS = "<!-- written by terrablend -->"
"""In a card; one without it is somebody's own, and stays."""

TASKS = {"binary": "image-segmentation", "multiclass": "image-segmentation", "multilabel": "image-classification"}


def push_bundle(bundle: Path, repository: str, private: bool = True, api: Any = None) -> str:
    """Upload a bundle's zip and its card to a repository of models, which is made if there is none.

    Parameters
    ----------
    bundle : Path
        A zip.
    repository : str
        Owner and name.
    private : bool
        Whether a new repository can be seen by its owner alone.
    api : HfApi, optional
        That of the user who is logged in by default.

    Returns
    -------
    address : str

    Raises
    ------
    BundleError
        If it is no zip of a bundle, or the hub does not take it.
    """
    import huggingface_hub

    if not bundle.is_file():
        raise BundleError(f"{bundle}: expected the zip of a bundle, got none. Write it with -o {bundle.stem}.zip.")
    with open_model(bundle) as folder:
        card = model_card(folder, bundle.name, repository)
    api = api or huggingface_hub.HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_file(path_or_fileobj=str(bundle), path_in_repo=bundle.name, repo_id=repository)
        if _is_own_card(api, repository):
            api.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=repository)
        else:
            logger.warning("%s: its README.md is not ours and stays as it is", repository)
    except (OSError, ValueError) as error:
        said = str(error).strip().splitlines()
        raise BundleError(
            f"{repository}: expected a repository of the Hugging Face hub that may be written to, got: "
            f"{said[0] if said else type(error).__name__}. Log in with `hf auth login`, or correct the name."
        ) from error
    address = f"{api.endpoint}/{repository}"
    logger.info("%s uploaded to %s", bundle, address)
    return address


def model_card(folder: Path, file: str, repository: str) -> str:
    """Return the card of an unpacked bundle, in Markdown.

    Parameters
    ----------
    folder : Path
    file : str
        Name of its zip.
    repository : str
    """
    manifest, ensemble = read_json(folder / "manifest.json"), Ensemble.load(folder / "ensemble" / "ensemble.json")
    item = read_json(folder / "item.json") if (folder / "item.json").is_file() else {}
    classes = ensemble.classes
    head = {
        "library_name": "terrablend",
        "pipeline_tag": TASKS[classes.task],
        "tags": ["remote-sensing", "earth-observation", "terrablend"],
    }
    experiment = yaml.safe_load((folder / "experiment.yaml").read_text("utf-8"))
    bands = experiment["scenes"].get("bands") or [
        band for image in experiment["scenes"]["train"]["image"] for band in image.get("bands", [])
    ]
    members = "\n".join(f"| {name} | {weight:.3f} |" for name, weight in ensemble.weights_.items())
    box = item.get("bbox")
    where = f"Learned in the rectangle {json.dumps(box)} (west, south, east, north).\n\n" if box else ""
    return f"""---
{yaml.safe_dump(head, sort_keys=False)}---
{OURS}

# {manifest["name"]}

{ensemble.verdict_}

| | |
| --- | --- |
| task | {classes.task}: {", ".join(classes.names)} |
| bands | {", ".join(map(str, bands))} |
| {ensemble.metric}, nested out of fold | {ensemble.score_:.4f} |
| model | `{manifest["model"]}` |

{where}| member | weight |
| --- | ---: |
{members}

```
pip install terrablend
hf download {repository} {file} --local-dir .
terrablend predict {file} SCENE.tif -o maps
```

Every file of the bundle is compared with its hashes before it is read, and none is run: models are numbers and trees in
text. Licence and training data are not known to the program that wrote this card: name them here before you publish.
"""


def _is_own_card(api: Any, repository: str) -> bool:
    """Return whether the repository has no card, one that the hub made, or one of ours."""
    if not api.file_exists(repository, "README.md"):
        return True
    text = Path(api.hf_hub_download(repository, "README.md")).read_text("utf-8")
    return OURS in text or not text.strip()
