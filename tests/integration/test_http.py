"""What a running service answers over HTTP: health, metrics, status."""

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from handlers.sandbox import Match, Mode, Outage, Prescription, Step
from service.app import KINDS, Application
from service.config import loads
from service.errors import StartError
from service.http import Endpoint, serve
from service.status import LaneStatus, PartitionStatus, StatusDocument, decode_status
from tests.support.events import CITY, EMAIL_DOMAIN, Feed
from tests.support.harness import API_KEY, Stage
from tests.support.patience import patiently

LANES = {"vip": {}, "news": {}}
ANY_PORT = "127.0.0.1:0"
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


async def get(endpoint: Endpoint, path: str, method: str = "GET") -> tuple[int, str, dict[str, str]]:
    """Status, body and headers (lower-case names) of one request."""
    async with aiohttp.ClientSession() as session, session.request(method, endpoint.url + path) as answer:
        return answer.status, await answer.text(), {name.lower(): value for name, value in answer.headers.items()}


async def read(endpoint: Endpoint) -> StatusDocument:
    """The status document."""
    return decode_status((await get(endpoint, "/status"))[1].encode())


async def until_lane(
    endpoint: Endpoint, lane: str, reached: Callable[[LaneStatus], object], *, within_s: float = 20.0
) -> LaneStatus:
    """The first status of a lane that ``reached`` is true of."""
    deadline = time.monotonic() + patiently(within_s)
    while not reached(found := of_lane(await read(endpoint), lane)):
        assert time.monotonic() < deadline, f"not reached; the lane is {found}"
        await asyncio.sleep(0.05)
    return found


async def until_answer(ask: Callable[[], Awaitable[tuple[int, str, dict[str, str]]]], status: int) -> str:
    """The first body that comes with a status."""
    deadline = time.monotonic() + patiently(20)
    while (answer := await ask())[0] != status:
        assert time.monotonic() < deadline, answer
        await asyncio.sleep(0.05)
    return answer[1]


def of_lane(document: StatusDocument, lane: str) -> LaneStatus:
    return next(each for each in document.lanes if each.lane == lane)


def sources(lane: LaneStatus) -> list[PartitionStatus]:
    """The lane's partitions but for those of its replay topic."""
    return [part for part in lane.partitions if not part.topic.endswith(".replay")]


def through(count: int) -> Callable[[LaneStatus], bool]:
    """Whether a lane is through with so many offsets."""

    def is_through(lane: LaneStatus) -> bool:
        parts = sources(lane)
        read_all = sum(part.position or 0 for part in parts) == count and all(part.lag == 0 for part in parts)
        return bool(parts) and read_all and not any(part.unfinished for part in parts)

    return is_through


def metric(text: str, name: str) -> float | None:
    """The value of one series, written with its labels; None if it is absent."""
    return next((float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name} ")), None)


@pytest.fixture
async def stage(bootstrap_servers: str, prefix: str, tmp_path: Path) -> AsyncIterator[Stage]:
    """A stage with two lanes on two accounts, and three partitions."""
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes=LANES, sources={"contacts": 3}) as stage:
        yield stage


async def test_a_settled_backlog_shows_everywhere(stage: Stage) -> None:
    """Status, metrics, liveness and readiness of a service that has worked off what there was."""
    feed = Feed(40)
    await stage.publish(feed.take(300))
    async with stage.application() as app, serve(app, ANY_PORT) as endpoint:
        for name in LANES:
            lane = await until_lane(endpoint, name, through(300))
            assert (lane.state, lane.reason) == ("running", None)
            assert (lane.handler, lane.account) == ("np6.segments", name)
            assert INSTANT.fullmatch(lane.since)
            assert re.fullmatch("[0-9a-f]{8}", lane.config)
            assert (lane.in_flight, lane.retrying, lane.dead_letters) == (0, 0, 0)
            assert (lane.slots, lane.open_imports, lane.journal_open) == (None, [], 0)
            assert lane.concurrency_limit == 32
            assert (lane.breaker.state, lane.breaker.until) == ("closed", None)
            for part in sources(lane):
                assert part.position == part.end == part.committed
                assert (part.unfinished, part.oldest_unfinished_s, part.waits_for) == (0, None, None)
        status, text, headers = await get(endpoint, "/metrics")
        assert status == 200
        assert headers["content-type"].startswith("text/plain")
        assert metric(text, 'fanline_events_total{lane="vip",outcome="delivered"}') == 300
        assert metric(text, 'fanline_lag_records{lane="vip"}') == 0
        assert metric(text, 'fanline_useful_lag_records{lane="vip"}') == 0
        assert metric(text, 'fanline_oldest_unfinished_seconds{lane="vip"}') == 0
        assert metric(text, 'fanline_in_flight{lane="news"}') == 0
        assert metric(text, 'fanline_lane_state{lane="vip",state="running"}') == 1
        assert metric(text, 'fanline_breaker_open{account="vip",lane=""}') == 0
        assert metric(text, 'fanline_concurrency_limit{account="vip",lane=""}') == 32
        assert (await get(endpoint, "/livez"))[0] == 200
        assert (await get(endpoint, "/readyz"))[0] == 200


async def test_the_document_has_exactly_the_fields_that_are_promised(stage: Stage) -> None:
    """Names and nesting of the status document are an interface."""
    async with stage.application() as app, serve(app, ANY_PORT) as endpoint:
        await until_lane(endpoint, "vip", through(0))
        document = json.loads((await get(endpoint, "/status"))[1])
    assert set(document) == {"instance", "version", "lanes"}
    lane = document["lanes"][0]
    assert set(lane) == {
        *("lane", "handler", "account", "state", "reason", "since", "config", "partitions", "in_flight", "retrying"),
        *("breaker", "slots", "open_imports", "journal_open", "dead_letters", "concurrency_limit"),
    }
    assert set(lane["breaker"]) == {"state", "until"}
    assert set(lane["partitions"][0]) == {
        *("topic", "partition", "position", "committed", "end", "lag", "unfinished"),
        *("oldest_unfinished_s", "waits_for"),
    }


async def test_ready_when_every_lane_has_found_its_place(stage: Stage) -> None:
    """Not ready while starting, ready when assigned, not ready once stopped; alive all the time."""
    config = loads(stage.configuration(), KINDS)
    async with Application(config, drain_s=5) as app, serve(app, ANY_PORT) as endpoint:
        status, text, _ = await get(endpoint, "/readyz")
        assert status == 503
        assert json.loads(text) == {"ok": False, "lanes": dict.fromkeys(LANES, "starting: waiting for partitions")}
        assert (await get(endpoint, "/livez"))[0] == 200
        stop = asyncio.Event()
        running = asyncio.create_task(app.run(stop))
        text = await until_answer(lambda: get(endpoint, "/readyz"), 200)
        assert json.loads(text) == {"ok": True, "lanes": dict.fromkeys(LANES, "running")}
        stop.set()
        await asyncio.wait_for(running, patiently(20))
        status, text, _ = await get(endpoint, "/readyz")
        assert status == 503
        assert json.loads(text)["lanes"] == dict.fromkeys(LANES, "stopped")
        assert (await get(endpoint, "/livez"))[0] == 200


async def test_status_says_what_the_oldest_event_waits_for(stage: Stage) -> None:
    """A call that hangs and one that fails again and again are told apart, by offset and words alone."""
    feed = Feed(3)
    hanging, failing = feed.of(0), feed.of(1)
    for target, step in ((hanging.target, Step(hang=True)), (failing.target, Step(status=500))):
        match = Match(account="vip", target=target)
        stage.sandbox.prescriptions.add([Prescription([step], match, repeat=True)])
    places = await stage.publish([hanging, failing])
    async with stage.application() as app, serve(app, ANY_PORT) as endpoint:
        await until_lane(endpoint, "news", through(2))

        def waits(lane: LaneStatus) -> dict[int, str]:
            return {part.partition: part.waits_for or "" for part in sources(lane) if part.unfinished}

        lane = await until_lane(endpoint, "vip", lambda lane: len(waits(lane)) == 2 and lane.retrying)
        assert lane.in_flight == 1
        words = waits(lane)
        assert re.fullmatch(r"in flight for \d+\.\d s, attempt \d+", words[places[0].partition]), words
        retrying = r"retrying \(HTTP 500\), attempt \d+ in \d+\.\d s"
        assert re.fullmatch(retrying, words[places[1].partition]), words
        stuck = next(part for part in sources(lane) if part.partition == places[1].partition)
        assert stuck.lag == 0
        assert stuck.committed == places[1].offset
        assert stuck.oldest_unfinished_s is not None
        assert stuck.oldest_unfinished_s > 0
        text = (await get(endpoint, "/metrics"))[1]
        assert (metric(text, 'fanline_oldest_unfinished_seconds{lane="vip"}') or 0) > 0
        assert metric(text, 'fanline_oldest_unfinished_seconds{lane="news"}') == 0
        stage.sandbox.reset()


async def test_an_account_that_fails_holds_its_lane_and_says_so(stage: Stage) -> None:
    """The breaker, until when, and what the events wait for; the lane is ready, the other one runs."""
    stage.sandbox.outages.set(Outage(Mode.UNAVAILABLE, account="vip", status=500), time.monotonic())
    await stage.publish(Feed(40).take(60))
    async with stage.application() as app, serve(app, ANY_PORT) as endpoint:
        lane = await until_lane(endpoint, "vip", lambda lane: lane.state == "holding" and lane.breaker.until)
        assert lane.breaker.state == "open"
        assert INSTANT.fullmatch(lane.breaker.until or "")
        assert lane.reason == "breaker open: account vip fails as a whole"
        waits = [part.waits_for or "" for part in sources(lane) if part.unfinished]
        assert waits
        assert all("account vip: breaker open, next try in " in words for words in waits), waits
        assert (await get(endpoint, "/readyz"))[0] == 200
        text = (await get(endpoint, "/metrics"))[1]
        assert metric(text, 'fanline_breaker_open{account="vip",lane=""}') == 1
        assert metric(text, 'fanline_useful_lag_records{lane="vip"}') == 0
        other = await until_lane(endpoint, "news", through(60))
        assert other.state == "running"
        assert other.breaker.state == "closed"
        stage.sandbox.reset()


async def test_lag_ends_behind_a_transactional_publisher(stage: Stage) -> None:
    """Commit markers occupy offsets: the position passes them, so that the lag is 0 when all has been read."""
    await stage.publish(Feed(40).take(50), transactional_id=f"{stage.prefix}-publisher")
    async with stage.application() as app, serve(app, ANY_PORT) as endpoint:
        lane = await until_lane(endpoint, "vip", through(53))
        assert [part.end for part in sources(lane)] == [part.position for part in sources(lane)]


async def test_the_lag_of_a_full_lane_grows(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Nothing is fetched while the buffer is full, and still the end is known."""
    lanes = {"vip": {"buffer": "20KiB", "batch": {"max_bytes": "1KiB"}}}
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes=lanes, sources={"contacts": 1}) as stage:
        stage.sandbox.outages.set(Outage(Mode.HANG), time.monotonic())
        feed = Feed(1_000)
        await stage.publish(feed.take(50))
        async with stage.application() as app, serve(app, ANY_PORT) as endpoint:
            lane = await until_lane(endpoint, "vip", lambda lane: lane.state == "full")
            assert sources(lane)[0].end == 50
            await stage.publish(feed.take(200))
            lane = await until_lane(endpoint, "vip", lambda lane: sources(lane)[0].end == 250)
            assert sources(lane)[0].lag == 250 - (sources(lane)[0].position or 0)
            stage.sandbox.reset()


async def test_nothing_personal_is_shown(stage: Stage) -> None:
    """No key, target, header, attribute or credential of an event is in any answer."""
    feed = Feed(5, name="somebody")
    stage.sandbox.prescriptions.add([Prescription([Step(status=500)], Match(account="vip"), repeat=True)])
    await stage.publish(feed.take(20))
    async with stage.application() as app, serve(app, ANY_PORT) as endpoint:
        await until_lane(endpoint, "vip", lambda lane: lane.retrying)
        answers = [(await get(endpoint, path))[1] for path in ("/status", "/metrics", "/readyz", "/livez")]
        stage.sandbox.reset()
    for text in answers:
        for secret in ("somebody", EMAIL_DOMAIN, CITY, API_KEY, "Name-"):
            assert secret not in text


@pytest.mark.parametrize("path", ["/", "/status/", "/metrics/x", "/%2e%2e/etc"])
async def test_an_unknown_path_is_told_in_json(stage: Stage, path: str) -> None:
    """404 with a word on what there is."""
    async with Application(loads(stage.configuration(), KINDS)) as app, serve(app, ANY_PORT) as endpoint:
        status, text, headers = await get(endpoint, path)
        assert status == 404
        assert headers["content-type"] == "application/json"
        assert "/status" in json.loads(text)["error"]
        assert headers["server"] == "fanline"
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_only_get_is_answered(stage: Stage, method: str) -> None:
    """Nothing can be changed here, and nothing else asked."""
    async with Application(loads(stage.configuration(), KINDS)) as app, serve(app, ANY_PORT) as endpoint:
        status, _, headers = await get(endpoint, "/status", method)
        assert status == 405
        assert headers["allow"] == "GET"


async def test_a_taken_address_is_a_clear_error(stage: Stage) -> None:
    """It names the key of the configuration and the address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        async with Application(loads(stage.configuration(), KINDS)) as app:
            with pytest.raises(StartError, match=rf"http\.listen: cannot listen on {listen}: .*in use"):
                async with serve(app, listen):
                    pass
