"""The rules of an upload at their edges: how long a file may be, where it may go, and the form around it."""

import base64
from email.message import Message
from email.parser import BytesParser
from typing import Any

import msgspec
import pytest

from handlers.imports.form import LengthRange, address_problem, content_type, form_around, length_range

MOST = 50_000_000
UNSAID = LengthRange(1, MOST)
S3 = "s3.eu-west-1.amazonaws.com"


def policy(*conditions: Any, **more: Any) -> list[tuple[str, str]]:
    document = msgspec.json.encode({"conditions": list(conditions), **more})
    return [("key", "k"), ("Policy", base64.b64encode(document).decode())]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([["content-length-range", 5, 1000]], LengthRange(5, 1000)),
        ([{"acl": "private"}, ["eq", "$key", "k"], ["content-length-range", 1, 2]], LengthRange(1, 2)),
        ([["content-length-range", 0, 5_368_709_120]], LengthRange(1, 50_000_000)),
        ([["content-length-range", 2, "many"], ["content-length-range", 3, 4]], LengthRange(3, 4)),
        ([["content-length-range", "1", 2]], UNSAID),
        ([["content-length-range", 5]], UNSAID),
        ([["starts-with", 5, 6]], UNSAID),
        (["content-length-range", 5, 6], UNSAID),
        ([], UNSAID),
    ],
)
def test_how_long_a_file_may_be(conditions: list[Any], expected: LengthRange) -> None:
    """As the form's policy says, within the platform's own bound; what it says otherwise counts for nothing."""
    assert length_range(policy(*conditions), MOST) == expected


def test_a_policy_that_cannot_be_read_says_nothing() -> None:
    """No base64, no JSON, no object, or conditions that are none."""
    for value in ("", "%", "e30", base64.b64encode(b"{").decode(), base64.b64encode(b"[" * 9000).decode()):
        assert length_range([("policy", value)], MOST) == UNSAID
    said = policy(["content-length-range", 5, 6])[1][1]
    assert length_range([("policy", f"{said[:4]}*{said[4:]}")], MOST) == UNSAID
    for none in (5, None, "content-length-range"):
        assert length_range(policy(conditions=none), MOST) == UNSAID
    assert length_range(policy(conditions={"content-length-range": 1}), MOST) == UNSAID
    assert length_range([("policy", base64.b64encode(b"{}").decode())], MOST) == UNSAID


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        (f"https://{S3}/b?x=%20", [S3]),
        (f"https://{S3}:443/", [S3]),
        (f"https://{S3.upper()}/", ["other", S3]),
        (f"https://{S3}/", [S3.upper()]),
        (f"https://bucket.{S3}/", [f"*.{S3}"]),
        (f"https://a.b.{S3}/", [f"*.{S3.upper()}"]),
        (f"https://{S3}:8443/", [f"{S3}:8443"]),
        (f"https://a.{S3}:8443/", [f"*.{S3}:8443"]),
    ],
)
@pytest.mark.parametrize("plain_loopback", [True, False])
def test_where_a_file_may_go(url: str, hosts: list[str], plain_loopback: bool) -> None:
    """To hosts that the configuration names, over TLS, at the port that it names or 443."""
    assert address_problem(url, hosts, plain_loopback=plain_loopback) is None


@pytest.mark.parametrize(
    ("url", "named"),
    [
        (f"http://{S3}/", f"at {S3} is not https"),
        (f"ftp://{S3}/", f"at {S3} is not https"),
        ("https://evil.example/", "at evil.example, which is none of upload_hosts"),
        (f"https://evil{S3}/", f"at evil{S3}, which"),
        (f"https://{S3}.evil.example/", f"at {S3}.evil.example, which"),
        (f"https://{S3}:8443/", f"at {S3}:8443, which"),
        (f"https://{S3}:444/", f"at {S3}:444, which"),
        ("https://evil.example:443/", "at evil.example, which"),
        ("https://wild.example/", "at wild.example, which"),
        ("https://a.wild.example:8443/", "at a.wild.example:8443, which"),
        ("https://ported.example/", "at ported.example, which"),
        ("https://xwild.example/", "at xwild.example, which"),
        (f"https://user@{S3}/", "credentials or a fragment"),
        (f"https://:word@{S3}/", "credentials or a fragment"),
        (f"https://{S3}/#part", "credentials or a fragment"),
        (f"https://{S3}:port/", "no URL"),
        ("https://[::1/", "no URL"),
        ("https:///path", "no URL"),
        ("", "no URL"),
        (f"https://{S3}/é", "no URL"),
        (f"https://{S3}/a b", "no URL"),
        (f"https://{S3}/\x7f", "no URL"),
        (f"https://{S3}\\.evil.example/", "no URL"),
    ],
)
def test_where_no_file_may_go(url: str, named: str) -> None:
    """Said with the host at most: the rest of the address is a right to write."""
    hosts = [S3, "*.wild.example", "ported.example:8443"]
    for plain_loopback in (True, False):
        problem = address_problem(url, hosts, plain_loopback=plain_loopback)
        assert problem is not None
        assert problem.startswith("the upload address ")
        assert named in problem
        assert not {"word", "part", "a b"} & set(problem.replace("/", " ").split())


@pytest.mark.parametrize("host", ["localhost", "[::1]", "127.0.0.1", "127.9.9.9"])
def test_a_sandbox_on_this_machine(host: str) -> None:
    """Where the account's own address is this machine, the upload's may be too, without TLS and at any port."""
    for scheme in ("http", "https"):
        assert address_problem(f"{scheme}://{host}:8081/u", [], plain_loopback=True) is None
    assert address_problem(f"ftp://{host}:8081/u", [], plain_loopback=True) == "the upload address is no URL"
    problem = address_problem(f"https://{host}:8081/u", [f"{host}:8081"], plain_loopback=False)
    assert problem == "the upload address is this machine"


def test_the_form_is_read_as_it_was_meant() -> None:
    """Every field unchanged and in its order, the file last, by the standard library's reader."""
    fields = [("key", "a/b"), ("x-amz-meta", 'é ; "quoted"'), ("empty", "")]
    before, behind = form_around(fields, "bound")
    header = f"Content-Type: {content_type('bound')}\r\n\r\n".encode()
    message = BytesParser().parsebytes(header + before + b"col\r\n1\r\n" + behind)
    assert content_type("bound") == "multipart/form-data; boundary=bound"
    parts = [part for part in message.walk() if not part.is_multipart()]
    assert [(_parameter(part, "name"), part.get_payload(decode=True)) for part in parts] == [
        *((name, value.encode()) for name, value in fields),
        ("file", b"col\r\n1\r\n"),
    ]
    assert {part.get_content_disposition() for part in parts} == {"form-data"}
    assert (parts[-1].get_content_type(), _parameter(parts[-1], "filename")) == ("text/csv", "import.csv")


def _parameter(part: Message, name: str) -> Any:
    return part.get_param(name, header="content-disposition")


@pytest.mark.parametrize("name", ["", 'a"b', "a\rb", "a\nb", "a\\b"])
def test_a_field_that_no_form_can_carry(name: str) -> None:
    """Said, not sent otherwise than it was given."""
    with pytest.raises(ValueError, match="a name that no form can carry"):
        form_around([(name, "x")], "bound")
