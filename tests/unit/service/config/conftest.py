"""A toy handler and a file that is right, for the tests of the configuration."""

import msgspec
import pytest

from handlers.expressions import Expr
from service.config import Configuration, ConfigurationError, HandlerKind, Kinds, kinds_of, loads

GOOD = """\
kafka:
  bootstrap_servers: [localhost:9092]
accounts:
  main: {platform: np6, base_url: "https://api.example", api_key: {env: TOY_KEY}}
lanes:
  toys:
    handler: np6.toys
    account: main
    topics: [contacts.changed]
    target: data.identifiers.np6
"""


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"as_": "as"}):
    """A nested key of the toy handler."""

    value: Expr
    as_: str = "text"


class ToyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Keys of a toy handler."""

    target: Expr
    join: Expr = "null"
    fields: dict[str, Expr] = {}
    parts: tuple[Part, ...] = ()
    workflow: int | Expr = 0
    node: Expr | None = None

    def __post_init__(self) -> None:
        if self.join == "7":
            raise ValueError("nobody joins 7")


class Loader:
    """Loads texts with the toy handler."""

    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds

    def __call__(self, text: str) -> Configuration:
        return loads(text.encode(), self.kinds, file="f.yaml")

    def faults(self, text: str) -> list[str]:
        """What is wrong with the text, a line per fault."""
        with pytest.raises(ConfigurationError) as caught:
            self(text)
        return str(caught.value).splitlines()

    def lane(self, *lines: str) -> str:
        """The file that is right with these keys added to its lane."""
        return GOOD + "".join(f"    {line}\n" for line in lines)

    def replaced(self, old: str, new: str) -> str:
        """The file that is right with one text replaced."""
        assert old in GOOD
        return GOOD.replace(old, new)


@pytest.fixture
def kinds() -> Kinds:
    return kinds_of([HandlerKind("np6.toys", "np6", ToyConfig)])


@pytest.fixture
def loading(kinds: Kinds) -> Loader:
    return Loader(kinds)


@pytest.fixture
def good() -> str:
    return GOOD
