"""The accounts of an imitated platform."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import msgspec

RulesT = TypeVar("RulesT", bound=msgspec.Struct)


class Account(Protocol[RulesT]):
    """An account's rules and what it holds."""

    rules: RulesT

    def counts(self) -> dict[str, int]:
        """How much it holds."""

    def state(self) -> dict[str, Any]:
        """All that it holds and its rules, as JSON; how many credentials there are, and not which."""


AccountT = TypeVar("AccountT", bound=Account[Any])


class Accounts(Generic[RulesT, AccountT]):
    """Any number of accounts, each made when it is first named: that part of a :class:`Platform` in which all platforms
    are alike. ``make`` makes an account that holds nothing yet, of its name and its rules."""

    def __init__(
        self, make: Callable[[str, RulesT], AccountT], usual: Callable[[], RulesT], rules: Mapping[str, RulesT] | None
    ) -> None:
        """``usual``: the rules of an account that ``rules`` does not name."""
        self._make = make
        self._usual = usual
        self._accounts = {name: make(name, given) for name, given in (rules or {}).items()}

    def configure(self, account: str, rules: Mapping[str, Any]) -> None:
        """Replaces those rules that are given, as JSON has them. Raises ValueError."""
        known = self._account(account)
        known_rules = msgspec.to_builtins(known.rules, str_keys=True)
        try:
            known.rules = msgspec.convert({**known_rules, **rules}, type(known.rules), str_keys=True)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from error

    def state(self, account: str | None) -> dict[str, Any]:
        """How much each account holds; of one account, what."""
        if account is None:
            return {"accounts": {name: known.counts() for name, known in self._accounts.items()}}
        return self._account(account).state()

    def reset(self) -> None:
        """Forgets what requests have changed; rules stay."""
        for name, known in list(self._accounts.items()):
            self._accounts[name] = self._make(name, known.rules)

    def _account(self, name: str) -> AccountT:
        known = self._accounts.get(name)
        if known is None:
            known = self._accounts[name] = self._make(name, self._usual())
        return known
