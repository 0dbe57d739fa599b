"""1,000,000 profiles through a lane of imports to the imitated Apsis One: memory, imports, CPU, the event loop's turns.

``python -m tests.benchmarks.imports [--small 100000] [--large 1000000] [--rounds 1] [--spine] [--turns]``. Each
backlog goes through a lane with the handler's defaults, whose buffer both fill, against an account with the platform's
limits: three imports open, ten a minute. Memory must not grow with the backlog. The small one goes through a lane with
one slot too, whose imports have the 50,000 rows that the buffer holds: for the longest turn of the event loop. To watch
the turns takes CPU itself: the other rounds go without, unless ``--turns`` is given. ``--spine`` measures ``speed``'s
spine between the rounds, to compare with on any machine. Kafka, the platform and the lane are processes of their own;
only the lane's CPU counts.
"""

import argparse
import asyncio
import json
import multiprocessing
import secrets
import statistics
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from handlers.apsis.sandbox import ApsisSandbox
from handlers.sandbox.server import serve
from service.localkafka import Cluster
from tests.benchmarks import speed
from tests.benchmarks.workload import PARTITIONS, PROFILES, RESULTS, TOPIC, event, profile
from tests.support.kafka import create_topics

_LANE = """
kafka: {{bootstrap_servers: ["{bootstrap}"], topic_prefix: {prefix}}}
results: {{topic: {results}}}
accounts:
  apsis:
    platform: apsis
    base_url: "{url}/apsis/{account}"
    client_id: {{env: BENCH_KEY}}
    client_secret: {{env: BENCH_KEY}}
    upload_hosts: [localhost]
lanes:
  bench:
    handler: apsis.imports
    account: apsis
    topics: [{topic}]
    section: usercreated.sections.shop
    keyspaces: [{{discriminator: com.apsis1.keyspaces.email, column: email, value: data.identifiers.email}}]
    attributes:
      - {{version_id: "1", column: first_name, value: data.attributes.first_name}}
      - {{version_id: "2", column: last_name, value: data.attributes.last_name}}
      - {{version_id: "3", column: city, value: data.attributes.city}}
      - {{version_id: "4", column: points, value: data.attributes.points}}
      - {{version_id: "5", column: newsletter, value: data.attributes.newsletter}}
      - {{version_id: "6", column: phone, value: data.identifiers.phone, as: phone}}
    consents:
      - channel: com.apsis1.channels.email
        topic: usercreated.topics.shoes
        column: shoes
        value: 'data.consents.exists(c, c.topic == "shoes" && c.status == "opt-in")'
    tags: [{{discriminator: usercreated.attributes.app, when: '"app" in data.tags'}}]
    slots: {slots}
"""
_STAGES = ("file", "create", "upload", "processing", "ending", "settle")
_SPINE_EVENTS = 100_000


def _platform(ready: Any) -> None:
    """Apsis One, in a process of its own; ``ready`` gets its address."""
    import uvloop

    uvloop.run(serve("127.0.0.1:0", ready=lambda server: ready.put(server.url), record=False, apsis=ApsisSandbox()))


def _lane(bootstrap: str, url: str, account: str, events: int, folder: Path, slots: int = 3) -> list[str]:
    prefix = f"p-{secrets.token_hex(4)}"
    topics = [f"{prefix}.bench.{name}" for name in ("dead-letters", "replay", "journal")]
    asyncio.run(
        create_topics(bootstrap, dict.fromkeys(topics, PARTITIONS) | {f"{prefix}.status": 1, f"{prefix}.control": 1})
    )
    path = folder / f"{prefix}.yaml"
    path.write_text(
        _LANE.format(
            bootstrap=bootstrap, prefix=prefix, results=RESULTS, url=url, account=account, topic=PROFILES, slots=slots
        )
    )
    return [str(speed.CONTENDERS / "fanline_imports.py"), str(path), str(events)]


def _measured(
    bootstrap: str, url: str, events: int, folder: Path, slots: int = 3, *, turns: bool = True
) -> dict[str, Any]:
    """One lane through the backlog; beside its own figures what the platform has counted. ``turns``: they are
    watched."""
    account = f"bench-{secrets.token_hex(4)}"
    command = _lane(bootstrap, url, account, events, folder, slots) + ([] if turns else ["--unwatched"])
    measured: dict[str, Any] = speed.measure(command, within_s=3_600)
    with urllib.request.urlopen(f"{url}/__sandbox__/state?platform=apsis&account={account}") as answer:
        state = json.load(answer)["platforms"]["apsis"]
    if state["profiles"] != events:
        raise RuntimeError(f"{events} contacts, and {state['profiles']} profiles at the platform")
    rows = [one["found"] for one in state["imports"]]
    return {**measured, "imports": len(rows), "rows": max(rows), "most_open": state["most_open"]}


def _backlog(
    events: int, rounds: int, url: str, *, with_spine: bool, one_slot: bool, turns: bool
) -> tuple[list[dict[str, Any]], list[float]]:
    """The figures of each round, and the spine's CPU seconds per 100,000 events. ``one_slot``: that is tried too;
    ``turns``: they are watched in each round, and not in that one alone."""
    measured, spine = [], []
    with Cluster() as cluster, tempfile.TemporaryDirectory() as folder:
        bootstrap = cluster.bootstrap_servers
        asyncio.run(create_topics(bootstrap, {PROFILES: PARTITIONS, TOPIC: PARTITIONS, RESULTS: 12}))
        asyncio.run(speed.fill(bootstrap, PROFILES, profile, events))
        if with_spine:
            asyncio.run(speed.fill(bootstrap, TOPIC, event, _SPINE_EVENTS))
        for _ in range(rounds):
            measured.append(_measured(bootstrap, url, events, Path(folder), turns=turns))
            _tell(events, measured[-1])
            if with_spine:
                command = speed.fanline(bootstrap, url, _SPINE_EVENTS, Path(folder), speed.SPINE)
                spine.append(speed.measure(command)["cpu_s"] / _SPINE_EVENTS * 100_000)
        if one_slot:
            _tell(events, _measured(bootstrap, url, events, Path(folder), slots=1))
    return measured, spine


def _tell(events: int, one: dict[str, Any]) -> None:
    turns = ""
    if "longest_ms" in one:
        turns = (
            f"; the longest turn {one['longest_ms']:.0f} ms, "
            f"{one['over_20_ms']} over 20 ms, {one['over_50_ms']} over 50 ms"
        )
    print(
        f"{events:>9,} profiles: {one['imports']} imports of {one['rows']:,} rows at most, {one['most_open']} open at "
        f"once; {one['wall_s']:.0f} s, {one['cpu_s'] / events * 100_000:.2f} CPU-s per 100,000, of which "
        f"{one['waiting_cpu_s'] / events * 100_000:.2f} in {one['waiting_s']:.0f} s of waiting\n"
        f"{'':19} peak {one['peak_rss_kib'] / 1024:.0f} MiB{turns}",
        flush=True,
    )
    stages = (f"{stage} {one['stages_s'].get(stage, 0.0) / one['imports']:.2f} s" for stage in _STAGES)
    print(f"{'':19} an import's time: {', '.join(stages)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.imports", description=__doc__)
    parser.add_argument("--small", type=int, default=100_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--spine", action="store_true")
    parser.add_argument("--turns", action="store_true")
    options = parser.parse_args()
    queue: Any = multiprocessing.get_context("spawn").Queue()
    platform = multiprocessing.get_context("spawn").Process(target=_platform, args=(queue,), daemon=True)
    platform.start()
    url = queue.get(timeout=30)
    peaks, ratios, spines = {}, [], []
    for events in (options.small, options.large):
        measured, spine = _backlog(
            events,
            options.rounds,
            url,
            with_spine=options.spine,
            one_slot=events == options.small,
            turns=options.turns,
        )
        peaks[events] = statistics.median(one["peak_rss_kib"] for one in measured)
        each = statistics.median(one["cpu_s"] for one in measured) / events * 100_000
        ratios += [each / statistics.median(spine)] if spine else []
        spines += spine
    platform.terminate()
    print(
        f"peak memory of {options.large:,} against {options.small:,}: {peaks[options.large] / peaks[options.small]:.2f}"
    )
    if spines:
        told = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"the spine in the same run: {statistics.median(spines):.2f} CPU-s per 100,000; times that: {told}")


if __name__ == "__main__":
    main()
