"""What tests use to ask things of a sandbox, in whichever process it runs."""

import asyncio
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import aiohttp
import msgspec

from .buckets import Bucket
from .calls import Call, merge
from .faults import Faults
from .outages import Mode, Outage
from .prescriptions import Match, Prescribed, Prescription

_encoder = msgspec.json.Encoder()


class SandboxError(Exception):
    """The sandbox refused a request; the text is its own."""


class SandboxClient:
    """Asks a sandbox for answers and reads its record; an async context manager. ``url`` is the server's."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._calls: dict[int, Call] = {}
        self._last_seq = 0

    async def __aenter__(self) -> "SandboxClient":
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def prescribe(
        self,
        answers: Sequence[Prescribed],
        *,
        target: str | None = None,
        kind: str | None = None,
        entity: str | None = None,
        account: str | None = None,
        method: str | None = None,
        skip: int = 0,
        repeat: bool = False,
    ) -> None:
        """The answers to the calls that match, one after the other; None is the platform's own."""
        match = Match(account=account, method=method, kind=kind, target=target, entity=entity)
        await self.prescribe_all([Prescription(list(answers), match, skip, repeat)])

    async def prescribe_all(self, prescriptions: Sequence[Prescription]) -> None:
        """Many at once."""
        await self._post("prescribe", list(prescriptions))

    async def mode(
        self,
        mode: Mode | str,
        *,
        account: str | None = None,
        for_s: float | None = None,
        status: int = 503,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Kills an account, or all, until the next change or for a while."""
        outage = Outage(Mode(mode), account=account, for_s=for_s, status=status, headers=headers or {})
        await self._post("mode", outage)

    async def bucket(self, bucket: Bucket | None) -> None:
        """A rate limit; None for no more."""
        await self._post("bucket", bucket)

    async def faults(self, faults: Faults | None) -> None:
        """Faults by chance; None for no more."""
        await self._post("faults", faults)

    async def configure(self, platform: str, account: str, **rules: Any) -> None:
        """New rules for an account, in the platform's words; those not named stay."""
        await self._post("configure", {"platform": platform, "account": account, "rules": rules})

    async def reset(self) -> None:
        """Everything but rules as at the start."""
        await self._post("reset", None)
        self._calls.clear()
        self._last_seq = 0

    async def state(self, *, platform: str | None = None, account: str | None = None) -> dict[str, Any]:
        """Counts; with ``account`` all that it holds."""
        named = {"platform": platform, "account": account}
        query = {name: value for name, value in named.items() if value is not None}
        async with self._open().get(f"{self._url}/__sandbox__/state", params=query) as answer:
            state: dict[str, Any] = msgspec.json.decode(await _checked(answer))
            return state

    async def entries(self, after: int = 0) -> list[dict[str, Any]]:
        """The entries of the log above a sequence number."""
        async with self._open().get(f"{self._url}/__sandbox__/calls", params={"after": after}) as answer:
            return [msgspec.json.decode(line) for line in (await _checked(answer)).splitlines()]

    async def calls(self) -> list[Call]:
        """Every call since the last reset in order of arrival. Only what is new is fetched."""
        for entry in await self.entries(self._last_seq):
            merge(self._calls, entry)
            self._last_seq = entry["seq"]
        return list(self._calls.values())

    async def wait_until(self, reached: Callable[[list[Call]], bool], *, within_s: float = 10.0) -> list[Call]:
        """The calls, as soon as ``reached`` is true of them. Raises TimeoutError."""
        deadline = time.monotonic() + within_s
        while not reached(calls := await self.calls()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not reached within {within_s} s; {len(calls)} calls")
            await asyncio.sleep(0.02)
        return calls

    async def _post(self, name: str, value: Any) -> None:
        async with self._open().post(f"{self._url}/__sandbox__/{name}", data=_encoder.encode(value)) as answer:
            await _checked(answer)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("to be used as a context manager")
        return self._session


async def _checked(answer: aiohttp.ClientResponse) -> bytes:
    body = await answer.read()
    if answer.status != 200:
        raise SandboxError(f"{answer.status}: {body.decode(errors='replace')[:500]}")
    return body
