"""What tests ask of the sandbox over HTTP, below ``/__sandbox__``.

========================= ==========================================================================
``GET calls?after=N``     the entries of the log above sequence number N, as NDJSON
``GET state``             counts and rules; ``?platform=P&account=A``: all that one account holds
``POST prescribe``        a :class:`Prescription` or a list of them
``POST mode``             an :class:`Outage`
``POST bucket``           a :class:`Bucket`, or null for none
``POST faults``           :class:`Faults`, or null for none
``POST configure``        ``{"platform", "account", "rules": {…}}``; rules are the platform's
``POST reset``            everything but rules as at the start
========================= ==========================================================================

Faulty requests get 400 with ``{"error"}``.
"""

import time
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from .buckets import Bucket
from .faults import Faults, FaultSource
from .outages import Mode, Outage
from .prescriptions import Prescription

if TYPE_CHECKING:
    from .server import SandboxServer

_ENTRIES_AT_ONCE = 500
_JSON = "application/json"


class Configure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """New rules for an account; what they may say is the platform's."""

    platform: str
    account: str
    rules: dict[str, Any]


_prescriptions = msgspec.json.Decoder(list[Prescription] | Prescription)
_outage = msgspec.json.Decoder(Outage)
_bucket = msgspec.json.Decoder(Bucket | None)
_faults = msgspec.json.Decoder(Faults | None)
_configure = msgspec.json.Decoder(Configure)
_encoder = msgspec.json.Encoder()


class Control:
    """Answers these requests for a server."""

    def __init__(self, server: "SandboxServer") -> None:
        self._server = server
        self._get = {"calls": self._calls, "state": self._state}
        self._post = {
            "prescribe": self._prescribe,
            "mode": self._mode,
            "bucket": self._set_bucket,
            "faults": self._set_faults,
            "configure": self._set_rules,
            "reset": self._reset,
        }

    async def answer(self, request: web.BaseRequest, raw: str) -> web.StreamResponse:
        """``raw`` is the path below the prefix, with the query."""
        name = raw.partition("?")[0]
        if name not in self._get and name not in self._post:
            return _json({"error": f"no such page: {name}"}, status=404)
        try:
            if request.method == "GET" and name in self._get:
                return await self._get[name](request)
            if request.method == "POST" and name in self._post:
                return _json(self._post[name](await request.read()))
        except (msgspec.MsgspecError, ValueError) as error:
            return _json({"error": str(error)}, status=400)
        return _json({"error": f"not for {request.method}"}, status=405)

    async def _calls(self, request: web.BaseRequest) -> web.StreamResponse:
        entries = self._server.log.entries(int(request.query.get("after", "0")))
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        last = self._server.log.last_seq  # what comes while it is written waits for the next request
        lines: list[bytes] = []
        for entry in entries:
            if entry["seq"] > last:
                break
            lines.append(_encoder.encode(entry))
            if len(lines) == _ENTRIES_AT_ONCE:
                await response.write(b"\n".join(lines) + b"\n")
                lines.clear()
        if lines:
            await response.write(b"\n".join(lines) + b"\n")
        return response

    async def _state(self, request: web.BaseRequest) -> web.StreamResponse:
        server = self._server
        account = request.query.get("account")
        named = request.query.get("platform")
        platforms = {
            name: platform.state(account)
            for name, platform in server.platforms.items()
            if named is None or named == name
        }
        return _json(
            {
                "calls": server.log.count,
                "running": server.log.running,
                "last_seq": server.log.last_seq,
                "recording": server.log.record,
                "prescriptions": server.prescriptions.left,
                "buckets": server.buckets.state(),
                "outages": server.outages.state(time.monotonic()),
                "platforms": platforms,
            }
        )

    def _prescribe(self, body: bytes) -> dict[str, Any]:
        given = _prescriptions.decode(body)
        self._server.prescriptions.add([given] if isinstance(given, Prescription) else given)
        return {"prescriptions": self._server.prescriptions.left}

    def _mode(self, body: bytes) -> dict[str, Any]:
        outage = _outage.decode(body)
        if outage.mode is Mode.REFUSE and outage.for_s is not None:
            self._server.refuse(outage.for_s)
        else:
            self._server.outages.set(outage, time.monotonic())
        return {}

    def _set_bucket(self, body: bytes) -> dict[str, Any]:
        self._server.buckets.set(_bucket.decode(body), time.time())
        return {}

    def _set_faults(self, body: bytes) -> dict[str, Any]:
        faults = _faults.decode(body)
        self._server.faults = FaultSource(faults) if faults is not None else None
        return {}

    def _set_rules(self, body: bytes) -> dict[str, Any]:
        asked = _configure.decode(body)
        platform = self._server.platforms.get(asked.platform)
        if platform is None:
            raise ValueError(f"no such platform: {asked.platform}")
        platform.configure(asked.account, asked.rules)
        return {}

    def _reset(self, body: bytes) -> dict[str, Any]:
        self._server.reset()
        return {}


def _json(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=_encoder.encode(value), content_type=_JSON)
