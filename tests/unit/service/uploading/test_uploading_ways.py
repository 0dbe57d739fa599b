"""The ways of files, from the configuration: which lane has which, and how a login is read."""

from typing import Any

import pytest

from handlers.base import Failure, FailureKind, Request
from service.app import KINDS, Application
from service.config import loads
from service.uploading.ways import AccountWay, FtpWay
from service.uploading.wiring import file_way

CONFIGURATION = """
kafka: {bootstrap_servers: ["localhost:9092"]}
accounts:
  np6: {platform: np6, base_url: "https://api.example", api_key: {env: K}}
  cop: {platform: copernica, base_url: "https://api.example", access_token: {env: T}}
lanes:
  file: {handler: np6.imports, account: np6, topics: [c], import: {id: 23}, columns: {Email: data.identifiers.email}}
  ftp:
    handler: np6.imports
    account: np6
    topics: [c]
    import: {id: 24}
    columns: {Email: data.identifiers.email}
    via: {ftp: {host: 127.0.0.1, port: 1, username: u, password: {env: FANLINE_TEST_FTP}}}
  rows: {handler: copernica.imports, account: cop, topics: [c], database: 1, key_fields: [Email], fields: {Email: key}}
  calls: {handler: np6.segments, account: np6, topics: [c], target: key, join: 7}
"""


def way_of(lane: str, kept: list[str] | None = None) -> Any:
    config = loads(CONFIGURATION.encode(), KINDS)
    found = config.lanes[lane]
    return file_way(
        config.accounts[found.account],
        Application(config).handler(found),
        found.options,
        proven=lambda plain: plain,
        keep_secret=(kept if kept is not None else []).append,
    )


def test_which_lane_has_which_way() -> None:
    """Files and rows go to the account's platform, or to a server of the lane's own; other calls have no file."""
    assert isinstance(way_of("file"), AccountWay)
    assert isinstance(way_of("rows"), AccountWay)
    assert isinstance(way_of("ftp"), FtpWay)
    assert way_of("calls") is None
    assert way_of("file").transport(None) is None
    assert way_of("ftp").transport(None) is not None


async def test_a_login_that_cannot_be_read_is_nothing_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told by where it should be; a later call reads it anew, and whatever is logged is searched for it."""
    monkeypatch.delenv("FANLINE_TEST_FTP", raising=False)
    kept: list[str] = []
    way = way_of("ftp", kept)
    reply = await way.transport(None).send(Request("HEAD", "/a"), {})
    assert isinstance(reply, Failure)
    assert (reply.kind, kept) == (FailureKind.NOT_SENT, [])
    assert "FANLINE_TEST_FTP" in reply.detail
    monkeypatch.setenv("FANLINE_TEST_FTP", "s3cret")
    reply = await way.transport(None).send(Request("HEAD", "/a"), {})
    assert isinstance(reply, Failure)
    assert kept == ["s3cret"]
    assert "FANLINE_TEST_FTP" not in reply.detail


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("import: {id: 24}", "import: {id: 23}", "lane file has this import already"),
        ("{env: FANLINE_TEST_FTP}", "s3cret", "a secret never stands in the file itself"),
        ("username: u", "username: u, tls: none", "it needs i_know: true"),
        ("import: {id: 24}", "import: {}", "either an id or a definition"),
    ],
)
def test_configurations_that_are_refused(old: str, new: str, words: str) -> None:
    """Each with its place, and none with the secret."""
    with pytest.raises(Exception, match=words) as refused:
        loads(CONFIGURATION.replace(old, new).encode(), KINDS)
    assert "s3cret" not in str(refused.value)
