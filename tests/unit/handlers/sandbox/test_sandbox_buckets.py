"""A bucket in front of an account: what it admits, what it tells, and for whom."""

import aiohttp
import pytest

from handlers.np6.sandbox import Np6Sandbox
from handlers.sandbox import Bucket, SandboxClient, SandboxServer
from handlers.sandbox.buckets import Buckets
from handlers.sandbox.client import SandboxError

NOW = 1_767_225_600.0


def test_a_bucket_holds_one_seconds_worth_and_is_refilled() -> None:
    """Fifty at once, then one each 20 ms; a refused call takes nothing."""
    buckets = Buckets()
    buckets.set(Bucket(50), NOW)
    assert [buckets.take("np6", "a", NOW)[0] for _ in range(52)] == [True] * 50 + [False] * 2
    assert [buckets.take("np6", "a", NOW + 0.021)[0] for _ in range(2)] == [True, False]
    assert [buckets.take("np6", "a", NOW + 60)[0] for _ in range(51)] == [True] * 50 + [False]


@pytest.mark.parametrize(("reset", "told"), [("seconds", "1"), ("epoch", "1767225601")])
def test_it_tells_limit_remaining_and_reset(reset: str, told: str) -> None:
    """Both readings of the reset."""
    buckets = Buckets()
    buckets.set(Bucket(2, reset=reset, retry_after=True), NOW)  # type: ignore[arg-type] # one of the two
    expected = {"X-RateLimit-Limit": "2", "X-RateLimit-Remaining": "1", "X-RateLimit-Reset": told}
    assert buckets.take("np6", "a", NOW) == (True, expected)
    buckets.take("np6", "a", NOW)
    admitted, headers = buckets.take("np6", "a", NOW)
    assert (admitted, headers["X-RateLimit-Remaining"], headers["Retry-After"]) == (False, "0", "1")


def test_what_is_said_of_one_account_goes_first() -> None:
    """All others share a bucket; null ends all."""
    buckets = Buckets()
    buckets.set(Bucket(1), NOW)
    buckets.set(Bucket(2, account="own"), NOW)
    assert [buckets.take("np6", name, NOW)[0] for name in ("own", "own", "a", "b")] == [True, True, True, False]
    buckets.set(None, NOW)
    assert buckets.take("np6", "b", NOW) == (True, {})


async def test_over_the_wire() -> None:
    """The answers carry the headers, the 429 takes no effect, and the log says why."""
    async with (
        SandboxServer(np6=Np6Sandbox()) as server,
        SandboxClient(server.url) as client,
        aiohttp.ClientSession() as session,
    ):
        await client.bucket(Bucket(0.01, capacity=1))
        statuses = []
        for target in ("A", "B"):
            url = f"{server.base_url('np6', 'main')}/targets/{target}/segments/1"
            async with session.post(url, headers={"X-Key": "k"}) as answer:
                statuses.append((answer.status, answer.headers["X-RateLimit-Remaining"]))
        assert statuses == [(204, "0"), (429, "0")]
        first, second = await client.calls()
        assert (first.effect, second.effect, second.deviation) == (True, False, "rate limit")
        with pytest.raises(SandboxError):
            await client._post("bucket", {"requests_per_s": 0})
        await client.reset()
        async with session.post(url, headers={"X-Key": "k"}) as answer:
            assert answer.status == 204
