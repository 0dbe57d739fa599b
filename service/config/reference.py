"""The reference page of the configuration, made from the types that reading follows."""

from collections.abc import Iterable, Iterator
from inspect import cleandoc

import msgspec
import msgspec.inspect as inspect

from service.config import quantities, shape
from service.config.accounts import ACCOUNT_TYPES
from service.config.lanes import Kinds, LaneSettings
from service.config.model import Configuration
from service.config.shape import Key

_INTRODUCTION = """\
# Configuration

<!-- Made from the types in service/config; tests/unit/service/config/test_config_reference.py writes it anew. -->

One YAML file. Whatever is unknown, contradictory or out of bounds refuses to start, all of it at once, each with its
line and path. `deploy/fanline.example.yaml` is an example to begin with; `fanline check --config FILE` reads a file
and its secrets.

- **Durations** are a whole number and `ms`, `s`, `m`, `h` or `d`; **sizes** a whole number and `B`, `KiB`, `MiB`, `kB`
  or `MB`; **shares** a number and `%`. A bare number is refused.
- **Secrets** are `{env: NAME}` or `{file: PATH}`, never in the file itself. One line break at the end is not part of
  them. Files are read again when they change.
- **Paths** are relative to the folder of the configuration file.
- **YAML** is read by the core schema of version 1.2: `true` and `false` are booleans; `yes`, `no`, `on`, `off` and
  dates are texts. A key twice, merge keys (`<<`), over 1,000 aliases and files over 1 MiB are refused.
- **Expressions** are [CEL](https://cel.dev) over `data`, `event` (`id`, `source`, `type`, `time`, `subject`, `tenant`;
  `time` is a text, absent where the event has none) and `key` (null where the record's key is null or not UTF-8). A
  constant text is `'"text"'`; whole numbers and booleans may stand bare. Paths are checked against the contracts at
  start. In a condition a missing field gives false, elsewhere a missing field, or a missing key of a map, gives null.
  Any other failure makes the event `invalid`/`unresolved`. An expression has at most 4 KiB, its result 1 MiB.

*How it can hurt* says what an option risks; where nothing stands there, a wrong value shows at once.
"""

# What the introduction explains is not repeated in each row.
_SHORT = {quantities.DURATION: "a duration", quantities.SIZE: "a size", quantities.FRACTION: "a share"}
_HEAD = "| key | value | default | meaning |\n| --- | --- | --- | --- |"


def reference_markdown(kinds: Kinds) -> str:
    """The whole page, with one section per part of the file and per handler."""
    parts = [_INTRODUCTION]
    for key in shape.keys_of(Configuration):
        if key.name == "accounts":
            parts += _account_sections()
        elif key.name == "lanes":
            parts += _lane_sections(key, kinds)
        else:
            parts.append(_section(f"`{key.name}`", key.meaning, _rows_of(key)))
    return "\n".join(parts)


def _account_sections() -> Iterator[str]:
    for platform, cls in ACCOUNT_TYPES.items():
        meaning = f"{_summary(cls)} Keys of an entry under `accounts`; the entry's name is the account's."
        yield _section(f"`accounts`: platform `{platform}`", meaning, _rows(shape.keys_of(cls), ""))


def _lane_sections(lanes: Key, kinds: Kinds) -> Iterator[str]:
    hurts = f" *How it can hurt:* {lanes.marks['hurts']}"
    meaning = "Keys of an entry under `lanes` that all handlers have. The entry's name is the lane's." + hurts
    yield _section("`lanes`: keys of every lane", meaning, _rows(shape.keys_of(LaneSettings), ""))
    for name, kind in kinds.items():
        meaning = f"{_summary(kind.config)} On an account of platform `{kind.platform}`."
        if others := [key for key in shape.common_keys(kind) if key.field in kind.defaults]:
            words = ", ".join(f"`{key.name}` {_default(key)}" for key in others)
            meaning += f" Of the keys of every lane these have another default: {words}."
        yield _section(f"`lanes`: handler `{name}`", meaning, _rows(shape.keys_of(kind.config), ""))


def _summary(cls: type[msgspec.Struct]) -> str:
    return cleandoc(cls.__doc__ or "").split("\n\n")[0].replace("\n", " ")


def _section(title: str, meaning: str, rows: Iterable[str]) -> str:
    return "\n".join([f"## {title}\n", f"{meaning}\n", _HEAD, *rows, ""])


def _rows_of(section: Key) -> Iterator[str]:
    nested = _nested(section)
    if nested is None:
        yield _row(section, "")
    else:
        yield from _rows(shape.keys_of(nested), f"{section.name}.")


def _rows(keys: Iterable[Key], prefix: str) -> Iterator[str]:
    for key in keys:
        nested = _nested(key)
        if nested is None or key.marks.get("off"):
            yield _row(key, prefix)
        if nested is not None:
            yield from _rows(shape.keys_of(nested), f"{prefix}{key.name}.")


def _nested(key: Key) -> type[msgspec.Struct] | None:
    """The struct whose keys are shown as rows of their own."""
    for member, marks in shape.alternatives(key.type, key.marks):
        if isinstance(member, inspect.StructType) and "form" not in marks:
            return member.cls
    return None


def _row(key: Key, prefix: str) -> str:
    meaning = key.meaning
    if key.marks.get("later") is True:
        meaning += " Not available in this version."
    elif later := key.marks.get("later"):
        meaning += f" Not available in this version: {', '.join(f'`{value}`' for value in later)}."
    if hurts := key.marks.get("hurts"):
        meaning += f"<br>*How it can hurt:* {hurts}"
    value = shape.allowed(key.type, key.marks)
    for long, short in _SHORT.items():
        value = value.replace(long, short)
    cells = (f"`{prefix}{key.name}`", value, _default(key), meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(key: Key) -> str:
    if key.required:
        return "required"
    if words := key.marks.get("default"):
        return f"`{words}`"
    return f"`{shape.written(key.default, shape.deep_marks(key))}`"
