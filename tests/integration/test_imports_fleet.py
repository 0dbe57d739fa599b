"""Imports of five replicas before a sandbox that refuses one too many, and counts: through kills, restarts, freezes.

An account is used by one lane alone, another one by two lanes: all of them import what is published.
"""

from pathlib import Path

from tests.support.fleet import MOST_OPEN, Fleet
from tests.support.import_halts import Point

ACCOUNTS = {"alone": {"one": {"slots": 3}}, "shared": {"two": {"slots": 2}, "three": {"slots": 1}}}
EVENTS = 100_000
EVENTS_FROZEN = 20_000
CONTACTS = 9_000
REPLICAS = 5


async def test_no_import_too_many_through_kills_and_restarts(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """Two SIGKILLs, each of a replica with most imports open, and a rolling restart: no import beyond the account's is
    ever asked for, no file is uploaded twice, each event has one result, each contact ends as its newest event says."""
    async with Fleet(bootstrap_servers, prefix, tmp_path, accounts=ACCOUNTS, contacts=CONTACTS, seed=11) as fleet:
        fleet.start(REPLICAS)
        async with fleet.crowding(EVENTS, per_s=EVENTS // 40):
            await fleet.until_imports(6)
            for _ in range(2):
                victim = fleet.replicas[await fleet.importing()]
                victim.kill()
                victim.start()
                await fleet.until_imports(6)
            for replica in fleet.replicas:
                replica.terminate()
                await replica.ended(within_s=40)
                replica.start()
                await fleet.until_imports(3)
        await fleet.until_settled(within_s=120)
        fleet.check_all()
        assert fleet.refused() == 0, "one import too many was asked for"
        assert fleet.most_open() <= MOST_OPEN
        assert fleet.uploads().keys() <= {0, 1}, "a file was uploaded twice"


async def test_what_a_freeze_can_cost_is_refused(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """A replica freezes past its session between an import's end and the transaction that settles it, and later between
    an entry's transaction and its create; each time it thaws when others have all slots, and goes on where it was. It
    settles nothing and begins nothing any more, but what the other lanes were about to begin, which is refused."""
    freezes = (Point.ENDED, Point.INTENDED)
    async with Fleet(bootstrap_servers, prefix, tmp_path, accounts=ACCOUNTS, contacts=CONTACTS, seed=12) as fleet:
        fleet.start(2)
        async with fleet.crowding(EVENTS_FROZEN, per_s=EVENTS_FROZEN // 20):
            await fleet.until_imports(3)
            # Of three members each has a slot of a lane with three.
            replica = fleet.start_freezing([("one", point) for point in freezes])
            for point in freezes:
                await fleet.until_frozen(point)
                await fleet.until_taken_over(besides=2)
                await fleet.until_imports(3)
                replica.thaw()
                await fleet.until_imports(3)
        await fleet.until_settled(within_s=60)
        fleet.check_all()
        others = len(freezes) * (len(fleet.lanes) - 1)
        assert fleet.refused() <= others, "one import too many was asked for"
        assert fleet.most_open() <= MOST_OPEN
        # A file whose way had begun arrives behind the one that was sent for it meanwhile.
        again = sum(count for uploads, count in fleet.uploads().items() if uploads > 1)
        assert again <= others
        empty = [one.id for one in fleet.apsis.imports("alone") if not one.uploads]
        assert not empty, f"begun behind the freeze, and of no use: {empty}"
        print(f"imports {sum(fleet.uploads().values())}, refused {fleet.refused()}, again {again}")


async def test_replicas_come_and_go_and_differ_in_slots(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """From one to five and to one again, some of which were told of fewer slots: the groups of open imports are torn
    apart and put together, and none too many is asked for; each owner ends its own events, once."""
    accounts = {"alone": {"one": {"slots": 3}}}
    async with Fleet(bootstrap_servers, prefix, tmp_path, accounts=accounts, contacts=CONTACTS, seed=13) as fleet:
        fleet.start(1)
        async with fleet.crowding(EVENTS_FROZEN, per_s=EVENTS_FROZEN // 20):
            await fleet.until_imports(2)
            fleet.start(2, slots={"one": 2})
            fleet.start(2)
            await fleet.until_imports(6)
            for replica in fleet.replicas[:4]:
                replica.terminate()
                await replica.ended(within_s=40)
                await fleet.until_imports(2)
        await fleet.until_settled(within_s=60)
        fleet.check_all()
        assert fleet.refused() == 0, "one import too many was asked for"
        assert fleet.uploads().keys() <= {0, 1}, "a file was uploaded twice"
