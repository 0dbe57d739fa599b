"""The service as a chaos run starts it: with a clock that can be stepped, and on demand with points at which it waits
and with a bug put back."""

import json
import os
import time
from pathlib import Path
from typing import Any

CLOCK_VARIABLE = "FANLINE_CHAOS_CLOCK"
BUG_VARIABLE = "FANLINE_CHAOS_BUG"
WIRE_VARIABLE = "FANLINE_CHAOS_KAFKA_WIRES"
TRANSACTION_VARIABLE = "FANLINE_CHAOS_TRANSACTION_S"
_LOOK_EVERY_S = 0.25


def step_clock(file: Path) -> None:
    """The wall clock is wrong by as many seconds as the file says."""
    from service.clock import SystemClock

    looked_at, offset_ms = float("-inf"), 0

    def wall_ms() -> int:
        nonlocal looked_at, offset_ms
        if (now := time.monotonic()) > looked_at + _LOOK_EVERY_S:
            looked_at = now
            offset_ms = int(file.read_text() or 0) * 1000 if file.exists() else 0
        return time.time_ns() // 1_000_000 + offset_ms

    SystemClock.wall_ms = staticmethod(wall_ms)


def through_wires(ports: dict[int, int]) -> None:
    """Connections to brokers go through wires: from a broker's port to the port on loopback that leads to it."""
    from aiokafka.conn import AIOKafkaConnection

    right = AIOKafkaConnection.connect

    async def connect(self: Any) -> Any:
        self._port = ports.get(self._port, self._port)
        return await right(self)

    AIOKafkaConnection.connect = connect


def stretch_transactions(seconds: float) -> None:
    """A broker looks for transactions that are too old each ten seconds: they live longer than they may, and then than
    a session. The broker of the tests looks twice a second, so the transaction is told to be longer instead."""
    import msgspec

    from service import app

    right = app.TransactorPolicy

    def policy(**given: float) -> object:
        return msgspec.structs.replace(right(**given), transaction_timeout_s=seconds, settle_deadline_s=seconds)

    app.TransactorPolicy = policy  # type: ignore[assignment, misc]


def main() -> None:
    if file := os.environ.get(CLOCK_VARIABLE):
        step_clock(Path(file))
    if wires := os.environ.get(WIRE_VARIABLE):
        through_wires({int(port): wire for port, wire in json.loads(wires).items()})
    if seconds := os.environ.get(TRANSACTION_VARIABLE):
        stretch_transactions(float(seconds))
    from tests.chaos import halting

    halting.put_in()
    if bug := os.environ.get(BUG_VARIABLE):
        from tests.chaos.bugs import BUGS

        BUGS[bug].put_back()
    from service.__main__ import main as service

    service()


if __name__ == "__main__":
    main()
