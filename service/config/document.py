"""A YAML file as plain data, each node with its place.

The tags are those of YAML 1.2's core schema: ``yes``, ``no``, ``on`` and ``off`` are texts, dates too, and no tag
makes an object. Refused, all at once where the file still parses: a key twice, a key that is not a text, merge keys
(``<<``), other tags, over 1,000 aliases, over 64 levels, a file over 1 MiB.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import yaml

from service.config.faults import ConfigurationError, Fault, Places

MAX_BYTES = 1024 * 1024
MAX_ALIASES = 1_000
MAX_DEPTH = 64
# Aliases of aliases multiply; a configuration of this size is an attack or a mistake.
MAX_NODES = 200_000
_MOST_TOLD = 200  # characters

Scalar = None | bool | int | float | str


class Node(msgspec.Struct, frozen=True):
    """A value of the file. Its place is that of its key, or its own in a list."""

    path: str
    line: int
    column: int
    value: Scalar | tuple["Node", ...] | dict[str, "Node"]

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, tuple):
            return [node.plain() for node in self.value]
        return self.value


class Document(msgspec.Struct, frozen=True):
    """A file's root node and the place of every path in it."""

    root: Node
    places: Places


def read_document(path: Path) -> Document:
    """The document in a file. Raises ConfigurationError."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError([_whole(str(path), f"cannot be read: {error.strerror}")]) from None
    return parse_document(content, file=str(path))


def parse_document(content: bytes, *, file: str) -> Document:
    """The document in ``content``; ``file`` names it in faults. Raises ConfigurationError."""
    if len(content) > MAX_BYTES:
        raise ConfigurationError([_whole(file, "is larger than 1 MiB")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError([Fault(file, line, 1, "", "is not UTF-8")]) from None
    try:
        _bound(text, file)
        root = yaml.compose(text, Loader=_CoreLoader)
    except yaml.YAMLError as error:
        raise ConfigurationError([_syntax_fault(error, file)]) from None
    if root is None:
        raise ConfigurationError([_whole(file, "is empty")])
    return _Builder(file).document(root)


class _CoreLoader(yaml.SafeLoader):
    """Resolves plain scalars by YAML 1.2's core schema, without its octal and hexadecimal ints."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (the base class declares it so)


_TAG = "tag:yaml.org,2002:"
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
# In this order: the first that matches counts.
_RESOLVERS: tuple[tuple[str, str, str], ...] = (
    ("null", r"(~|null|Null|NULL|)", "~nN"),
    ("bool", "(" + "|".join(_BOOLS) + ")", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]{0,18})", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+0123456789."),
)
_PATTERNS = {tag: re.compile(pattern, re.ASCII) for tag, pattern, _ in _RESOLVERS}
for _tag, _pattern, _first in _RESOLVERS:
    _CoreLoader.add_implicit_resolver(
        _TAG + _tag, re.compile(rf"^(?:{_pattern})$", re.ASCII), [*_first] + ([""] if _tag == "null" else [])
    )


def _bound(text: str, file: str) -> None:
    """Refuse what would make composing costly: PyYAML composes by recursion and expands nothing itself."""
    depth = aliases = 0
    for event in yaml.parse(text, Loader=_CoreLoader):
        if isinstance(event, yaml.AliasEvent):
            aliases += 1
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if aliases > MAX_ALIASES or depth > MAX_DEPTH:
            what = f"over {MAX_ALIASES:,} aliases" if aliases > MAX_ALIASES else f"over {MAX_DEPTH} levels"
            mark = event.start_mark
            assert mark is not None  # PyYAML's parser marks every event
            raise ConfigurationError([Fault(file, mark.line + 1, mark.column + 1, "", f"has {what}")])


def _syntax_fault(error: yaml.YAMLError, file: str) -> Fault:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        mark = error.problem_mark
        # It may quote the file, at any length.
        told = problem if len(problem) <= _MOST_TOLD else f"{problem[: _MOST_TOLD - 1]}…"
        return Fault(file, mark.line + 1, mark.column + 1, "", f"not YAML: {told}")
    return _whole(file, f"not YAML: {str(error).splitlines()[0]}")


def _whole(file: str, problem: str) -> Fault:
    return Fault(file, None, None, "", problem)


class _Builder:
    """Turns PyYAML's nodes into ours, collecting every fault on the way."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._faults: list[Fault] = []
        self._positions: dict[str, tuple[int, int]] = {}
        self._open: set[int] = set()  # ids of the collections being built: one met again contains itself
        self._count = 0

    def document(self, root: yaml.Node) -> Document:
        mark = root.start_mark
        node = self._node(root, "", (mark.line + 1, mark.column + 1))
        if self._faults:
            raise ConfigurationError(self._faults)
        return Document(root=node, places=Places(self._file, self._positions))

    def _node(self, node: yaml.Node, path: str, place: tuple[int, int]) -> Node:
        self._count += 1
        if self._count > MAX_NODES:
            raise ConfigurationError([_whole(self._file, f"has over {MAX_NODES:,} values, aliases written out")])
        self._positions[path] = place
        value: Any = None
        if isinstance(node, yaml.ScalarNode):
            value = self._scalar(node, path, place)
        elif id(node) in self._open:
            self._fault(path, place, "contains itself by an alias")
        else:
            self._open.add(id(node))
            value = self._collection(node, path, place)
            self._open.discard(id(node))
        return Node(path, place[0], place[1], value)

    def _collection(self, node: yaml.Node, path: str, place: tuple[int, int]) -> Any:
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return tuple(self._node(item, f"{path}[{index}]", _place(item)) for index, item in enumerate(node.value))
        self._fault(path, place, f"the tag {node.tag} is not allowed")
        return None

    def _mapping(self, node: yaml.MappingNode, path: str) -> dict[str, Node]:
        values: dict[str, Node] = {}
        for key_node, value_node in node.value:
            place = _place(key_node)
            key = self._key(key_node, path, place)
            if key is None:
                continue
            if key in values:
                first = values[key]
                self._fault(join(path, key), place, f"the key stands twice, first in line {first.line}")
                continue
            values[key] = self._node(value_node, join(path, key), place)
        return values

    def _key(self, node: yaml.Node, path: str, place: tuple[int, int]) -> str | None:
        key = self._scalar(node, path, place) if isinstance(node, yaml.ScalarNode) else None
        if key == "<<" and isinstance(node, yaml.ScalarNode) and node.style is None:
            self._fault(path, place, "merge keys (<<) are not allowed; write the keys out")
        elif isinstance(key, str):
            return key
        elif isinstance(node, yaml.ScalarNode):
            self._fault(path, place, f'a key must be a text; write "{node.value}" in quotes')
        else:
            self._fault(path, place, "a key must be a text")
        return None

    def _scalar(self, node: yaml.ScalarNode, path: str, place: tuple[int, int]) -> Scalar:
        text: str = node.value
        tag: str = node.tag.removeprefix(_TAG)
        if tag == "str":
            if any("\ud800" <= character <= "\udfff" for character in text):
                self._fault(path, place, "has an escape that is no character")
                return None
            return text
        if tag in _PATTERNS and _PATTERNS[tag].fullmatch(text):
            return _CONSTRUCT[tag](text)
        self._fault(path, place, f"the tag {node.tag} is not allowed here")
        return None

    def _fault(self, path: str, place: tuple[int, int], problem: str) -> None:
        self._faults.append(Fault(self._file, place[0], place[1], path, problem))


def join(path: str, key: str) -> str:
    """The path of ``key`` in the mapping at ``path``; a key with other characters is quoted."""
    if re.fullmatch(r"[\w-]+", key):
        return f"{path}.{key}" if path else key
    return f"{path}[{msgspec.json.encode(key).decode()}]"


_CONSTRUCT: dict[str, Callable[[str], Scalar]] = {
    "null": lambda text: None,
    "bool": _BOOLS.__getitem__,
    "int": int,
    "float": float,
}


def _place(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
