"""How the types of the configuration say what the file writes.

The model holds numbers with units in their names (``linger_s``), the file holds texts (``linger: 200ms``). What the
file writes is marked on the type, by ``msgspec.Meta(extra={...})``; reading, JSON Schema and reference page all follow
the marks:

``form``        ``duration``, ``size``, ``fraction``, ``start``, ``username``, ``secret``, ``name_or_env``, ``path``
``expression``  ``bool`` or ``value``: the text of a CEL expression (``handlers.expressions``)
``row``         an expression may read the variable ``row`` too
``template``    ``object``, ``list`` or ``value``: objects and lists whose leaves are expressions
``off``         null of the model is written ``off`` (or ``false``) in the file
``given``       no key of the file: filled in while reading
``later``       has no function in this version: the values listed, or any but the default, are refused
``default``     the default in words, where it is taken from elsewhere
``hurts``       how the option can hurt, for the reference page
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from msgspec import Meta

from service.config.secrets import Secret

T = TypeVar("T")

Duration = Annotated[float, Meta(extra={"form": "duration"})]
Size = Annotated[int, Meta(extra={"form": "size"})]
Fraction = Annotated[float, Meta(extra={"form": "fraction"})]
# A path of the file system, relative to the configuration's own folder.
File = Annotated[str, Meta(extra={"form": "path"})]
# A text, or {env: NAME} or {file: PATH}: what names an identity but proves nothing.
Username = Annotated[Secret, Meta(extra={"form": "username"})]
# A text, or {env: NAME} which is read at start: what differs from process to process.
NameOrEnv = Annotated[str, Meta(extra={"form": "name_or_env"})]


def about(meaning: str, *, hurts: str | None = None, **marks: Any) -> Meta:
    """A field's meaning for the reference page and the JSON Schema, and its marks."""
    extra: Mapping[str, Any] = marks if hurts is None else {**marks, "hurts": hurts}
    return Meta(description=meaning, extra=dict(extra))
