"""Accessors of our own for what lanes mostly ask: a plain path, and comparisons of paths with constants.

They work on the structs of an event, where the library first needs the event as dictionaries. They give exactly what
the library gives (a test compares both on generated events), and hand the odd value over to it: each accessor
returns a value, :data:`MISSING` where the library raises for a missing field, or :data:`UNUSUAL` where the library
must decide.
"""

from collections.abc import Callable
from math import isfinite
from typing import Any, Final

from contracts.events import INT64_MAX, INT64_MIN, Event
from contracts.timestamps import instant_text
from service.config.expressions.consents import Test, consent_test
from service.config.expressions.contract import ROOTS, Anything, Closed, ListOf, Open, Scalar, Shape
from service.config.expressions.syntax import Call, Const, Index, Items, Name, Operation, Select, Tree


class Mark:
    """Stands for the absence of a value."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


MISSING: Final = Mark("MISSING")
UNUSUAL: Final = Mark("UNUSUAL")

Accessor = Callable[[Event, bytes | None], Any]

_CONSENTS = ("data", "consents")


def accessor(tree: Tree) -> Accessor | None:
    """The accessor of an expression, or None where only the library can evaluate it."""
    match tree:
        case Name() | Select() | Index():
            return _path(tree)
        case Call("has", None, (Select(of, field),)):
            return _has(of, field)
        case Call("exists", _, _):
            return _any_consent(consent_test_of(tree))
        case Operation("==" | "!=" as operator, (left, right)):
            if isinstance(left, Const):
                left, right = right, left
            return _comparison(left, right.value, operator == "==") if isinstance(right, Const) else None
        case Operation("in", (left, right)):
            return _membership(left, right)
        case Operation("&&" | "||" as operator, operands):
            accessors = [_boolean(operand) for operand in operands]
            known = [found for found in accessors if found is not None]
            return _chain(known, deciding=operator == "||") if len(known) == len(accessors) else None
        case Operation("!", (operand,)):
            inner = _boolean(operand)
            return None if inner is None else _negation(inner)
    return None


def _boolean(tree: Tree) -> Accessor | None:
    """The accessor of what gives a bool or nothing; other values would need the library's words."""
    if isinstance(tree, Const):
        value = tree.value
        return (lambda event, key: value) if isinstance(value, bool) else None
    return None if isinstance(tree, Name | Select | Index) else accessor(tree)


def steps(tree: Tree) -> tuple[str, ...] | None:
    """The names of a path from its root, if it is one of constant names alone."""
    match tree:
        case Name(name):
            return (name,)
        case Select(of, field) | Index(of, Const(str() as field)):
            before = steps(of)
            return None if before is None else (*before, field)
    return None


def field_of(tree: Tree) -> str | None:
    """The name of a field of the data, if the expression is that and has an accessor."""
    path = steps(tree)
    return path[1] if path is not None and len(path) == 2 and path[0] == "data" and _path(tree) is not None else None


def inner_of(tree: Tree) -> tuple[str, str] | None:
    """The field of the data and what it has in it, if the expression is such a path: ``data.segments.join``."""
    path = steps(tree)
    if path is None or len(path) != 3 or path[0] != "data" or _path(tree) is None:
        return None
    return path[1:] if isinstance(_shape_at(path[:2]), Closed) else None


def text_test_of(tree: Tree) -> tuple[str, str, bool] | None:
    """The field of the data, the text and whether it has to be equal, if the expression compares the two."""
    match tree:
        case Operation("==" | "!=" as operator, (Const(str() as text), field) | (field, Const(str() as text))):
            name = field_of(field)
            return None if name is None else (name, text, operator == "==")
    return None


def consent_test_of(tree: Tree) -> Test | None:
    """The test of the data's consents, if the expression asks whether there is one of constant texts."""
    match tree:
        case Call("exists", target, (variable, condition)) if target is not None and steps(target) == _CONSENTS:
            return consent_test(variable, condition)
    return None


def contained_of(tree: Tree) -> tuple[str, str] | None:
    """The field of the data and the text, if the expression asks whether that is in a list of texts."""
    match tree:
        case Operation("in", (Const(str() as text), right)):
            field = field_of(right)
            is_list = field is not None and _shape_at(("data", field)) == ListOf(Scalar(text=True))
            return (field, text) if field is not None and is_list else None
    return None


def entry_of(tree: Tree) -> tuple[str, str] | None:
    """The map of the data and its key, if the expression is such an entry: ``data.attributes.city``."""
    path = steps(tree)
    if path is None or len(path) != 3 or path[0] != "data" or _path(tree) is None:
        return None
    return path[1:] if isinstance(_shape_at(path[:2]), Open) else None


def _shape_at(path: tuple[str, ...]) -> Shape | None:
    shape: Shape = Closed(ROOTS)
    for name in path:
        if isinstance(shape, Closed):
            shape = shape.fields[name]
        elif isinstance(shape, Open):
            shape = shape.item
        else:
            return None
    return shape


def _path(tree: Tree) -> Accessor | None:
    """Reads a value that needs no conversion: a scalar or a list of scalars."""
    path = steps(tree)
    shape = None if path is None else _shape_at(path)
    plain = isinstance(shape, Scalar | Anything) or (isinstance(shape, ListOf) and isinstance(shape.item, Scalar))
    if path is None or not plain:
        return None
    match path:
        case ("key",):
            return key_text
        case ("event", "time"):
            return _time
        case ("event", name):
            return _attribute(name)
        case ("data", name):
            return _field(name)
        case ("data", name, inner):
            parent = _shape_at(path[:2])
            if isinstance(parent, Closed):
                return _inner_field(name, inner)
            return _entry(name, inner, checked=shape != Scalar(text=True))
    return None


def key_text(event: Event, key: bytes | None) -> Any:
    if key is None:
        return None
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None


def _time(event: Event, key: bytes | None) -> Any:
    text = instant_text(event.time_ms)
    return MISSING if text is None else text


def _attribute(name: str) -> Accessor:
    def read(event: Event, key: bytes | None) -> Any:
        value = getattr(event, name)
        return MISSING if value is None else value

    return read


def _field(name: str) -> Accessor:
    def read(event: Event, key: bytes | None) -> Any:
        value = getattr(event.data, name, None)  # the other event type has no such field
        return MISSING if value is None else value

    return read


def _inner_field(name: str, inner: str) -> Accessor:
    def read(event: Event, key: bytes | None) -> Any:
        value = getattr(getattr(event.data, name, None), inner, None)
        return MISSING if value is None else value

    return read


def _entry(name: str, entry: str, *, checked: bool) -> Accessor:
    def read(event: Event, key: bytes | None) -> Any:
        entries = getattr(event.data, name, None)
        return MISSING if entries is None else entries.get(entry, MISSING)

    def read_checked(event: Event, key: bytes | None) -> Any:
        value = read(event, key)
        return value if value is MISSING or value is None or is_plain(value) else UNUSUAL

    return read_checked if checked else read


def is_plain(value: Any) -> bool:
    """Whether the library gives a value back as it is. It makes doubles of ints beyond 64 bits, and doubles that
    are not finite are no results."""
    kind = type(value)
    if kind is int:
        return bool(INT64_MIN <= value <= INT64_MAX)
    return kind is str or kind is bool or (kind is float and isfinite(value))


def _has(of: Tree, field: str) -> Accessor | None:
    path = steps(of)
    shape = None if path is None else _shape_at(path)
    if path is None or len(path) != 2 or path[0] != "data" or not isinstance(shape, Closed | Open):
        if path == ("data",):
            return lambda event, key: getattr(event.data, field, None) is not None
        return None
    name = path[1]
    is_open = isinstance(shape, Open)

    def read(event: Event, key: bytes | None) -> Any:
        parent = getattr(event.data, name, None)
        if parent is None:
            return MISSING
        return field in parent if is_open else getattr(parent, field, None) is not None

    return read


def _any_consent(test: Test | None) -> Accessor | None:
    if test is None:
        return None

    def read(event: Event, key: bytes | None) -> Any:
        consents = getattr(event.data, "consents", None)
        return MISSING if consents is None else test(consents)

    return read


def _comparison(left: Tree, constant: Any, equal: bool) -> Accessor | None:
    read = _path(left)
    if read is None:
        return None
    if constant is None or isinstance(constant, bool):
        return _same(read, constant, equal)
    if isinstance(constant, str):
        field = field_of(left)
        return _equal_text(read, constant, equal) if field is None else _equal_field(field, constant, equal)
    return _equal_int(read, constant, equal) if type(constant) is int else None


def _same(read: Accessor, constant: bool | None, equal: bool) -> Accessor:
    def compare(event: Event, key: bytes | None) -> Any:
        value = read(event, key)
        if value is MISSING or value is UNUSUAL:
            return value
        return (value is constant) is equal

    return compare


def _equal_text(read: Accessor, constant: str, equal: bool) -> Accessor:
    def compare(event: Event, key: bytes | None) -> Any:
        value = read(event, key)
        if value is MISSING or value is UNUSUAL:
            return value
        return (value == constant) is equal

    return compare


def _equal_field(field: str, constant: str, equal: bool) -> Accessor:
    """The same as :func:`_equal_text` of a field of the data, in half the time."""

    def compare(event: Event, key: bytes | None) -> Any:
        value = getattr(event.data, field, None)
        return MISSING if value is None else (value == constant) is equal

    return compare


def _equal_int(read: Accessor, constant: int, equal: bool) -> Accessor:
    def compare(event: Event, key: bytes | None) -> Any:
        value = read(event, key)
        kind = type(value)
        if kind is int:
            return (value == constant) is equal
        # Whether an int and a double are equal is the library's to say.
        return value if value is MISSING else UNUSUAL if kind is float or value is UNUSUAL else not equal

    return compare


def _membership(left: Tree, right: Tree) -> Accessor | None:
    """``"vip" in data.tags``, and a path that is one of several constant texts."""
    if isinstance(left, Const) and isinstance(left.value, str):
        path = steps(right)
        shape = None if path is None else _shape_at(path)
        if isinstance(shape, ListOf) and shape.item == Scalar(text=True):
            return _contains(_path(right), left.value)
        return None
    if isinstance(right, Items) and not right.is_map:
        texts = [item.value for item in right.items if isinstance(item, Const) and isinstance(item.value, str)]
        if len(texts) == len(right.items):
            return _one_of(_path(left), frozenset(texts))
    return None


def _contains(read: Accessor | None, constant: str) -> Accessor | None:
    if read is None:
        return None

    def test(event: Event, key: bytes | None) -> Any:
        value = read(event, key)
        return value if value is MISSING else constant in value

    return test


def _one_of(read: Accessor | None, texts: frozenset[str]) -> Accessor | None:
    if read is None:
        return None

    def test(event: Event, key: bytes | None) -> Any:
        value = read(event, key)
        if value is MISSING or value is UNUSUAL:
            return value
        return type(value) is str and value in texts

    return test


def _chain(operands: list[Accessor], *, deciding: bool) -> Accessor:
    """``||`` (decided by true) and ``&&`` (by false): one deciding operand counts, even beside a missing field."""

    def test(event: Event, key: bytes | None) -> Any:
        result: Any = not deciding
        for operand in operands:
            value = operand(event, key)
            if value is deciding:
                return deciding
            if value is UNUSUAL:
                return UNUSUAL
            if value is MISSING:
                result = MISSING
        return result

    return test


def _negation(operand: Accessor) -> Accessor:
    def test(event: Event, key: bytes | None) -> Any:
        value = operand(event, key)
        return not value if isinstance(value, bool) else value

    return test
