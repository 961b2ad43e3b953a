"""The base of every settings model, and what their fields have in common."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    JsonValue,
    model_validator,
)
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_before_validator_function

from data.names import expand_ranges, near_name

__all__ = ["BandNames", "OneOrMore", "Settings", "aliases"]


def aliases(*names: str) -> dict[str, JsonValue]:
    """Return what a field's ``json_schema_extra`` says of the names that libraries have for it; they are read too."""
    return {"aliases": [*names]}


class OneOrMore:
    """Marks a list of which one entry may be written alone: ``Annotated[list[str], OneOrMore()]``."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read an entry alone as a list of it."""
        return no_info_before_validator_function(
            lambda value: value if isinstance(value, list | tuple) else [value], handler(source)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe a list, or an entry."""
        several = handler(schema)
        return {"anyOf": [several["items"], several]}


BandNames = Annotated[list[str], AfterValidator(expand_ranges), OneOrMore()]
"""Names of bands or features; ``A00..A63`` stands for all from the first to the last."""


class Settings(BaseModel):
    """Values read from the experiment file: immutable, and an unknown key is an error.

    Attributes
    ----------
    shorthand : str
        Key that a text alone stands for; empty where a text says too little.
    elsewhere : mapping of str to str
        Keys of other libraries for which there is no setting here, and what serves instead.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    shorthand: ClassVar[str] = ""
    elsewhere: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def key_names(cls) -> dict[str, str]:
        """Return every name that is read, and the key that it stands for."""
        names = {key: key for key in cls.model_fields}
        for key, field in cls.model_fields.items():
            extra = field.json_schema_extra
            also = extra.get("aliases") if isinstance(extra, dict) else None
            if isinstance(also, list):
                names |= {str(alias): key for alias in also}
        return names

    @classmethod
    def with_defaults(cls, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
        """Return values with the defaults of those keys that are given under none of their names."""
        names = cls.key_names()
        given = {names.get(key, key) for key in values}
        return {**{key: value for key, value in defaults.items() if key not in given}, **values}

    @model_validator(mode="before")
    @classmethod
    def _read_keys(cls, values: Any) -> Any:
        if isinstance(values, str) and cls.shorthand:
            return {cls.shorthand: values}
        if not isinstance(values, dict):
            return values
        names, read = cls.key_names(), dict[str, Any]()
        unknown = [f"{name}.{cls._hint(str(name), names)}" for name in values if name not in names]
        if unknown:
            raise ValueError(f"expected keys among {', '.join(cls.model_fields)}, got {' Got also '.join(unknown)}")
        for name, value in values.items():
            if names[name] in read:
                twice = [other for other in values if names[other] == names[name]]
                raise ValueError(f"expected {names[name]} once, got {' and '.join(twice)}. Leave one of them out")
            read[names[name]] = value
        return read

    @classmethod
    def _hint(cls, name: str, names: Mapping[str, str]) -> str:
        if name in cls.elsewhere:
            return f" {cls.elsewhere[name]}"
        near = near_name(name, names)
        return f" Did you mean {names[near]}?" if near else ""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe what is read: every name of a key, and the text alone that stands for one."""
        reference = handler(schema)
        described = handler.resolve_ref_schema(reference)
        properties = described["properties"]
        # A pattern is checked like a property, but no editor offers it.
        described["patternProperties"] = {
            f"^{name}$": deepcopy(properties[key]) for name, key in cls.key_names().items() if name != key
        }
        if cls.shorthand:
            spelled_out = dict(described)
            described.clear()
            described["anyOf"] = [deepcopy(properties[cls.shorthand]), spelled_out]
        return reference
