"""Read a list of scenes: a table with their ids, and what stands in the patterns of their files."""

import csv
from dataclasses import dataclass
from pathlib import Path

from data.addresses import shown_path
from data.errors import CatalogueError
from data.names import list_names
from data.scenes.paths import is_there, resolve_path
from data.survey.patterns import require_name
from data.tables import read_texts

__all__ = ["SceneList", "read_list"]

ID = "id"


@dataclass(frozen=True)
class SceneList:
    """The rows of a list of scenes.

    Parameters
    ----------
    columns : tuple of str
    rows : dict of str to dict
        Scene id → column → text.
    """

    columns: tuple[str, ...]
    rows: dict[str, dict[str, str]]

    def files(self, pattern: str, root: Path) -> dict[str, str]:
        """Return id → path of each scene's file by a pattern with columns, such as ``{image}``; of those there are."""
        filled = {name: self.file(pattern, name, root) for name in self.rows if all(self._cells(pattern, name))}
        return {name: path for name, path in filled.items() if is_there(path)}

    def file(self, pattern: str, name: str, root: Path) -> str:
        """Return the path of a scene's file, whether it is there or not."""
        for column in self.columns:
            pattern = pattern.replace(f"{{{column}}}", self.rows[name].get(column) or f"{{{column}}}")
        return resolve_path(pattern, root)

    def _cells(self, pattern: str, name: str) -> list[str]:
        return [self.rows[name].get(column, "") for column in self.columns if f"{{{column}}}" in pattern]


def read_list(path: Path) -> SceneList:
    """Read a CSV or parquet table with a column ``id``, on this disk or elsewhere.

    Raises
    ------
    CatalogueError
        If it cannot be read, has no such column, names a scene twice or by what is no name of a file.
    RunError
        If it lies elsewhere, and cannot be read.
    """
    shown = shown_path(path)
    try:
        columns, rows = read_texts(path, (ID,), CatalogueError, "Correct list or root.")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CatalogueError(f"{shown}: expected a table of scenes, got: {error}. Correct list or root.") from error
    if ID not in columns or not rows:
        raise CatalogueError(f"{shown}: expected scenes and a column {ID}, got {list_names(columns) or 'nothing'}.")
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        name = row.get(ID, "")
        # It is the name of files that we write.
        if not name or name.startswith(".") or "/" in name or "\\" in name:
            raise CatalogueError(f"{shown}: expected ids that can name files, got {name[:200]!r}. Rename the scene.")
        if name in found:
            raise CatalogueError(f"{shown}: expected each scene once, got {name} again. Remove a row.")
        require_name(name, path)
        found[name] = row
    return SceneList(columns, found)
