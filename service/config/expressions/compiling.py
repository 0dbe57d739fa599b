"""From the text of an expression to what evaluates it on an event.

What is missing (a field, a key of a map) makes a condition false and any other expression None; every other failure
is an ExpressionError, whose message names the place in the file and never holds a value of the event.
"""

import datetime
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from contracts.events import INT64_MAX, INT64_MIN, ContactChanged, Event, NotificationOccurred, Segments
from contracts.timestamps import instant_text
from handlers.base import Expression, ExpressionError, RowValue
from service.config.expressions import accessors, contract
from service.config.expressions.accessors import MISSING, UNUSUAL, Accessor
from service.config.expressions.consents import Test
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
    parse,
)

MAX_TEXT_BYTES = 4 * 1024
MAX_RESULT_BYTES = 1024 * 1024
# A text of at most this many characters is within the bound without being encoded: UTF-8 has 1 to 4 bytes each.
_SHORT = MAX_RESULT_BYTES // 4
# So many ints are within the bound without being counted.
_FEW = MAX_RESULT_BYTES // 16

Wants = Literal["bool", "value"]


def check_expression(text: str, *, wants: Wants = "value", with_row: bool = False) -> None:
    """Refuse what :func:`compile_expression` (or :func:`compile_row_expression`) would refuse. Raises
    ExpressionFault."""
    if with_row:
        compile_row_expression(text, place="")
    else:
        compile_expression(text, place="", wants=wants)


def compile_expression(text: str, *, place: str, wants: Wants = "value") -> Expression:
    """What evaluates ``text`` on an event and its record's key.

    ``wants="bool"`` is a condition: it gives a bool, false where a field is missing. ``place`` begins the messages
    of ExpressionError. Raises ExpressionFault if the text is no CEL or asks for what the contracts do not have.
    Lists may be the event's own, or the same for each event: they are not to be changed.
    """
    tree = _checked(text)
    interpreted = _interpreted(text, tree, place, wants)
    if not _names(tree):
        return _constant(interpreted, wants)
    accessor = accessors.accessor(tree)
    if accessor is None:
        return interpreted
    if wants == "bool":
        return _quick_condition(tree) or _condition(accessor, interpreted)
    value = _value(accessor, interpreted, place)
    field, entry, inner = accessors.field_of(tree), accessors.entry_of(tree), accessors.inner_of(tree)
    if entry is not None:
        return _plain_entry(*entry, value)
    if inner is not None:
        return _few_ints(*inner, value)
    return value if field is None else _short(field, value)


def compile_row_expression(text: str, *, place: str) -> RowValue:
    """Like :func:`compile_expression`, with the variable ``row`` beside the others: any JSON value."""
    tree = _checked(text, with_row=True)
    if not _reads(tree, contract.ROW):
        plain = compile_expression(text, place=place)
        return lambda event, key, row: plain(event, key)
    program, names = cel.compile(text), _names(tree)

    def evaluate(event: Event, key: bytes | None, row: Any) -> Any:
        variables = _variables(names, names.get("data"), event, key)
        return _executed(program, {**variables, contract.ROW: row}, place, "value")

    return evaluate


def interpret_expression(text: str, *, place: str, wants: Wants = "value") -> Expression:
    """Like :func:`compile_expression`, by the library alone: what the accessors are measured against."""
    return _interpreted(text, _checked(text), place, wants)


def _checked(text: str, *, with_row: bool = False) -> Tree:
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise ExpressionFault("is longer than 4 KiB")
    try:
        cel.compile(text)
    except ValueError as error:
        raise ExpressionFault(f"is not CEL: {_first_cause(str(error))}") from None
    try:
        tree = parse(text)
        contract.check(tree, with_row=with_row)
        _names(tree)
    except RecursionError:
        raise ExpressionFault("is nested too deeply, or is too long a chain of operators") from None
    return tree


def _first_cause(message: str) -> str:
    """The first cause in the library's report, with its column."""
    if match := re.search(r"ERROR: <input>:(\d+):(\d+): (?:Syntax error: )?([^\n]*)", message):
        cause = match[3].split(" expecting ")[0]
        return f"{cause} (line {match[1]}, column {match[2]} of the expression)"
    return message.splitlines()[0]


def _constant(interpreted: Expression, wants: Wants) -> Expression:
    """An expression without variables, evaluated once."""
    nothing = Event(id="", source="", type="", data=ContactChanged(contact_id="", change="created"))
    try:
        value = interpreted(nothing, None)
    except ExpressionError as error:
        raise ExpressionFault(str(error).removeprefix(": ")) from None
    return lambda event, key: value


def _condition(accessor: Accessor, interpreted: Expression) -> Expression:
    def condition(event: Event, key: bytes | None) -> Any:
        value = accessor(event, key)
        if value is True or value is False:
            return value
        return False if value is MISSING else interpreted(event, key)

    return condition


def _quick_condition(tree: Tree) -> Expression | None:
    """The condition of what lanes mostly ask."""
    if (equal := accessors.text_test_of(tree)) is not None:
        return _text_condition(*equal)
    if (consent := accessors.consent_test_of(tree)) is not None:
        return _consent_condition(consent)
    contained = accessors.contained_of(tree)
    return None if contained is None else _contains_condition(*contained)


def _consent_condition(test: Test) -> Expression:
    """Whether there is such a consent, without a detour."""

    def condition(event: Event, key: bytes | None) -> Any:
        consents = getattr(event.data, "consents", None)
        return consents is not None and test(consents)

    return condition


def _contains_condition(field: str, text: str) -> Expression:
    """Whether a text is in a list of the event's data, without a detour."""

    def condition(event: Event, key: bytes | None) -> Any:
        found = getattr(event.data, field, None)
        return found is not None and text in found

    return condition


def _text_condition(field: str, text: str, equal: bool) -> Expression:
    """What most conditions are: a text of the event's data and a constant, without a detour."""

    def condition(event: Event, key: bytes | None) -> Any:
        value = getattr(event.data, field, None)
        return value is not None and (value == text) is equal

    return condition


def _value(accessor: Accessor, interpreted: Expression, place: str) -> Expression:
    def read(event: Event, key: bytes | None) -> Any:
        value = accessor(event, key)
        kind = type(value)
        if kind is str:
            return value if len(value) <= _SHORT else interpreted(event, key)
        if value is MISSING:
            return None
        if value is UNUSUAL:
            return interpreted(event, key)
        if kind is list and value and (len(value) > _FEW or type(value[0]) is not int):
            _check_result(value, place)
        return value

    return read


def _short(field: str, value: Expression) -> Expression:
    """What nearly every leaf is: a text of the event's data, in a third of the time."""

    def read(event: Event, key: bytes | None) -> Any:
        text = getattr(event.data, field, None)
        return text if text is None or (type(text) is str and len(text) <= _SHORT) else value(event, key)

    read.field = field  # type: ignore[attr-defined] # a function; who reads many fields of the data at once asks
    return read


def _few_ints(name: str, inner: str, value: Expression) -> Expression:
    """What an event's segments are: a list of some ints in a field of the data, without a detour."""

    def read(event: Event, key: bytes | None) -> Any:
        found = getattr(getattr(event.data, name, None), inner, None)
        if found is None or (type(found) is list and (not found or (len(found) <= _FEW and type(found[0]) is int))):
            return found
        return value(event, key)

    return read


def _plain_entry(name: str, entry: str, value: Expression) -> Expression:
    """What the columns of imports are: an entry of the event's attributes or identifiers, without a detour."""

    def read(event: Event, key: bytes | None) -> Any:
        entries = getattr(event.data, name, None)
        if entries is None:
            return None
        found = entries.get(entry)
        kind = type(found)
        if found is None or kind is bool or (kind is str and len(found) <= _SHORT):
            return found
        if kind is int and INT64_MIN <= found <= INT64_MAX:
            return found
        return value(event, key)

    read.entry = (name, entry)  # type: ignore[attr-defined] # a function; who reads many entries at once asks
    return read


def _interpreted(text: str, tree: Tree, place: str, wants: Wants) -> Expression:
    program = cel.compile(text)
    names = _names(tree)
    fields = names.get("data")

    def evaluate(event: Event, key: bytes | None) -> Any:
        return _executed(program, _variables(names, fields, event, key), place, wants)

    return evaluate


def _executed(program: Any, variables: dict[str, Any], place: str, wants: Wants) -> Any:
    """What the library gives; False or None where a field is missing. Raises ExpressionError."""
    try:
        value = program.execute(variables)
    except KeyError:
        return False if wants == "bool" else None
    except BaseException as error:
        # A panic of the library's Rust code comes as a class that cannot be imported and is no Exception.
        if not isinstance(error, _LIBRARY_ERRORS) and type(error).__name__ != "PanicException":
            raise
        # Without its cause: the library's messages hold values of the event.
        raise ExpressionError(f"{place}: {_failure(error)}") from None
    if wants == "bool" and not isinstance(value, bool):
        raise ExpressionError(f"{place}: must give a bool, not {_kind(value)}")
    _check_result(value, place)
    return value


def _reads(tree: Tree, variable: str) -> bool:
    """Whether an expression reads a variable; macros cannot hide one."""
    match tree:
        case Name(name):
            return name == variable
        case Select(of, _):
            return _reads(of, variable)
        case Index(of, at):
            return _reads(of, variable) or _reads(at, variable)
        case Call(_, target, args):
            return any(_reads(part, variable) for part in (args if target is None else (target, *args)))
        case Items(items) | Operation(_, items):
            return any(_reads(part, variable) for part in items)
    return False


def _names(tree: Tree) -> dict[str, set[str] | None]:
    """The roots that an expression reads; of ``data`` the fields, or None for the whole."""
    names: dict[str, set[str] | None] = {}
    _collect(tree, names)
    return names


def _collect(tree: Tree, names: dict[str, set[str] | None]) -> None:
    path = accessors.steps(tree)
    if path is not None and path[0] == "data" and len(path) > 1:
        fields = names.setdefault("data", set())
        if fields is not None:
            fields.add(path[1])
        return
    match tree:
        case Name(name):
            if name in contract.ROOTS:  # else a variable of a macro: none of them has a root's name
                names[name] = None
        case Select(of, _):
            _collect(of, names)
        case Index(of, at):
            _collect_all((of, at), names)
        case Call(_, target, args):
            _collect_all(args if target is None else (target, *args), names)
        case Items(items) | Operation(_, items):
            _collect_all(items, names)
        case Const():
            pass


def _collect_all(trees: Iterable[Tree], names: dict[str, set[str] | None]) -> None:
    for tree in trees:
        _collect(tree, names)


def _variables(
    names: Mapping[str, set[str] | None], fields: set[str] | None, event: Event, key: bytes | None
) -> dict[str, Any]:
    """The event as the library takes it; what is None in a struct is absent."""
    variables: dict[str, Any] = {}
    if "data" in names:
        wanted = contract.DATA if fields is None else fields
        variables["data"] = _present(event.data, wanted)
    if "event" in names:
        attributes = {name: getattr(event, name) for name in contract.EVENT_ATTRIBUTES if name != "time"}
        attributes["time"] = instant_text(event.time_ms)
        variables["event"] = {name: value for name, value in attributes.items() if value is not None}
    if "key" in names:
        variables["key"] = accessors.key_text(event, key)
    return variables


def _present(data: ContactChanged | NotificationOccurred, wanted: Iterable[str]) -> dict[str, Any]:
    present: dict[str, Any] = {}
    for name in wanted:
        value = getattr(data, name, None)
        if value is None:
            continue
        if type(value) is Segments:
            value = {
                list_name: segments
                for list_name, segments in (("join", value.join), ("leave", value.leave))
                if segments is not None
            }
        elif name == "consents":
            value = [{"channel": c.channel, "topic": c.topic, "status": c.status} for c in value]
        present[name] = value
    return present


_LIBRARY_ERRORS = (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError)


def _failure(error: BaseException) -> str:
    match error:
        case IndexError():
            return "an index lies beyond its list"
        case ZeroDivisionError():
            return "division by zero"
        case OverflowError():
            return "a number is out of range"
        case TypeError():
            return "types that do not go together"
    if match := re.match(r"Function '(\w+)' error", str(error)):
        return f"{match[1]} cannot take this value"
    return "cannot be evaluated"


_KINDS = {bool: "a bool", int: "an int", float: "a double", str: "a string", list: "a list", dict: "a map"}


def _kind(value: Any) -> str:
    return "null" if value is None else _KINDS.get(type(value), f"a {type(value).__name__}")


def _check_result(value: Any, place: str) -> None:
    try:
        size = _size(value)
    except TypeError:
        raise ExpressionError(f"{place}: gives {_result_kind(value)}; use string(…)") from None
    except ValueError:
        raise ExpressionError(f"{place}: gives a double that is no finite number") from None
    if size > MAX_RESULT_BYTES:
        raise ExpressionError(f"{place}: gives more than 1 MiB")


def _result_kind(value: Any) -> str:
    match value:
        case datetime.datetime():
            return "a timestamp"
        case datetime.timedelta():
            return "a duration"
        case bytes():
            return "bytes"
    return "what is no JSON"


def _size(value: Any) -> int:
    """The bytes of a result, about as JSON counts them. Raises TypeError and ValueError for what JSON has not."""
    match value:
        case None | bool() | int():
            return 8
        case float():
            if not math.isfinite(value):
                raise ValueError("not finite")
            return 8
        case str():
            return len(value.encode())
        case list():
            return sum(map(_size, value)) + len(value)
        case dict():
            return sum(map(_size, value.values())) + sum(map(_size, value)) + 2 * len(value)
    raise TypeError(type(value).__name__)
