"""Nothing leaks: what a lane writes for others to read holds no credential and no personal data."""

import json
from pathlib import Path

import aiohttp

from handlers.sandbox import Match, Prescription, Step
from tests.support.events import CITY, EMAIL_DOMAIN, ContactEvent, Feed
from tests.support.harness import API_KEY, DRAIN_S, Stage, free_port
from tests.support.kafka import Message, produce, read_committed_all
from tests.support.secrecy import leaks


def echoing(event: ContactEvent) -> str:
    """What a talkative platform says: the key, and everything that it knows of the contact."""
    contact = json.loads(event.message.value or b"")["data"]
    told = [API_KEY, *contact["identifiers"].values(), *contact["attributes"].values()]
    return json.dumps({"Message": "refused: " + " and ".join(told)})


async def test_nothing_of_a_contact_and_no_key_gets_out(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """A platform that repeats in its errors what it knows, broken events full of personal data, an account that
    fails: results, journal, the process's log, /metrics and /status hold none of it."""
    async with Stage(
        bootstrap_servers, prefix, tmp_path, lanes={"lane": {"where": 'data.change != "deleted"'}}
    ) as stage:
        feed = Feed(200, seed=1)
        service = stage.process(http_port=(port := free_port()))
        service.start()
        # Something must have succeeded, or a 403 is taken for the whole lane's.
        await stage.publish(feed.take(1))
        await stage.results.until({"lane": 1}, within_s=30, alive=service.must_live)
        events = feed.take(300)
        for number, status in enumerate((400, 422, 404, 403, 409, 500, 503, 429, 413, 400)):
            stage.sandbox.prescriptions.add([_answers(status, event) for event in events[number * 3 : number * 3 + 3]])
        await stage.publish(events)
        whole = [event.message.value or b"" for event in events[:20]]
        broken = [value[: len(value) // 2 + n] for n, value in enumerate(whole)]
        broken += [value.replace(b'"identifiers": {', b'"identifiers": {"x": 1, ') for value in whole]
        broken += [value.replace(b'"updated"', json.dumps(CITY).encode()) for value in whole]
        keys = [event.key for event in events]
        await produce(
            bootstrap_servers, stage.topic(), [Message(value, key) for value, key in zip(broken, keys, strict=False)]
        )
        await stage.results.until({"lane": 361}, within_s=60, alive=service.must_live)
        pages = await _pages(port)
        service.terminate()
        assert await service.ended(within_s=DRAIN_S) == 0

        results = await read_committed_all(bootstrap_servers, [stage.results_topic])
        outcomes = {json.loads(record.value or b"")["data"]["outcome"] for record in results}
        assert outcomes >= {"delivered", "rejected", "invalid"}, "the test met too little"
        assert sum(b"\xe2\x80\xa2" in (record.value or b"") for record in results) > 5, "nothing was masked"
        journal = await read_committed_all(bootstrap_servers, [f"{prefix}.lane.journal"])
        texts = {
            "a result": [(record.value or b"").decode() for record in results],
            "the journal": [repr((record.key, record.value)) for record in journal],
            "the log": service.log.read_text().splitlines(),
            "/metrics": pages["/metrics"].splitlines(),
            "/status": [pages["/status"]],
        }
        found = {where: (leaks(text), text) for where, lines in texts.items() for text in lines if leaks(text)}
        assert not found
        # What is served to machines names no contact either.
        for page, text in pages.items():
            assert not [event.target for event in events if event.target in text], page


def _answers(status: int, event: ContactEvent) -> Prescription:
    headers = {"Content-Type": "application/json", "Retry-After": "0"}
    return Prescription([Step(status=status, body=echoing(event), headers=headers)], Match(target=event.target))


async def _pages(port: int) -> dict[str, str]:
    pages: dict[str, str] = {}
    async with aiohttp.ClientSession() as session:
        for page in ("/metrics", "/status", "/livez", "/readyz"):
            async with session.get(f"http://127.0.0.1:{port}{page}") as answer:
                assert answer.status == 200, page
                pages[page] = await answer.text()
    return pages


def test_the_search_finds_what_it_looks_for() -> None:
    """Each secret is found, also escaped and in other letters."""
    assert leaks(f"x {API_KEY} y") == {API_KEY}
    assert EMAIL_DOMAIN in leaks("A@PRIVATE.EXAMPLE")
    assert CITY in leaks(json.dumps(CITY))
    assert not leaks("a result id and nothing else")
