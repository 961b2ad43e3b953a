"""The mark of a folder that Terrablend made: only there may it replace and remove what it wrote."""

from pathlib import Path

from data.errors import RunError
from data.files import is_hidden, read_json, write_json

__all__ = ["claim_folder", "is_claimed", "mark_folder"]

MARKER = "terrablend.json"
ABOUT = {"made_by": "terrablend", "about": "Terrablend may replace and remove what it wrote in this folder."}


def claim_folder(folder: Path, option: str = "--run") -> None:
    """Make a folder ours: it must be new, empty, or be ours already.

    Parameters
    ----------
    folder : Path
    option : str
        By which the user can name another.

    Raises
    ------
    RunError
        If it holds anything and is not ours, or cannot be written to.
    """
    if is_claimed(folder):
        return
    try:
        others = sorted(path.name for path in folder.iterdir() if not is_hidden(path)) if folder.exists() else []
        if others:
            raise RunError(
                f"{folder}: expected a new or empty folder, or one that Terrablend made, got one with "
                f"{', '.join(others[:3])}{' …' if len(others) > 3 else ''}, which it leaves alone. "
                f"Choose another: {option}."
            )
        mark_folder(folder)
    except OSError as error:
        raise RunError(f"{folder}: expected a folder to write to, got: {error}. Choose another: {option}.") from error


def mark_folder(folder: Path) -> None:
    """Write the mark into a folder that is ours whatever it holds."""
    write_json(folder / MARKER, ABOUT)


def is_claimed(folder: Path) -> bool:
    """Return whether a folder is ours."""
    try:
        return bool(read_json(folder / MARKER)["made_by"] == ABOUT["made_by"])
    except (OSError, ValueError, LookupError, TypeError):
        return False
