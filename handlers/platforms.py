"""What all handlers of one platform have in common."""

from collections.abc import Callable, Mapping

import msgspec

from handlers.base import Answer, Request
from handlers.tokens import TokenGrant


class Platform(msgspec.Struct, frozen=True):
    """A platform: either ``credentials`` or ``tokens`` says how a call proves who makes it."""

    name: str  # as the configuration has it
    title: str  # as people know it
    secrets: tuple[str, ...]  # the keys of an account that hold secrets
    # A call that changes nothing and needs credentials, in the account's version of the API (0: there is one alone).
    probe: Callable[[int], Request]
    rights: str  # what an account must be allowed to do
    text: Callable[[bytes], str | None]  # the platform's own words in an error
    # The secrets, by their keys, as headers; raises ValueError, without them, where a header cannot carry them.
    credentials: Callable[[Mapping[str, str]], Mapping[str, str]] | None = None
    tokens: TokenGrant | None = None
    refuses: Callable[[Answer], bool] = lambda answer: answer.status == 401  # whether an answer refuses our credentials
    # The status of an answer that says that there is no such thing, and so lets us in.
    unknown: int = 404
    # Version 3 of an API that wants its one secret in the address of each request: the parameter's name.
    parameter: str | None = None
