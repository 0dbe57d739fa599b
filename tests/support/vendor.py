"""The vendors' examples of requests and answers: documents of the same shape, with values of our own."""

from pathlib import Path
from typing import Any

import msgspec

_FOLDER = Path(__file__).parents[1] / "golden" / "vendor"


def vendor_example(name: str) -> Any:
    """An example by the name of its file."""
    return msgspec.json.decode(vendor_bytes(name))


def vendor_bytes(name: str) -> bytes:
    """An example as it came."""
    return (_FOLDER / name).read_bytes()


def shape_of(value: Any) -> Any:
    """The keys and types of a document, without its values; of a list its first item."""
    if isinstance(value, dict):
        return {key: shape_of(part) for key, part in sorted(value.items())}
    if isinstance(value, list):
        return [shape_of(part) for part in value[:1]]
    return type(value).__name__
