"""The configuration's types, seen as what the file writes: keys, what each allows, how a default is written."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import msgspec.inspect as inspect

from service.config import quantities
from service.config.lanes import HandlerKind, LaneSettings, Start
from service.config.secrets import Secret

Marks = Mapping[str, Any]


class Key(msgspec.Struct, frozen=True):
    """A key of a mapping in the file."""

    name: str  # as the file writes it
    field: str  # as the model names it
    type: inspect.Type  # without its Metadata
    marks: Marks
    meaning: str
    required: bool
    default: Any  # None where required


def keys_of(cls: type[msgspec.Struct]) -> tuple[Key, ...]:
    """The keys of a mapping in the file, without what is filled in while reading."""
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    return tuple(key for key in map(_key, info.fields) if not key.marks.get("given"))


def common_keys(kind: HandlerKind | None) -> tuple[Key, ...]:
    """The keys of every lane, with the defaults of this handler."""
    given = kind.defaults if kind is not None else {}
    return tuple(
        msgspec.structs.replace(key, default=given[key.field]) if key.field in given else key
        for key in keys_of(LaneSettings)
    )


def _key(field: inspect.Field) -> Key:
    type_, meaning = field.type, ""
    marks: dict[str, Any] = {}
    while isinstance(type_, inspect.Metadata):
        marks = {**(type_.extra or {}), **marks}
        meaning = meaning or str((type_.extra_json_schema or {}).get("description", ""))
        type_ = type_.type
    default = None if field.default is msgspec.NODEFAULT else field.default
    if field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    return Key(field.encode_name, field.name, type_, marks, meaning, field.required, default)


def alternatives(type_: inspect.Type, marks: Marks) -> Iterator[tuple[inspect.Type, Marks]]:
    """What a value may be, one by one: a union's members with their own marks."""
    if isinstance(type_, inspect.Metadata):
        yield from alternatives(type_.type, {**marks, **(type_.extra or {})})
    elif isinstance(type_, inspect.UnionType):
        for member in type_.types:
            yield from alternatives(member, marks)
    else:
        yield type_, marks


def allowed(type_: inspect.Type, marks: Marks) -> str:
    """What a value may be, in words that end "expected …"."""
    words = [_allowed_one(member, own) for member, own in alternatives(type_, marks)]
    return " or ".join(dict.fromkeys(words))


_FORMS = {
    "duration": quantities.DURATION,
    "size": quantities.SIZE,
    "fraction": quantities.FRACTION,
    "start": "earliest, latest or a time such as 2026-01-31T00:00:00Z",
    "username": "a text, {env: NAME} or {file: PATH}",
    "name_or_env": "a text or {env: NAME}",
    "path": "the path of a file",
    "secret": "{env: NAME} or {file: PATH}",
}
_TEMPLATES = {
    "object": "a mapping whose leaves are expressions, or an expression",
    "list": "a list whose leaves are expressions, or an expression",
    "value": "a mapping or list whose leaves are expressions, or an expression",
}
SECRET = _FORMS["secret"]


def _allowed_one(type_: inspect.Type, marks: Marks) -> str:
    match type_:
        case inspect.NoneType():
            return "off" if marks.get("off") else "null"
        case inspect.CustomType(cls=cls) if cls is Secret and "form" not in marks:
            return SECRET
        case _ if "template" in marks:
            return _TEMPLATES[marks["template"]]
        case _ if "expression" in marks:
            return "an expression" if marks["expression"] == "value" else "an expression that gives a bool"
        case _ if "form" in marks:
            return _FORMS[marks["form"]] + _bounds(type_, marks)
        case inspect.IntType():
            return "a whole number" + _bounds(type_, marks)
        case inspect.FloatType():
            return "a number" + _bounds(type_, marks)
        case inspect.BoolType():
            return "true or false"
        case inspect.StrType():
            return "a text"
        case inspect.LiteralType(values=values):
            return choices(values)
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            return f"a list, each item {allowed(item, {})}"
        case inspect.DictType() | inspect.StructType():
            return "a mapping"
    return "any value"


def choices(values: Any) -> str:
    """The members of a closed set in words: ``a``, ``a or b``, ``a, b or c``."""
    words = [str(value) for value in values]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _bounds(type_: inspect.Type, marks: Marks) -> str:
    if not isinstance(type_, inspect.IntType | inspect.FloatType):
        return ""
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    bounds = [(word, getattr(type_, bound)) for bound, word in words.items()]
    parts = [f"{word} {written(limit, marks)}" for word, limit in bounds if limit is not None]
    return f", {' and '.join(parts)}" if parts else ""


def broken_bound(type_: inspect.Type, value: float, marks: Marks) -> bool:
    """Whether a number lies outside of the bounds of its type."""
    if not isinstance(type_, inspect.IntType | inspect.FloatType):
        return False
    return (
        (type_.ge is not None and value < type_.ge)
        or (type_.gt is not None and value <= type_.gt)
        or (type_.le is not None and value > type_.le)
        or (type_.lt is not None and value >= type_.lt)
    )


def plain(value: Any, marks: Marks) -> Any:
    """A value of the model as plain data of the file, e.g. 0.2 of a duration as "200ms"."""
    match value:
        case None:
            return "off" if marks.get("off") else None
        case bool():
            return value
        case int() | float() if marks.get("form") in _WRITERS:
            return _WRITERS[marks["form"]](value)
        case float() if value.is_integer():
            return int(value)
        case Start():
            return value.policy
        case msgspec.Struct():
            return {key.name: plain(getattr(value, key.field), deep_marks(key)) for key in keys_of(type(value))}
        case tuple() | list():
            return [plain(item, marks) for item in value]
    return value


def written(value: Any, marks: Marks) -> str:
    """A value of the model as the file writes it."""
    data = plain(value, marks)
    return data if isinstance(data, str) else msgspec.json.encode(data).decode()


def deep_marks(key: Key) -> Marks:
    """The key's marks, with the form of a value that may also be null."""
    return {**key.marks, **next((own for _, own in alternatives(key.type, {}) if "form" in own), {})}


_WRITERS: dict[str, Any] = {
    "duration": quantities.duration_text,
    "size": quantities.size_text,
    "fraction": quantities.fraction_text,
}
