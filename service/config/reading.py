"""From the nodes of a document to the structs of the model, collecting every fault with its place.

msgspec's own conversion stops at the first fault and knows no places, so the types are walked here.
"""

import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import msgspec.inspect as inspect

from service.config import quantities, shape
from service.config.document import Node, join
from service.config.expressions import ExpressionFault, check_expression
from service.config.faults import Fault, Places
from service.config.lanes import Start
from service.config.secrets import Secret
from service.config.shape import Key, Marks


class _Faulty(Enum):
    FAULTY = "faulty"


# Stands for a value that was refused; its fault is recorded.
FAULTY: Final = _Faulty.FAULTY

_ANY: Final = inspect.AnyType()
_LEAF: Final[Marks] = {"expression": "value"}

# Looks at what is readable of a mapping, by the model's names; yields (key of the file or "", problem).
Check = Callable[[Mapping[str, Any]], Iterable[tuple[str, str]]]


class Reader:
    """Reads nodes into values. ``faults`` grows; a value of :data:`FAULTY` means that one was added."""

    def __init__(self, places: Places, folder: Path, checks: Mapping[type, Check]) -> None:
        self.faults: list[Fault] = []
        self._places = places
        self._folder = folder
        self._checks = checks

    def fault(self, path: str, problem: str) -> Literal[_Faulty.FAULTY]:
        """Record what is wrong at ``path``."""
        self.faults.append(self._places.fault(path, problem))
        return FAULTY

    def mapping(self, node: Node) -> dict[str, Node]:
        """The entries of a mapping; empty, with a fault, if it is none."""
        if isinstance(node.value, dict):
            return node.value
        self.fault(node.path, f"expected a mapping, not {_shown(node)}")
        return {}

    def struct(self, cls: type[msgspec.Struct], node: Node) -> Any:
        """A mapping read as ``cls``."""
        if not isinstance(node.value, dict):
            return self.fault(node.path, f"expected a mapping, not {_shown(node)}")
        keys = shape.keys_of(cls)
        self.refuse_unknown(node, [key.name for key in keys])
        return self.build(cls, self.values(keys, node), node.path)

    def refuse_unknown(self, node: Node, known: Iterable[str], of: str = "") -> None:
        """Record each key of the mapping that does not exist."""
        names = list(known)
        for name in self.mapping(node):
            if name not in names:
                hint = _did_you_mean(name, names) or f"; allowed: {', '.join(names)}"
                self.fault(join(node.path, name), f"unknown key{of}{hint}")

    def values(self, keys: Iterable[Key], node: Node) -> dict[str, Any]:
        """The values of a mapping by the model's names: defaults filled in, refused ones left out."""
        entries = self.mapping(node)
        values: dict[str, Any] = {}
        for key in keys:
            if key.name in entries:
                value = self.value_of(key, entries[key.name])
            elif key.required:
                expected = shape.allowed(key.type, key.marks)
                value = self.fault(join(node.path, key.name), f"is required: {expected}")
            else:
                value = key.default
            if value is not FAULTY:
                values[key.field] = value
        return values

    def build(self, cls: type[msgspec.Struct], values: Mapping[str, Any], path: str) -> Any:
        """The struct of these values, checked as a whole. Left-out values mean that a fault is recorded."""
        wrong = False
        for name, problem in self._checks.get(cls, _no_check)(values):
            wrong = True
            self.fault(join(path, name) if name else path, problem)
        if wrong or len(values) < len(cls.__struct_fields__):
            return FAULTY
        try:
            return cls(**values)
        except ValueError as error:  # from the struct's own __post_init__
            return self.fault(path, str(error))

    def value_of(self, key: Key, node: Node) -> Any:
        """The value of a key, refused where its function comes with a later version."""
        if node.value is None and "expression" in key.marks and key.default == "null":
            return key.default
        value = self.read(key.type, key.marks, node)
        later = key.marks.get("later")
        if value is FAULTY or not later or value == key.default:
            return value
        if isinstance(later, list) and value not in later:
            return value
        instead = "leave it out" if key.default is None else f"what is: {shape.written(key.default, key.marks)}"
        return self.fault(node.path, f"{_shown(node)} is not available in this version; {instead}")

    def read(self, type_: inspect.Type, marks: Marks, node: Node) -> Any:
        """A node read as a type of the model."""
        members = list(shape.alternatives(type_, marks))
        if any(isinstance(member, inspect.NoneType) for member, _ in members):
            if _is_off(node) if marks.get("off") else node.value is None:
                return None
            members = [pair for pair in members if not isinstance(pair[0], inspect.NoneType)]
        fitting = [pair for pair in members if _fits(pair, node)]
        if len(fitting) > 1 and any("expression" not in own for _, own in fitting):
            # "an int or an expression": what stands bare is the int.
            fitting = [pair for pair in fitting if "expression" not in pair[1]] or fitting
        if not fitting:
            return self.fault(node.path, f"expected {shape.allowed(type_, marks)}, not {_shown(node)}")
        return self._read_one(*fitting[0], node)

    def _read_one(self, type_: inspect.Type, marks: Marks, node: Node) -> Any:
        if "expression" in marks:
            return self._expression(marks, node)
        if "template" in marks:
            return self._template(marks["template"], node)
        if form := marks.get("form"):
            return self._form(form, type_, marks, node)
        match type_:
            case inspect.StructType(cls=cls):
                return self.struct(cls, node)
            case inspect.DictType(value_type=value_type):
                return self._dict(value_type, node)
            case inspect.VarTupleType() | inspect.ListType():
                return self._list(type_, node)
            case inspect.CustomType(cls=cls) if cls is Secret:
                return self._secret(node, ("env", "file"))
            case inspect.AnyType():
                return node.plain()
            case inspect.LiteralType(values=values) if node.value not in values:
                hint = _did_you_mean(str(node.value), [str(value) for value in values])
                return self.fault(node.path, f"expected {shape.choices(values)}, not {_shown(node)}{hint}")
            case inspect.StrType(min_length=low, max_length=high):
                return self._text(str(node.value), low, high, node)
            case inspect.FloatType() | inspect.IntType():
                return self._bounded(type_, marks, node, node.value)
        return node.value

    def _bounded(self, type_: inspect.Type, marks: Marks, node: Node, value: Any) -> Any:
        if isinstance(type_, inspect.FloatType):
            value = float(value)
        if shape.broken_bound(type_, value, marks):
            return self.fault(node.path, f"expected {shape.allowed(type_, marks)}, not {_shown(node)}")
        return value

    def _text(self, text: str, low: int | None, high: int | None, node: Node) -> Any:
        if low is not None and len(text) < low:
            return self.fault(node.path, f"expected a text of at least {low} characters")
        if high is not None and len(text) > high:
            return self.fault(node.path, f"expected a text of at most {high} characters")
        return text

    def _list(self, type_: inspect.VarTupleType | inspect.ListType, node: Node) -> Any:
        assert isinstance(node.value, tuple)
        low, high = type_.min_length or 0, type_.max_length
        if len(node.value) < low or (high is not None and len(node.value) > high):
            most = "" if high is None else f" and at most {high}"
            return self.fault(node.path, f"expected a list with at least {low}{most} items")
        items = [self.read(type_.item_type, {}, item) for item in node.value]
        return FAULTY if FAULTY in items else tuple(items)

    def _dict(self, value_type: inspect.Type, node: Node) -> Any:
        values = {name: self.read(value_type, {}, entry) for name, entry in self.mapping(node).items()}
        return FAULTY if FAULTY in values.values() else values

    def _expression(self, marks: Marks, node: Node) -> Any:
        value = node.value
        text = ("true" if value else "false") if isinstance(value, bool) else str(value)
        try:
            check_expression(text, wants=marks["expression"], with_row=marks.get("row", False))
        except ExpressionFault as fault:
            return self.fault(node.path, str(fault))
        return text

    def _template(self, wanted: str, node: Node) -> Any:
        """Dicts and tuples of expressions' texts; what is null stays None."""
        value = node.value
        if value is None:
            return None
        if isinstance(value, dict if wanted != "list" else tuple) or (wanted == "value" and isinstance(value, tuple)):
            return self._leaves(node)
        if isinstance(value, dict | tuple | float):
            return self.fault(node.path, f"expected {shape.allowed(_ANY, {'template': wanted})}, not {_shown(node)}")
        return self._expression(_LEAF, node)

    def _leaves(self, node: Node) -> Any:
        if isinstance(node.value, dict):
            entries = {name: self._template("value", entry) for name, entry in node.value.items()}
            return FAULTY if FAULTY in entries.values() else entries
        assert isinstance(node.value, tuple)
        items = [self._template("value", item) for item in node.value]
        return FAULTY if FAULTY in items else tuple(items)

    def _form(self, form: str, type_: inspect.Type, marks: Marks, node: Node) -> Any:
        if form == "username":
            if isinstance(node.value, str):
                return Secret(text=node.value) if node.value else self.fault(node.path, "expected a text")
            return self._secret(node, ("env", "file"))
        if form == "secret":
            return self._secret(node, ("env", "file"))
        if form == "name_or_env":
            return self._name(node)
        assert isinstance(node.value, str)
        if form == "path":
            return str(self._folder / node.value) if node.value else self.fault(node.path, "expected a path")
        try:
            value = _PARSERS[form](node.value)
        except ValueError as error:
            return self.fault(node.path, f"{error}, not {_shown(node)}")
        return self._bounded(type_, marks, node, value)

    def _secret(self, node: Node, kinds: tuple[str, ...]) -> Any:
        expected = " or ".join(f"{{{kind}: {'NAME' if kind == 'env' else 'PATH'}}}" for kind in kinds)
        if not isinstance(node.value, dict):
            # Never shown: it may be the secret itself.
            return self.fault(node.path, f"expected {expected}; a secret never stands in the file itself")
        entries = node.value
        if len(entries) != 1 or not set(entries) <= set(kinds):
            return self.fault(node.path, f"expected {expected}")
        kind, source = next(iter(entries.items()))
        if not isinstance(source.value, str) or not source.value:
            return self.fault(source.path, "expected a text that is not empty")
        if kind == "env":
            return Secret(env=source.value)
        return Secret(file=self._folder / source.value)

    def _name(self, node: Node) -> Any:
        if isinstance(node.value, str):
            return node.value or self.fault(node.path, "expected a text that is not empty")
        secret = self._secret(node, ("env",))
        if secret is FAULTY:
            return FAULTY
        name = self.mapping(node)["env"].value
        return os.environ.get(str(name)) or self.fault(node.path, f"environment variable {name} is not set")


def _no_check(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    return iter(())


def _is_off(node: Node) -> bool:
    return node.value == "off" or node.value is False


def _fits(member: tuple[inspect.Type, Marks], node: Node) -> bool:
    """Whether a node has the shape that a type of the model is written with."""
    type_, marks = member
    value = node.value
    if "expression" in marks:
        return isinstance(value, str | bool | int)
    if form := marks.get("form"):
        return isinstance(value, str) or (form in ("username", "name_or_env", "secret") and isinstance(value, dict))
    match type_:
        case inspect.CustomType() | inspect.AnyType():
            return True
        case inspect.StructType() | inspect.DictType():
            return isinstance(value, dict)
        case inspect.VarTupleType() | inspect.ListType():
            return isinstance(value, tuple)
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case inspect.FloatType():
            return isinstance(value, int | float) and not isinstance(value, bool)
        case inspect.StrType():
            return isinstance(value, str)
        case inspect.LiteralType(values=values):
            # By type, for true is 1; which of them it is, is looked at when it is read.
            return type(value) in {type(known) for known in values}
    raise TypeError(f"the configuration cannot hold {type_}")


def _shown(node: Node) -> str:
    """A value in a message, short."""
    if isinstance(node.value, dict):
        return "a mapping"
    if isinstance(node.value, tuple):
        return "a list"
    if isinstance(node.value, str):
        text = node.value if len(node.value) <= 60 else f"{node.value[:59]}…"
        return f'"{text}"'
    return msgspec.json.encode(node.value).decode()


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f'; did you mean "{close[0]}"?' if close else ""


def _start(text: str) -> Start:
    if text == "earliest":
        return Start(policy="earliest")
    if text == "latest":
        return Start(policy="latest")
    problem = "expected earliest, latest or a time with its zone such as 2026-01-31T00:00:00Z"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(problem) from None
    if moment.tzinfo is None or moment.year < 1970:
        raise ValueError(problem)
    return Start(policy="time", time_ms=round(moment.timestamp() * 1000))


_PARSERS: dict[str, Callable[[str], Any]] = {
    "duration": quantities.duration_s,
    "size": quantities.size_bytes,
    "fraction": quantities.fraction,
    "start": _start,
}
