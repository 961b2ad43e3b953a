"""Build and run commands of Terrablend; this file needs no QGIS."""

import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["CommandError", "check_words", "file_of_source", "predict_words", "run_command", "run_words"]

OWN = ("PYTHON", "GDAL_", "PROJ_", "QT_", "VIRTUAL_ENV")
"""What QGIS sets for itself begins so; another Python would take it for its own."""


class CommandError(Exception):
    """Why a command could not be run."""


def check_words(experiment, settings=""):
    """Return the words of `terrablend check`."""
    return ["check", experiment, *_set(settings)]


def run_words(experiment, settings=""):
    """Return the words of `terrablend run`."""
    return ["run", experiment, *_set(settings)]


def predict_words(model, scene, out, uncertainty=False):
    """Return the words of `terrablend predict`, for one layer's file."""
    return ["predict", model, scene, "-o", out, *(["--uncertainty"] if uncertainty else [])]


def file_of_source(source):
    """Return the file that a layer's source names; raises CommandError if it is no file of its own."""
    path = source.split("|", 1)[0]
    if not Path(path).is_file():
        raise CommandError(f"{path}: expected a layer that is a raster file, got another source. Save it as a GeoTIFF.")
    return path


def run_command(command, words, tell, is_cancelled=lambda: False):
    """Run a command to its end, telling each line that it prints.

    Parameters
    ----------
    command : str
        Name or path of the command.
    words : list of str
    tell : callable
        Takes a line.
    is_cancelled : callable
        Asked after each line: then the command is ended, and goes on when it is given again.

    Raises
    ------
    CommandError
        If there is no such command, or it ends with an error; with the last lines that it printed.
    """
    found = shutil.which(command)
    if found is None:
        raise CommandError(
            f"{command}: expected the command of Terrablend, got none of that name. Name its path, such as "
            "/home/me/terrablend/.venv/bin/terrablend."
        )
    own = {key: value for key, value in os.environ.items() if not key.startswith(OWN)}
    process = subprocess.Popen(
        [found, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", env=own
    )
    last = []
    with process:
        for line in process.stdout:
            tell(line.rstrip())
            last = [*last[-9:], line.rstrip()]
            if is_cancelled():
                process.terminate()
                break
    if is_cancelled():
        raise CommandError("Cancelled: what was finished is kept, the same command goes on.")
    if process.returncode:
        raise CommandError("\n".join(last) or f"{command} ended with {process.returncode}")


def _set(settings):
    """Return a `--set` for each line of settings such as ``folds.count=4``."""
    return [word for line in settings.splitlines() if line.strip() for word in ("--set", line.strip())]
