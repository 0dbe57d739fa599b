"""Imports by FTP and FTPS through a real broker and a real server, and SIGKILL before, while and after a file is put
and named: no file is overwritten, none delivered twice or in part, and what a crash has left of one goes."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from contracts.journal import DeliveryState
from tests.support.events import Feed
from tests.support.ftp import ftp_modules, keys_of, serving
from tests.support.harness import API_KEY, KEY_VARIABLE, until_state
from tests.support.import_halts import Point
from tests.support.import_kills import EVENTS, Killed, Scene
from tests.support.import_stage import NP6, ImportStage, contacts_in, contacts_of
from tests.support.oracle import delivered, until
from tests.support.tls import make_certificates

WHO = {"username": "fanline", "password": API_KEY}
FILE = "a.csv"
OTHERS = b"contact;newest\r\nother;0\r\n"
PLAIN = {
    "before-the-put": Scene(),
    "half-put": Scene(Point.HALF_PUT),
    "put": Scene(Point.ENTERING),
    "intended": Scene(Point.INTENDED),
    "named": Scene(Point.MOVED),
    "named-and-answered": Scene(Point.UPLOADED_UNWRITTEN),
    "uploaded": Scene(Point.UPLOADED),
    "picked-up": Scene(Point.ENDED),
}
SECURED = {f"tls-{lane}": PLAIN[lane] for lane in ("half-put", "intended", "named")}
SCENES = {**PLAIN, **SECURED}
LEFT = [lane for lane, scene in SCENES.items() if scene.point in (Point.HALF_PUT, Point.ENTERING, Point.INTENDED)]
NAMED = [lane for lane, scene in SCENES.items() if scene.point in (Point.MOVED, Point.UPLOADED_UNWRITTEN)]


class Folders:
    """A folder for each lane, and what picks files up as the platform's scheduler does."""

    def __init__(self, root: Path, lanes: Iterable[str]) -> None:
        self.root = root
        self.taken: dict[str, list[bytes]] = {lane: [] for lane in lanes}
        self.picks: set[str] = set()
        for lane in self.taken:
            (root / lane).mkdir(exist_ok=True)

    def names(self, lane: str) -> list[str]:
        return sorted(file.name for file in (self.root / lane).iterdir())

    def parts(self, lane: str) -> list[int]:
        """The sizes of what is not whole, or has not its name yet."""
        return [file.stat().st_size for file in (self.root / lane).iterdir() if file.name != FILE]

    @asynccontextmanager
    async def picking(self) -> AsyncIterator[None]:
        """Files of the lanes in ``picks`` are taken away while the block runs."""

        async def pick() -> None:
            while True:
                for lane in self.picks:
                    file = self.root / lane / FILE
                    if file.exists():
                        self.taken[lane].append(file.read_bytes())
                        file.unlink()
                await asyncio.sleep(0.02)

        task = asyncio.create_task(pick())
        try:
            yield
        finally:
            task.cancel()


async def test_ftp_is_killed(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Of what had its name the file counts, and no other; what had not yet is taken away and put anew."""
    (root := tmp_path / "ftp").mkdir()
    folders = Folders(root, SCENES)
    certificates = make_certificates(tmp_path)
    modules = ftp_modules()
    with serving(modules, root, **WHO) as plain, serving(modules, root, **WHO, **keys_of(certificates)) as secured:
        lanes = {lane: lane_of(lane, plain) for lane in PLAIN}
        lanes |= {lane: lane_of(lane, secured, tls=True, ca_file=str(certificates.ca)) for lane in SECURED}
        async with ImportStage(bootstrap_servers, prefix, tmp_path, lanes) as stage, folders.picking():
            (root / "before-the-put" / FILE).write_bytes(OTHERS)
            folders.picks = {"picked-up"}
            killed = Killed(stage, SCENES)
            await killed.up_to_the_points("", ready=lambda: all(any(folders.parts(lane)) for lane in LEFT))
            assert [folders.names(lane) for lane in NAMED] == [[FILE]] * len(NAMED)
            assert folders.names("before-the-put") == [FILE]
            assert all(folders.parts(lane) and FILE not in folders.names(lane) for lane in LEFT)
            killed.come_back()
            # A file that is gone before the new process has looked may have been anybody's.
            await killed.until_open(NAMED, DeliveryState.UPLOADED)
            folders.picks = set(SCENES)
            await killed.all_have_results(but=False)
            await killed.more(1)
            await killed.all_have_results(but=False)
            await killed.check()
            for lane in SCENES:
                assert folders.names(lane) == [], lane
                check_files(lane, folders.taken[lane], contacts_of(killed.feed))


def check_files(lane: str, taken: list[bytes], contacts: list[str]) -> None:
    """Each contact once in what was published before the kill, once more in what came after."""
    if lane == "before-the-put":
        assert taken.pop(0) == OTHERS
    wanted = [sorted(set(contacts[:EVENTS])), contacts[EVENTS:]]
    assert [sorted(contacts_in(file.decode())) for file in taken] == wanted, lane


def lane_of(lane: str, port: int, *, tls: bool = False, **account: Any) -> dict[str, Any]:
    """A lane whose files go into a folder of its name."""
    secret = {"env": KEY_VARIABLE}
    server = {"host": "127.0.0.1", "port": port, "username": WHO["username"], "password": secret, "folder": lane}
    plain = {} if tls else {"tls": "none", "i_know": True}
    return {**NP6, "via": {"ftp": {**server, **plain}}, "account_keys": account}


async def test_what_an_ftp_server_refuses(
    bootstrap_servers: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login, a folder, a certificate: the lane holds and says so. A file whose folder is gone is not delivered."""
    (root := tmp_path / "ftp").mkdir()
    for lane in ("login", "vanishing", "certificate"):
        (root / lane).mkdir()
    monkeypatch.setenv("FANLINE_TEST_LOGIN", "wrong")
    certificates = make_certificates(tmp_path)
    modules = ftp_modules()
    with serving(modules, root, **WHO) as plain, serving(modules, root, **WHO, **keys_of(certificates)) as secured:
        lanes = {lane: lane_of(lane, plain) for lane in ("login", "folder", "vanishing")}
        lanes["login"]["via"]["ftp"]["password"] = {"env": "FANLINE_TEST_LOGIN"}
        lanes["certificate"] = lane_of("certificate", secured, tls=True)
        async with ImportStage(bootstrap_servers, prefix, tmp_path, lanes) as stage:
            feed = Feed(15, seed=1)
            await stage.publish(feed.take(EVENTS))
            async with stage.application() as application:
                running = application.lanes
                await until_state(running["login"], "holding", "refuses our username and password", within_s=40)
                await until_state(running["folder"], "holding", "the FTP server refuses: 550", within_s=40)
                await until_state(running["certificate"], "holding", "certificate is not trusted", within_s=40)
                await until((root / "vanishing" / FILE).exists, within_s=20, what="the file lies there")
                (root / "vanishing").rename(root / "elsewhere")
                await until_state(running["vanishing"], "holding", "the FTP server refuses: 550", within_s=40)
                monkeypatch.setenv("FANLINE_TEST_LOGIN", API_KEY)
                (root / "folder").mkdir()
                (root / "elsewhere").rename(root / "vanishing")
                assert not stage.results.found
                folders = Folders(root, ["login", "folder", "vanishing"])
                folders.picks = set(folders.taken)
                async with folders.picking():
                    for lane in folders.taken:
                        running[lane].released()
                    await stage.results.until(dict.fromkeys(folders.taken, EVENTS), within_s=40)
            await stage.check_all(dict.fromkeys(folders.taken, delivered))
            for taken in folders.taken.values():
                assert [sorted(contacts_in(file.decode())) for file in taken] == [sorted(set(contacts_of(feed)))]
            assert not folders.names("certificate")
