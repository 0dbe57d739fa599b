"""The form of an upload, and where a file may go."""

import base64
from typing import Any

import msgspec
import pytest

from handlers.imports.form import (
    LengthRange,
    address_problem,
    form_around,
    is_named,
    length_range,
    resolved_problem,
)


def policy(conditions: Any) -> list[tuple[str, str]]:
    return [("key", "k"), ("Policy", base64.b64encode(msgspec.json.encode({"conditions": conditions})).decode())]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (policy([["content-length-range", 1, 1000]]), LengthRange(1, 1000)),
        (policy([["content-length-range", 1, 524_288_000]]), LengthRange(1, 50_000_000)),
        (policy([["eq", "$key", "k"], {"a": "b"}]), LengthRange(1, 50_000_000)),
        (policy("none"), LengthRange(1, 50_000_000)),
        ([("policy", "%%%")], LengthRange(1, 50_000_000)),
        ([], LengthRange(1, 50_000_000)),
    ],
)
def test_the_policy_bounds_the_file(fields: list[tuple[str, str]], expected: LengthRange) -> None:
    """Never above the platform's own bound; one that cannot be read says nothing."""
    assert length_range(fields, 50_000_000) == expected


HOSTS = ["s3.eu-west-1.amazonaws.com", "*.uploads.example", "storage.example:8443"]


@pytest.mark.parametrize(
    "url",
    [
        "https://s3.eu-west-1.amazonaws.com/bucket",
        "https://S3.eu-west-1.amazonaws.com:443/bucket",
        "https://a.b.uploads.example/x?y=z",
        "https://storage.example:8443/",
    ],
)
def test_addresses_that_take_files(url: str) -> None:
    """Exact hosts, hosts below a suffix, ports where they are written."""
    assert address_problem(url, HOSTS, plain_loopback=False) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://s3.eu-west-1.amazonaws.com/bucket",
        "https://s3.eu-west-1.amazonaws.com:8443/",
        "https://s3.eu-west-1.amazonaws.com.evil.example/",
        "https://evils3.eu-west-1.amazonaws.com/",
        "https://uploads.example/",
        "https://storage.example/",
        "https://user:pass@s3.eu-west-1.amazonaws.com/",
        "https://s3.eu-west-1.amazonaws.com/#x",
        "https://127.0.0.1/",
        "http://127.0.0.1/",
        "https://localhost/",
        "https://10.0.0.1/",
        "https://[::1]/",
        "ftp://s3.eu-west-1.amazonaws.com/",
        "https://evil.example\\@s3.eu-west-1.amazonaws.com/",
        "https://s3.eu-west-1.amazonaws.com /",
        "https:///x",
        "https://s3.eu-west-1.amazonaws.com:x/",
        "",
    ],
)
def test_addresses_that_get_no_file(url: str) -> None:
    """Another host, port or scheme, credentials, private addresses, and what is no URL."""
    assert address_problem(url, HOSTS, plain_loopback=False) is not None


def test_a_plain_address_on_loopback_where_the_account_is_there() -> None:
    """For the sandbox alone."""
    assert address_problem("http://127.0.0.1:8090/x", HOSTS, plain_loopback=True) is None
    assert address_problem("http://10.0.0.1/x", HOSTS, plain_loopback=True) is not None


@pytest.mark.parametrize(
    ("address", "named", "problem"),
    [
        ("52.218.1.1", False, None),
        ("2a05:d07a::1", False, None),
        ("10.0.0.1", False, "private network"),
        ("192.168.3.4", False, "private network"),
        ("fd00::1", False, "private network"),
        ("100.64.0.1", False, "private network"),
        ("::ffff:10.0.0.1", False, "private network"),
        ("64:ff9b::10.0.0.1", False, "private network"),
        ("64:ff9b::52.218.1.1", False, None),
        ("10.0.0.1", True, None),
        ("fd00::1", True, None),
        ("127.0.0.1", True, "this machine"),
        ("::ffff:127.0.0.1", True, "this machine"),
        ("::1", True, "this machine"),
        ("169.254.169.254", True, "no host"),
        ("fe80::1%eth0", True, "no host"),
        ("0.0.0.0", True, "no host"),
        ("224.0.0.1", True, "no host"),
    ],
)
def test_where_a_name_may_lead(address: str, named: bool, problem: str | None) -> None:
    """Into a private network only a host that the configuration names itself; to this machine none."""
    told = resolved_problem(address, named=named, plain_loopback=False)
    assert told is None if problem is None else problem in (told or "")


def test_a_sandbox_on_this_machine_may_lead_to_it() -> None:
    """Where the account itself is there, and nowhere else then."""
    assert resolved_problem("127.0.0.1", named=False, plain_loopback=True) is None
    assert resolved_problem("10.0.0.1", named=False, plain_loopback=True) is not None


def test_a_host_is_named_or_below_a_suffix() -> None:
    """In any case of letters, whatever its port."""
    assert is_named("https://S3.eu-west-1.amazonaws.com/bucket", HOSTS)
    assert is_named("https://storage.example:8443/", HOSTS)
    assert not is_named("https://a.uploads.example/", HOSTS)


def test_a_form_has_each_field_unchanged_and_the_file_last() -> None:
    """Names that no form can carry are refused."""
    before, behind = form_around([("key", "a b"), ("policy", "e30=")], "bbb")
    assert before.index(b'name="key"\r\n\r\na b\r\n') < before.index(b'name="policy"\r\n\r\ne30=\r\n')
    assert before.rindex(b'name="file"') > before.index(b'name="policy"')
    assert behind == b"\r\n--bbb--\r\n"
    with pytest.raises(ValueError, match="name"):
        form_around([('a"b', "c")], "bbb")
