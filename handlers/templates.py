"""What a platform is sent, as the configuration writes it: objects and lists whose leaves are expressions.

Each leaf is compiled once. A leaf without a value is left out of its object, as an absent field is; in a list it
stays as null, so that the items behind it keep their places.
"""

from typing import Any, Literal, Protocol

from contracts.events import Event
from handlers.base import Expression


class Compile(Protocol):
    """Compiles an expression of the configuration; ``key`` is where it stands. ``bool``: it is a condition, which gives
    a bool, false where a field is missing."""

    def __call__(self, text: str, key: str, wants: Literal["value", "bool"] = "value") -> Expression: ...


def compile_template(template: Any, key: str, compile_: Compile) -> Expression:
    """What fills the template in from an event and its record's key; it gives None where the template is None.

    ``template`` is of dicts, lists or tuples, expressions' texts and None; ``key`` is where it stands. What is given
    must not be changed: constant parts are the same each time. It raises ExpressionError like its leaves.
    """
    if template is None:
        return _nothing
    if isinstance(template, dict):
        return _object([(name, compile_template(part, f"{key}.{name}", compile_)) for name, part in template.items()])
    if isinstance(template, list | tuple):
        return _list([compile_template(part, f"{key}[{n}]", compile_) for n, part in enumerate(template)])
    return compile_(template, key)


def _nothing(event: Event, key: bytes | None) -> Any:
    return None


def _object(parts: list[tuple[str, Expression]]) -> Expression:
    def fill(event: Event, key: bytes | None) -> Any:
        filled = {}
        for name, part in parts:
            value = part(event, key)
            if value is not None:
                filled[name] = value
        return filled

    fill.parts = dict(parts)  # type: ignore[attr-defined] # a function; who writes JSON of it at once asks
    return fill


def _list(parts: list[Expression]) -> Expression:
    def fill(event: Event, key: bytes | None) -> Any:
        return [part(event, key) for part in parts]

    return fill
