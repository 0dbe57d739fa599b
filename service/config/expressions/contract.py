"""Expressions against the contracts: which variables, fields and functions there are.

The shapes are taken from the structs of ``contracts.events``, so a new field of a contract needs nothing here.
``data`` has the fields of both event types. Only maps of the contracts (identifiers, attributes, context) are open.
"""

import difflib
from collections.abc import Iterable, Mapping

import msgspec.inspect as inspect
from msgspec import Struct

from contracts.events import ContactChanged, Event, NotificationOccurred
from service.config.expressions.engine import cel
from service.config.expressions.syntax import (
    Call,
    Const,
    ExpressionFault,
    Index,
    Items,
    Name,
    Operation,
    Select,
    Tree,
)


class Scalar(Struct, frozen=True):
    """A value without fields. ``text``: always a string."""

    text: bool = False


class ListOf(Struct, frozen=True):
    """A list."""

    item: "Shape"


class Open(Struct, frozen=True):
    """A map with any keys."""

    item: "Shape"


class Closed(Struct, frozen=True):
    """A mapping with the fields of a contract."""

    fields: Mapping[str, "Shape"]


class Anything(Struct, frozen=True):
    """Nothing is known."""


Shape = Scalar | ListOf | Open | Closed | Anything

ANYTHING = Anything()


def _shape(type_: inspect.Type) -> Shape:
    match type_:
        case inspect.Metadata(type=inner):
            return _shape(inner)
        case inspect.UnionType(types=types):
            shapes = [_shape(member) for member in types if not isinstance(member, inspect.NoneType)]
            return shapes[0] if len(shapes) == 1 else Scalar()
        case inspect.StructType(fields=fields):
            return Closed({field.encode_name: _shape(field.type) for field in fields})
        case inspect.DictType(value_type=value):
            return Open(_shape(value))
        case inspect.ListType(item_type=item):
            return ListOf(_shape(item))
        case inspect.AnyType():
            return ANYTHING
        case inspect.StrType() | inspect.LiteralType():
            return Scalar(text=True)
    return Scalar()


def _fields(cls: type[Struct]) -> Mapping[str, Shape]:
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    return {field.encode_name: _shape(field.type) for field in info.fields}


EVENT_ATTRIBUTES = ("id", "source", "type", "time", "subject", "tenant")
assert set(EVENT_ATTRIBUTES) - {"time"} <= set(Event.__struct_fields__)
DATA: Mapping[str, Shape] = {**_fields(NotificationOccurred), **_fields(ContactChanged)}
ROOTS: Mapping[str, Shape] = {
    "data": Closed(DATA),
    "event": Closed({name: Scalar(text=True) for name in EVENT_ATTRIBUTES}),
    "key": Scalar(),
}

FUNCTIONS = frozenset(
    ("size", "int", "uint", "double", "string", "bytes", "timestamp", "duration", "dyn", "type", "has")
)
_DATE_PARTS = ("FullYear", "Month", "Date", "DayOfMonth", "DayOfWeek", "DayOfYear")
_TIME_PARTS = ("Hours", "Minutes", "Seconds", "Milliseconds")
_TEXT_METHODS = ("size", "contains", "startsWith", "endsWith", "matches")
METHODS = frozenset((*_TEXT_METHODS, *(f"get{part}" for part in (*_DATE_PARTS, *_TIME_PARTS))))
MACROS = frozenset(("all", "exists", "exists_one", "existsOne", "map", "filter"))


# An element of the list that another expression gave; only where the key says so.
ROW = "row"


def check(tree: Tree, *, with_row: bool = False) -> None:
    """Refuse what the contracts do not have. Raises ExpressionFault."""
    _shape_of(tree, {**ROOTS, ROW: ANYTHING} if with_row else ROOTS)


def _shape_of(tree: Tree, scope: Mapping[str, Shape]) -> Shape:
    match tree:
        case Const():
            return Scalar()
        case Name(name):
            if name not in scope:
                raise ExpressionFault(_unknown(f'there is no variable "{name}"', name, scope) + _text_hint(name))
            return scope[name]
        case Select(of, field):
            return _member(tree, _shape_of(of, scope), field)
        case Index(of, at):
            _shape_of(at, scope)
            return _indexed(tree, _shape_of(of, scope))
        case Call():
            return _called(tree, scope)
        case Items(items, is_map=is_map):
            shapes = [_shape_of(item, scope) for item in items]
            same = not is_map and len(shapes) > 0 and all(shape == shapes[0] for shape in shapes)
            return ListOf(shapes[0]) if same else ANYTHING
        case Operation(operator, operands):
            shapes = [_shape_of(operand, scope) for operand in operands]
            if operator == "?:":
                return shapes[1] if shapes[1] == shapes[2] else ANYTHING
            return ANYTHING if operator in "+-*/%" else Scalar()


def _member(tree: Tree, shape: Shape, field: str) -> Shape:
    match shape:
        case Closed(fields):
            if field not in fields:
                raise ExpressionFault(_unknown(f'{written(tree)}: there is no field "{field}"', field, fields))
            return fields[field]
        case Open(item):
            return item
        case Anything():
            return ANYTHING
    what = "a list" if isinstance(shape, ListOf) else "a single value"
    raise ExpressionFault(f"{written(tree)}: {what} has no fields")


def _indexed(tree: Index, shape: Shape) -> Shape:
    constant = tree.at.value if isinstance(tree.at, Const) else None
    match shape:
        case Closed():
            if not isinstance(constant, str):
                raise ExpressionFault(f"{written(tree)}: a field is named by a constant text")
            return _member(tree, shape, constant)
        case ListOf(item):
            if constant is not None and type(constant) is not int:
                raise ExpressionFault(f"{written(tree)}: items of a list are counted from 0")
            return item
        case Open(item):
            return item
        case Scalar():
            raise ExpressionFault(f"{written(tree)}: a single value has no items")
    return ANYTHING


def _called(call: Call, scope: Mapping[str, Shape]) -> Shape:
    if call.target is not None and call.function in MACROS:
        return _macro(call, call.target, scope)
    known = FUNCTIONS if call.target is None else METHODS | MACROS
    if call.function not in known:
        raise ExpressionFault(_unknown(f'there is no function "{call.function}"', call.function, known))
    for part in (*call.args, *([] if call.target is None else [call.target])):
        _shape_of(part, scope)
    if call.function == "matches" and call.args and isinstance(call.args[0], Const):
        _check_pattern(call.args[0].value)
    return ANYTHING if call.function in ("dyn", "timestamp", "duration") else Scalar()


def _macro(call: Call, target: Tree, scope: Mapping[str, Shape]) -> Shape:
    shape = _shape_of(target, scope)
    variable = call.args[0] if call.args else None
    if not isinstance(variable, Name) or len(call.args) not in (2, 3):
        raise ExpressionFault(f"{call.function} needs a variable and an expression over it")
    if variable.name in scope:
        # The library would shadow it, and the next reader of the file would not.
        raise ExpressionFault(f'the variable "{variable.name}" of {call.function} hides another of this name')
    match shape:
        case ListOf(item):
            pass
        case Open() | Closed():
            item = Scalar(text=True)  # its keys
        case Scalar():
            raise ExpressionFault(f"{written(target)}: a single value has no items")
        case _:
            item = ANYTHING
    shapes = [_shape_of(part, {**scope, variable.name: item}) for part in call.args[1:]]
    if call.function == "filter":
        return ListOf(item)
    return ListOf(shapes[-1]) if call.function == "map" else Scalar()


def _check_pattern(pattern: object) -> None:
    try:
        cel.compile("text.matches(pattern)").execute({"text": "", "pattern": pattern})
    except (RuntimeError, TypeError):
        raise ExpressionFault("matches needs a regular expression (RE2) that is valid") from None


def written(tree: Tree) -> str:
    """A path as somebody would write it; other parts as ``(…)``."""
    match tree:
        case Name(name):
            return name
        case Select(of, field):
            return f"{written(of)}.{field}"
        case Index(of, Const(value)):
            return f'{written(of)}["{value}"]' if isinstance(value, str) else f"{written(of)}[{value}]"
        case Index(of, _):
            return f"{written(of)}[…]"
    return "(…)"


def _unknown(problem: str, name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f'{problem}; did you mean "{close[0]}"?' if close else f"{problem}; there are {', '.join(names)}"


def _text_hint(name: str) -> str:
    return f"""; a constant text is written '"{name}"'"""
