"""Bundles: all that a finished run needs to map scenes, in one folder or zip that is verified before it is read.

It is laid out as a run folder is, so that models are loaded from both in the same way. Its manifest lists every file
with its size and SHA-256. Nothing in it is run: models are numbers and trees in text.
"""

import errno
import hashlib
import logging
import re
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import IO, Annotated

import yaml
from pydantic import Field, ValidationError, field_validator

from data.archives import ZIP_ERRORS, require_bounded
from data.errors import BundleError, MemberError, TerrablendError
from data.files import (
    clear_leftovers,
    hash_file,
    replacing,
    require_replaceable,
    sync_files,
    temporary_prefix,
    write_json,
)
from data.scenes.catalogue import Catalogue
from data.settings import Settings
from data.survey.verification import verify_scenes
from ensemble.predict import model_id
from terrablend.branches import branch_of
from terrablend.deliver.model_record import describe_model
from terrablend.experiment.files import LIBRARIES
from terrablend.experiment.stacking import learning_order
from terrablend.experiment.written_paths import strip_paths
from terrablend.experiment.yaml_text import brief, parse_yaml
from terrablend.run.scene_run import Run
from terrablend.run.work import applicability_file

__all__ = ["open_model", "write_bundle"]

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
RECORD = "item.json"

LAYOUT = 1
"""Version of what a bundle holds and where."""

SUFFIXES = frozenset({".json", ".yaml", ".txt", ".ubj", ".cbm", ".npz", ".safetensors", ".zip"})
"""What files may be: none that is run when it is read. A zip holds a booster a tag."""

MOST_MANIFEST = 1 << 24
MOST_BYTES = 1 << 36
"""Bytes that a manifest and all files together may have: 16 MiB and 64 GiB."""

CHUNK = 1 << 20
"""Bytes that are read at a time."""

START = (1980, 1, 1, 0, 0, 0)
"""The time of every entry of a zip, the first that it knows: the same bundle has the same bytes."""

LONGEST = 600
"""Characters of a message about what is in a bundle."""

AGAIN = "Do not use it: get the bundle again from where it was made."


class FileRecord(Settings):
    """A file of a bundle, as the manifest records it."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: Annotated[int, Field(ge=0)]


class Manifest(Settings):
    """The manifest of a bundle: where it comes from, and each of its files."""

    bundle: int = Field(description="version of the layout")
    name: str
    model: str = Field(description="id of the ensemble, which is in the tags of its maps too")
    made_with: dict[str, str]
    files: dict[str, FileRecord]

    @field_validator("files")
    @classmethod
    def _safe_paths(cls, files: dict[str, FileRecord]) -> dict[str, FileRecord]:
        for name in files:
            path = PurePosixPath(name)
            plain = re.fullmatch(r"[\w. /-]+", name) and not path.is_absolute() and ".." not in path.parts
            if not plain or str(path) != name or name == MANIFEST:
                raise ValueError(f"expected paths within the bundle, got {name!r}")
            if path.suffix not in SUFFIXES:
                raise ValueError(f"expected files of {', '.join(sorted(SUFFIXES))}, got {name!r}")
        if len({name.casefold() for name in files}) < len(files):
            raise ValueError("expected paths that differ in more than capitals")
        return files


def write_bundle(run: Run, out: Path) -> None:
    """Write the bundle of a run.

    Parameters
    ----------
    run : Run
        With a finished ensemble.
    out : Path
        A zip if it ends in ``.zip``, else a new folder.

    Raises
    ------
    EnsembleError, MemberError
        If the run has no ensemble, or a member that it uses is not trained on every fold.
    RunError, CatalogueError
        If a file is not as the run wrote it, or a scene that is there not as it was read.
    BundleError
        If the folder is there already, and is not the same bundle.
    OutputError
        If the zip is there already, and is no bundle.
    """
    if out.suffix == ".zip":
        require_replaceable(out, _is_bundle)
    elif out.exists() and not (out / MANIFEST).is_file():
        raise _no_new_folder(out)
    ensemble, catalogue = run.load_ensemble(), run.load_catalogue()
    out.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(out.parent)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=temporary_prefix("bundle")) as temporary:
        folder = Path(temporary) / out.stem
        for name in learning_order(run.experiment.members, ensemble.used):
            _copy_member(run, name, folder / "members" / name, len(catalogue.folds))
        run.require_models(ensemble)
        _require_as_written(run, catalogue)
        _copy(run.folder.path / "ensemble" / "ensemble.json", folder / "ensemble" / "ensemble.json")
        if member := run.applicable_member(ensemble):
            _copy(run.folder.path / applicability_file(member), folder / applicability_file(member))
        _copy_experiment(run.folder.path / "experiment.yaml", folder / "experiment.yaml")
        parts = {path: (file.sha256, file.size) for path, file in _hashes(folder).items()}
        write_json(folder / RECORD, describe_model(run, ensemble, catalogue, parts))
        hashes = _hashes(folder)
        manifest = Manifest(
            bundle=LAYOUT,
            name=run.experiment.name,
            model=model_id(ensemble),
            files=hashes,
            made_with={name: version(name) for name in LIBRARIES},
        )
        write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
        if out.suffix == ".zip":
            _zip(folder, out)
        elif out.exists():
            # That very bundle, written before a kill, is as good as new.
            if (out / MANIFEST).read_bytes() != (folder / MANIFEST).read_bytes():
                raise _no_new_folder(out)
            with open_model(out):
                pass
        else:
            sync_files(path for path in folder.rglob("*") if path.is_file())
            folder.replace(out)
    size = sum(file.size for file in hashes.values())
    logger.info("bundle %s: %d files, %.1f MB, in %s", manifest.model, len(hashes), size / 1e6, out)


def _require_as_written(run: Run, catalogue: Catalogue) -> None:
    """Refuse a run that has other files than it wrote, or scenes, where they are still there, that it has not read."""
    for stage in run.stages:
        run.folder.verify_files(stage)
    there = tuple(
        scene
        for scene in catalogue.scenes
        if all(Path(path).exists() for image in scene.images for path in image.paths)
    )
    verify_scenes(replace(catalogue, scenes=there), run.executor, run.track)


def _no_new_folder(out: Path) -> BundleError:
    return BundleError(f"{out}: expected a new folder, got one that is there. Remove it, or choose another: -o.")


@contextmanager
def open_model(path: Path, beside: Path | None = None) -> Iterator[Path]:
    """Open the folder of a run, or of a bundle once each of its files is verified.

    Parameters
    ----------
    path : Path
        A run folder, or a bundle's folder or zip, which is unpacked for as long as this lasts.
    beside : Path, optional
        Folder to unpack it in; that of the system's temporary files by default.

    Raises
    ------
    BundleError
        Naming the first file that was changed, is missing, or is no part of the bundle.
    """
    if path.is_dir():
        # A bundle that lost its manifest is not taken for a run.
        if (path / MANIFEST).exists() or (path / RECORD).exists():
            names = [file.relative_to(path).as_posix() for file in path.rglob("*") if _is_entry(file)]
            _verify(path, names, lambda name: (path / name).open("rb"), None)
        yield path
        return
    if not path.is_file():
        raise BundleError(f"{path}: expected a run folder or a bundle, got no such file. Correct the path.")
    place = beside or Path(tempfile.gettempdir())
    place.mkdir(parents=True, exist_ok=True)
    clear_leftovers(place)
    with tempfile.TemporaryDirectory(prefix=temporary_prefix("bundle"), dir=place) as temporary:
        try:
            with zipfile.ZipFile(path) as archive:
                require_bounded(archive, path.stat().st_size)
                names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
                _verify(path, names, archive.open, Path(temporary))
        except ZIP_ERRORS as error:
            # Of those of the system, a place before the beginning of the file is the zip's.
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            raise BundleError(
                f"{path}: expected the zip of a bundle, got: {error}. Ask for it again, or write it again with "
                "`terrablend bundle`."
            ) from error
        try:
            yield Path(temporary)
        except TerrablendError as error:
            said, inside = str(error), f"{temporary}/"
            if inside not in said:
                if len(said) > LONGEST:
                    raise type(error)(brief(said, LONGEST, plain=True)) from error
                raise
            # The user knows no unpacked files, and can make none of them again.
            found = re.split(r"(?<=\w)\. (?=[A-Z])", said.replace(inside, ""))[0]
            raise BundleError(f"{path}: {brief(found, LONGEST, plain=True).rstrip('.')}. {AGAIN}") from error


def _verify(path: Path, names: list[str], read: Callable[[str], IO[bytes]], target: Path | None) -> None:
    """Compare every file with the manifest, chunk by chunk, and copy it to a folder, if there is one."""
    if MANIFEST not in names:
        raise BundleError(f"{path}: expected a bundle with {MANIFEST}, got none. Write it with `terrablend bundle`.")
    with read(MANIFEST) as stream:
        text = stream.read(MOST_MANIFEST + 1)
    manifest = _parse(path, text)
    listed = {*manifest.files, MANIFEST}
    twice = {name for name, count in Counter(names).items() if count > 1}
    for problem, files in (("unlisted", set(names) - listed), ("missing", listed - set(names)), ("doubled", twice)):
        if files:
            raise BundleError(f"{path}: expected the files of its manifest, got {min(files)!r} {problem}. {AGAIN}")
    for name, record in sorted(manifest.files.items()):
        with read(name) as stream:
            if _check_file(stream, target and target / name, record.size) != record.sha256:
                raise BundleError(f"{path}: expected {name} as its manifest lists it, got other bytes. {AGAIN}")


def _is_entry(file: Path) -> bool:
    """Return whether something in a folder is a file of a bundle; refuse what leads elsewhere, or never ends."""
    if file.is_symlink() or not (file.is_file() or file.is_dir()):
        raise BundleError(f"{file}: expected a plain file in a bundle, got a link or a device. {AGAIN}")
    return file.is_file()


def _parse(path: Path, text: bytes) -> Manifest:
    if len(text) > MOST_MANIFEST:
        raise BundleError(f"{path}: expected a manifest of at most {MOST_MANIFEST} bytes, got more. {AGAIN}")
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        problem = brief(error.errors()[0]["msg"], 300, plain=True)
        raise BundleError(f"{path}: expected the manifest of a bundle, got: {problem}. {AGAIN}") from error
    if manifest.bundle != LAYOUT:
        raise BundleError(
            f"{path}: expected a bundle of layout {LAYOUT}, got {manifest.bundle}. Install the Terrablend "
            f"{manifest.made_with.get('terrablend', '')} that made it."
        )
    total = sum(file.size for file in manifest.files.values())
    if total > MOST_BYTES:
        raise BundleError(f"{path}: expected at most {MOST_BYTES} bytes, got {total}. {AGAIN}")
    return manifest


def _check_file(stream: IO[bytes], target: Path | None, size: int) -> str:
    """Return the SHA-256 of a file, copying it; stop one byte after its size, however far it goes on."""
    digest, left = hashlib.sha256(), size + 1
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
    with nullcontext() if target is None else target.open("xb") as copy:
        while left and (chunk := stream.read(min(left, CHUNK))):
            digest.update(chunk)
            if copy is not None:
                copy.write(chunk)
            left -= len(chunk)
    return digest.hexdigest()


def _is_bundle(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(MANIFEST) as stream:
            _parse(path, stream.read(MOST_MANIFEST + 1))
    except (BundleError, *ZIP_ERRORS):
        return False
    return True


def _copy_member(run: Run, name: str, folder: Path, n_folds: int) -> None:
    files = run.model_files(name)
    models = [path for path in files if path.suffix != ".json"]
    if len(models) != n_folds and branch_of(run.member_settings(name)).computes:
        raise MemberError(
            f"member {name}: expected a model of each of {n_folds} folds, got {len(models)} in "
            f"{run.member_path(name)}. Train it on all folds first: `terrablend run`."
        )
    for path in files:
        _copy(path, folder / path.name)


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def _copy_experiment(path: Path, target: Path) -> None:
    """Copy an experiment file with the names of its files in place of their paths."""
    header, _, text = path.read_text("utf-8").partition("\n")
    values = {**strip_paths(parse_yaml(text, str(path))), "root": "."}
    target.write_text(f"{header}\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}", "utf-8")


def _hashes(folder: Path) -> dict[str, FileRecord]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): FileRecord(sha256=hash_file(path), size=path.stat().st_size)
        for path in files
    }


def _zip(folder: Path, out: Path) -> None:
    with replacing(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), START)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, CHUNK)
