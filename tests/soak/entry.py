"""The service as a soak run starts it: it tells of its tasks and objects, and leaks on demand.

The leaks are there to show that a run finds them.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

TELLS_VARIABLE = "FANLINE_SOAK_TELLS"
LEAK_VARIABLE = "FANLINE_SOAK_LEAK"
LEAKS = ("memory", "files", "tasks", "journal")
_EVERY_S = 0.5
_LEAKED_BYTES = 20_000


async def tell(file: Path, leak: str | None) -> None:
    """Write what only the process itself knows, until cancelled."""
    leaked: list[object] = []
    while True:
        beside = file.with_suffix(".new")
        beside.write_text(json.dumps({"tasks": len(asyncio.all_tasks()), "blocks": sys.getallocatedblocks()}))
        beside.replace(file)
        if leak == "memory":
            leaked.append([bytes(100) for _ in range(_LEAKED_BYTES // 100)])
        elif leak == "files":
            leaked.append(os.dup(0))
        elif leak == "tasks":
            leaked.append(asyncio.create_task(asyncio.sleep(3600)))
        await asyncio.sleep(_EVERY_S)


def main() -> None:
    from service.cli import run
    from service.cli.failures import ExitCode
    from service.journal.deliveries import OpenDeliveries

    file, leak = Path(os.environ[TELLS_VARIABLE]), os.environ.get(LEAK_VARIABLE)
    if leak == "journal":
        OpenDeliveries.removal_writes = lambda self, entries, now_ms: []  # the bug
    original = run._Process.run

    async def telling(process: run._Process) -> ExitCode:
        telling = asyncio.create_task(tell(file, leak))
        try:
            return await original(process)
        finally:
            telling.cancel()

    run._Process.run = telling
    from service.__main__ import main as service

    service()


if __name__ == "__main__":
    main()
