"""The JSON Schema of a configuration file: what an editor can check. Made from the types that reading follows."""

from collections.abc import Mapping
from typing import Any

import msgspec
import msgspec.inspect as inspect

from service.config import checks, quantities, shape
from service.config.accounts import ACCOUNT_TYPES
from service.config.lanes import Kinds
from service.config.model import Configuration
from service.config.secrets import Secret
from service.config.shape import Key, Marks

Schema = dict[str, Any]

_ENV: Schema = {
    "type": "object",
    "properties": {"env": {"type": "string", "minLength": 1}},
    "required": ["env"],
    "additionalProperties": False,
}
_FILE: Schema = {
    "type": "object",
    "properties": {"file": {"type": "string", "minLength": 1}},
    "required": ["file"],
    "additionalProperties": False,
}
_TEXT: Schema = {"type": "string", "minLength": 1}

_FORMS: Mapping[str, Schema] = {
    "duration": {"type": "string", "pattern": quantities.DURATION_PATTERN},
    "size": {"type": "string", "pattern": quantities.SIZE_PATTERN},
    "fraction": {"type": "string", "pattern": quantities.FRACTION_PATTERN},
    "start": {"anyOf": [{"enum": ["earliest", "latest"]}, {"type": "string", "format": "date-time"}]},
    "username": {"anyOf": [_TEXT, _ENV, _FILE]},
    "name_or_env": {"anyOf": [_TEXT, _ENV]},
    "path": _TEXT,
    "secret": {"oneOf": [_ENV, _FILE]},
}


_EXPRESSION: Schema = {"type": ["string", "boolean", "integer"]}
_TEMPLATES = {"object": ["object"], "list": ["array"], "value": ["object", "array"]}


def configuration_schema(kinds: Kinds) -> Schema:
    """The JSON Schema (2020-12) of a file with these handlers."""
    schema = _mapping(shape.keys_of(Configuration))
    properties = schema["properties"]
    properties["accounts"] |= _named(checks.ACCOUNT_NAME, _accounts())
    properties["lanes"] |= {**_named(checks.LANE_NAME, _lanes(kinds)), "minProperties": 1}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Fanline's configuration",
        **schema,
    }


def _named(pattern: str, entry: Schema) -> Schema:
    return {"type": "object", "patternProperties": {pattern: entry}, "additionalProperties": False}


def _accounts() -> Schema:
    entries = []
    for platform, cls in ACCOUNT_TYPES.items():
        entry = _mapping(shape.keys_of(cls))
        entry["properties"]["platform"] = {"const": platform}
        entries.append(entry)
    return {"oneOf": entries}


def _lanes(kinds: Kinds) -> Schema:
    entries = []
    for name, kind in kinds.items():
        entry = _mapping((*shape.common_keys(kind), *shape.keys_of(kind.config)))
        entry["properties"]["handler"] = {"const": name}
        entries.append(entry)
    return {"oneOf": entries}


def _mapping(keys: tuple[Key, ...]) -> Schema:
    schema: Schema = {
        "type": "object",
        "properties": {key.name: _described(key) for key in keys},
        "additionalProperties": False,
    }
    if required := [key.name for key in keys if key.required]:
        schema["required"] = required
    return schema


def _described(key: Key) -> Schema:
    schema: Schema = {"description": key.meaning} if key.meaning else {}
    if not key.required and not key.marks.get("default"):
        schema["default"] = shape.plain(key.default, shape.deep_marks(key))
    if key.name in ("accounts", "lanes"):
        return schema
    return schema | _available(key)


def _available(key: Key) -> Schema:
    """The schema of a key without what comes with a later version."""
    later = key.marks.get("later")
    if isinstance(later, list) and isinstance(key.type, inspect.LiteralType):
        return {"enum": [value for value in key.type.values if value not in later]}
    if later:
        return {"enum": ["off", False] if key.marks.get("off") else [None]}
    return _schema(key.type, key.marks)


def _schema(type_: inspect.Type, marks: Marks) -> Schema:
    members = [_schema_of_one(member, own) for member, own in shape.alternatives(type_, marks)]
    return members[0] if len(members) == 1 else {"anyOf": members}


def _schema_of_one(type_: inspect.Type, marks: Marks) -> Schema:
    if isinstance(type_, inspect.NoneType):
        return {"enum": ["off", False]} if marks.get("off") else {"type": "null"}
    if "expression" in marks:
        return dict(_EXPRESSION)
    if "template" in marks:
        return {"type": [*_EXPRESSION["type"], *_TEMPLATES[marks["template"]], "null"]}
    if form := marks.get("form"):
        return dict(_FORMS[form])
    match type_:
        case inspect.CustomType(cls=cls) if cls is Secret:
            return dict(_FORMS["secret"])
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.IntType():
            return {"type": "integer", **_number_bounds(type_)}
        case inspect.FloatType():
            return {"type": "number", **_number_bounds(type_)}
        case inspect.StrType(min_length=low, max_length=high):
            return {"type": "string", **_given(minLength=low, maxLength=high)}
        case inspect.LiteralType(values=values):
            return {"enum": list(values)}
        case inspect.VarTupleType(item_type=item, min_length=low, max_length=high):
            return {"type": "array", "items": _schema(item, {}), **_given(minItems=low, maxItems=high)}
        case inspect.DictType(value_type=value):
            return {"type": "object", "additionalProperties": _schema(value, {})}
        case inspect.StructType(cls=cls):
            return _mapping(shape.keys_of(cls))
    return {}


def _number_bounds(type_: inspect.IntType | inspect.FloatType) -> Schema:
    return _given(minimum=type_.ge, exclusiveMinimum=type_.gt, maximum=type_.le, exclusiveMaximum=type_.lt)


def _given(**bounds: float | None) -> Schema:
    return {name: bound for name, bound in bounds.items() if bound is not None}


def schema_json(kinds: Kinds) -> bytes:
    """The schema as the bytes of a file."""
    return msgspec.json.format(msgspec.json.encode(configuration_schema(kinds)), indent=2) + b"\n"
