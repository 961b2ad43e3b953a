"""What the Machine Learning Model extension 1.5 of STAC asks of an item, as a JSON schema in our own words."""

TASKS = {
    "type": "array",
    "minItems": 1,
    "uniqueItems": True,
    "items": {"enum": ["scene-classification", "semantic-segmentation"]},
}
ARRAY = {
    "type": "object",
    "required": ["shape", "dim_order", "data_type"],
    "properties": {
        "shape": {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": -1}},
        "dim_order": {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"pattern": "^[a-z_-]+$"}},
        "data_type": {"enum": ["uint8", "uint16", "int16", "int32", "float16", "float32", "float64"]},
    },
    "additionalProperties": False,
}
BAND = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        # A format says how the expression is read: neither is of use alone.
        {"type": "object", "required": ["name", "format", "expression"], "properties": {"name": {"minLength": 1}}},
    ]
}
SCALING = {
    "type": "object",
    "required": ["type", "mean", "stddev"],
    "properties": {"type": {"const": "z-score"}, "mean": {"type": "number"}, "stddev": {"type": "number"}},
}
CLASS = {
    "type": "object",
    "required": ["value", "name"],
    "properties": {
        "value": {"type": "integer"},
        "name": {"pattern": "^[0-9A-Za-z_-]+$"},
        "color_hint": {"pattern": "^[0-9A-F]{6}$"},
    },
}
FIELDS = {
    "mlm:name": {"pattern": r"^[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]$"},
    "mlm:architecture": {"type": "string", "minLength": 1},
    "mlm:framework": {"pattern": r"^(?=[^\s._\-]).*[^\s._\-]$"},
    "mlm:tasks": TASKS,
    "mlm:hyperparameters": {"minProperties": 1, "propertyNames": {"pattern": "^[0-9a-zA-Z_.-]+$"}},
    "mlm:input": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["name", "bands", "input"],
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "bands": {"type": "array", "items": BAND},
                "input": ARRAY,
                "value_scaling": {"type": "array", "items": SCALING},
            },
        },
    },
    "mlm:output": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["name", "tasks", "result"],
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "tasks": TASKS,
                "result": ARRAY,
                "classification:classes": {"type": "array", "items": CLASS},
            },
        },
    },
}
OF_FILES = {"mlm:framework": FIELDS["mlm:framework"], "mlm:artifact_type": {"type": "string", "minLength": 1}}
MODEL = {"properties": {"roles": {"contains": {"const": "mlm:model"}}}}
NO_OTHERS = {"patternProperties": {"^(?!mlm:)": True}, "additionalProperties": False}

ITEM = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["type", "stac_version", "stac_extensions", "id", "geometry", "properties", "links", "assets"],
    "properties": {
        "type": {"const": "Feature"},
        "stac_extensions": {"contains": {"const": "https://stac-extensions.github.io/mlm/v1.5.0/schema.json"}},
        "properties": {
            "required": ["mlm:name", "mlm:architecture", "mlm:tasks", "mlm:input", "mlm:output"],
            "properties": FIELDS,
            **NO_OTHERS,
        },
        "assets": {
            "additionalProperties": {
                "required": ["href", "roles"],
                "properties": OF_FILES,
                **NO_OTHERS,
                # The type of artifact is asked for of models, and of them alone.
                "if": MODEL,
                "then": {"required": ["mlm:artifact_type"]},
                "else": {"not": {"required": ["mlm:artifact_type"]}},
            }
        },
    },
}
