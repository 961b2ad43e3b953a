"""The JSON schema of the experiment file, by which editors complete and check it."""

import json
import logging
from pathlib import Path
from typing import Any

from data.files import read_json, replacing
from terrablend.experiment import Experiment, TableExperiment

__all__ = ["SCHEMA_FILE", "experiment_schema", "write_experiment_file"]

logger = logging.getLogger(__name__)

SCHEMA_FILE = "terrablend.schema.json"
"""Lies beside the experiment files that name it."""

OURS = "Written by Terrablend: `terrablend settings --schema` writes it anew."
"""By this comment a schema is known as one that may be replaced."""


def experiment_schema() -> dict[str, Any]:
    """Return the JSON schema of experiment files: on a table where there is the key ``table``, else on scenes."""
    kinds: dict[str, Any] = {}
    for experiment in (Experiment, TableExperiment):
        schema = _without_titles(experiment.model_json_schema())
        kinds |= schema.pop("$defs")
        kinds[experiment.__name__] = schema
    for kind in kinds.values():
        if "branch" in kind.get("properties", {}):
            # What a member is must be said: with it alone an editor knows which keys it has.
            kind["required"] = ["branch", *kind.get("required", ())]
    on_table, on_scenes = ({"$ref": f"#/$defs/{kind.__name__}"} for kind in (TableExperiment, Experiment))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": OURS,
        "title": "Terrablend experiment",
        "if": {"required": ["table"]},
        "then": on_table,
        "else": on_scenes,
        "$defs": kinds,
    }


def write_experiment_file(path: Path, text: str) -> None:
    """Write an experiment file, and beside it the schema that its first line names to editors.

    A file of the schema's name that is not ours is left alone, and not named.
    """
    schema = path.parent / SCHEMA_FILE
    if _may_write(schema):
        with replacing(schema) as temporary:
            temporary.write_text(json.dumps(experiment_schema(), indent=1, ensure_ascii=False) + "\n", "utf-8")
        text = f"# yaml-language-server: $schema={SCHEMA_FILE}\n{text}"
    else:
        logger.warning("%s: another's file, so editors get no schema. Write it: terrablend settings --schema", schema)
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")


def _may_write(path: Path) -> bool:
    if not path.exists():
        return True
    try:
        return bool(read_json(path).get("$comment") == OURS)
    except (OSError, ValueError, AttributeError):
        return False


def _without_titles(value: Any) -> Any:
    """Return a schema without the titles that only repeat the keys."""
    if isinstance(value, list):
        return [_without_titles(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    return {key: _without_titles(entry) for key, entry in value.items() if key != "title" or not isinstance(entry, str)}
