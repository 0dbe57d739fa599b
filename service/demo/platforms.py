"""The platforms that the demo imitates: NP6 with two accounts, Apsis One and Copernica; what they say afterwards."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

from handlers.apsis.sandbox import ApsisSandbox
from handlers.apsis.sandbox import Rules as ApsisRules
from handlers.copernica.sandbox import CopernicaSandbox
from handlers.np6.sandbox import Np6Sandbox, Rules
from handlers.sandbox import SandboxServer
from service.demo.events import SampleContacts, SampleNotifications
from service.demo.trouble import add_faults, add_import_faults

# The configuration's accounts: on which platform, and under which name there.
ACCOUNTS = {
    "np6-main": ("np6", "main"),
    "np6-news": ("np6", "news"),
    "apsis-eu": ("apsis", "shop-eu"),
    "copernica": ("copernica", "shop"),
}
MAX_OPEN = 3
# The vendor's bound is ten a minute; at the demo's pace that would be most of its time.
_IMPORTS_PER_MINUTE = 60
_NP6, _APSIS, _COPERNICA = ["main", "news"], "shop-eu", "shop"


class Platforms:
    """The imitated platforms of one demo, and their record of what was done to them."""

    def __init__(self, contacts: SampleContacts, notifications: SampleNotifications, *, faults: bool) -> None:
        rules = {name: Rules(unknown_targets=contacts.forgotten_targets) for name in _NP6}
        if faults:
            rules["main"].bad_receivers = notifications.bad_receivers
            rules["main"].refused_receivers = notifications.refused_receivers
        self._faults = faults
        self._np6 = Np6Sandbox(rules)
        apsis = ApsisRules(
            max_open=MAX_OPEN,
            imports_per_minute=_IMPORTS_PER_MINUTE,
            # What `check --online` looks for.
            sections={"usercreated.sections.shop"},
            topics={"usercreated.topics.newsletter"},
            attributes={"1": None, "2": None},
        )
        self._apsis = ApsisSandbox({_APSIS: apsis})
        self._copernica = CopernicaSandbox()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[SandboxServer]:
        """The server that carries them."""
        async with SandboxServer(np6=self._np6, apsis=self._apsis, copernica=self._copernica, record=False) as server:
            if self._faults:
                add_faults(server, _NP6)
                add_import_faults(server, _APSIS, _COPERNICA, "news")
            yield server

    @staticmethod
    def urls(server: SandboxServer) -> Mapping[str, str]:
        """The base URLs of the configuration's accounts."""
        return {name: server.base_url(*place) for name, place in ACCOUNTS.items()}

    # -- what they say afterwards

    def executions(self) -> Counter[str]:
        """How often each execution of a workflow was performed, by its id."""
        return Counter(str(one.id) for name in _NP6 for one in self._np6.performed(name))

    def told(self) -> Iterator[tuple[str, bool]]:
        """Lines about what the platforms have by their own record, and whether each is as it must be."""
        executions = self.executions()
        repeated = sum(times > 1 for times in executions.values())
        yield f"NP6: {len(executions):,} executions of a workflow, {repeated or 'none'} of them twice", not repeated
        imports = self._apsis.imports(_APSIS)
        counts = self._apsis.state(_APSIS)
        again = sum(one.uploads > 1 for one in imports)
        yield (
            f"Apsis One: {counts['profiles']:,} profiles by {_imports(imports)}, at most {counts['most_open']} of "
            f"them open at once ({MAX_OPEN} may be), {again or 'no'} file uploaded twice",
            counts["most_open"] <= MAX_OPEN and not again,
        )
        profiles, made = self._copernica.profiles(_COPERNICA), self._copernica.imports(_COPERNICA)
        doubled = len(profiles) - len({profile["Email"] for profile in profiles})
        yield (
            f"Copernica: {len(profiles):,} profiles by {_imports(made)}, {doubled or 'none'} of them doubled",
            not doubled,
        )
        files = [one.file.split() for one in self._np6.imported("news")]
        listed = {address for file in files for address in file[1:]}
        yield f"NP6's redlist: {len(listed):,} addresses by {_imports(files)}", True


def _imports(made: Sequence[object]) -> str:
    return f"{len(made):,} import{'' if len(made) == 1 else 's'}"
