"""``dry_run``: everything but the calls."""

from pathlib import Path

from tests.support.events import Feed
from tests.support.harness import Stage
from tests.support.kafka import Message, produce
from tests.support.oracle import Place, Source


async def test_a_dry_run_reports_everything_and_calls_nothing(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """Results and dead letters as always, operations delivered with no attempt, and nothing reaches the platform."""
    broken = b"{"
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes={"lane": {"dry_run": True}}) as stage:
        await stage.publish(Feed(20, seed=1).take(300))
        await produce(bootstrap_servers, stage.topic(), [Message(broken, b"k")])
        service = stage.process()
        service.start()
        await stage.results.until({"lane": 301}, within_s=40, alive=service.must_live)

        def expect(_place: Place, source: Source) -> tuple[str, str | None]:
            return ("invalid", "malformed") if source.value == broken else ("delivered", None)

        for result in await stage.check("lane", expect):
            assert result.data["dry_run"] is True
            assert result.data["attempts"] == 0
            for operation in result.data["operations"]:
                assert (operation["outcome"], operation["attempts"], operation["status"]) == ("delivered", 0, None)
        assert stage.sandbox.log.count == 0
