"""PURE: the upload of an import's file, as S3 takes it from a form, and whether it may be made.

Source of the form: Amazon's "Browser-based uploads using POST" (the policy is base64 of JSON; its conditions are exact
values, prefixes and ``content-length-range``); every given field comes first and unchanged, the file last.
"""

import base64
import binascii
import ipaddress
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_CRLF = b"\r\n"
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class LengthRange(msgspec.Struct, frozen=True, gc=False):
    """How many bytes a file may have."""

    at_least: int
    at_most: int


def length_range(fields: Sequence[tuple[str, str]], at_most: int) -> LengthRange:
    """What the policy among a form's fields says of the file's length, within ``at_most``, which is the platform's own
    bound. An empty file is none; a policy that cannot be read says nothing."""
    unsaid = LengthRange(1, at_most)
    policy = next((value for name, value in fields if name.lower() == "policy"), "")
    try:
        conditions = _decode(base64.b64decode(policy, validate=True)).get("conditions", [])
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError):
        return unsaid
    for condition in conditions if isinstance(conditions, list) else []:
        if isinstance(condition, list) and len(condition) == 3 and condition[0] == "content-length-range":
            low, high = condition[1:]
            if isinstance(low, int) and isinstance(high, int):
                return LengthRange(max(low, 1), min(high, at_most))
    return unsaid


def address_problem(url: str, hosts: Sequence[str], *, plain_loopback: bool) -> str | None:
    """Why a file may not be sent to an address; the words name its host at most.

    ``hosts`` are exact, or ``*.suffix`` for everything below it, with ``:port`` where it is not 443.
    ``plain_loopback``: the account's own address is this machine, so that the upload's may be, without TLS.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "the upload address is no URL"
    if parts.username is not None or parts.password is not None or parts.fragment:
        return "the upload address holds credentials or a fragment"
    if not host or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return "the upload address is no URL"
    if _is_loopback(host):
        if not plain_loopback:
            return "the upload address is this machine"
        return None if parts.scheme in ("http", "https") else "the upload address is no URL"
    if parts.scheme != "https":
        return f"the upload address at {host} is not https"
    if not any(_matches(host, port or 443, pattern) for pattern in hosts):
        place = host if port in (None, 443) else f"{host}:{port}"
        return f"the upload address is at {place}, which is none of upload_hosts"
    return None


def resolved_problem(address: str, *, named: bool, plain_loopback: bool) -> str | None:
    """Why a file may not be sent to what the upload address's host was resolved to, ``address`` being an IP.

    A public name can be made to lead anywhere. Never to this machine, unless the account is there, and to nothing that
    no other machine has (link-local, multicast, unspecified). To a private network only where ``upload_hosts`` has
    the host itself (``named``) and not a suffix of it: an operator who writes a name knows where it leads, as with
    a storage's endpoint inside the own network.
    """
    ip = _meant(ipaddress.ip_address(address.partition("%")[0]))
    if ip.is_loopback:
        return None if plain_loopback else "the upload address leads to this machine"
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return "the upload address leads to no host of a network"
    if not ip.is_global and not named:
        return "the upload address leads into a private network, and upload_hosts does not name its host"
    return None


def _meant(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address of version 4 that one of version 6 stands for, where it does (RFC 4291, RFC 6052)."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip in _NAT64:
            return ipaddress.IPv4Address(ip.packed[-4:])
    return ip


def is_named(url: str, hosts: Sequence[str]) -> bool:
    """Whether ``upload_hosts`` has the host of an address itself, and not only a suffix of it."""
    host = (urlsplit(url).hostname or "").lower()
    return any(pattern.partition(":")[0].lower() == host for pattern in hosts)


def _matches(host: str, port: int, pattern: str) -> bool:
    name, colon, given = pattern.partition(":")
    if port != (int(given) if colon else 443):
        return False
    name = name.lower()
    return host.endswith(name[1:]) if name.startswith("*.") else host == name


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def form_around(fields: Sequence[tuple[str, str]], boundary: str) -> tuple[bytes, bytes]:
    """What comes before and behind the file in the body of a multipart form.

    Raises ValueError for a field that no form can carry unchanged.
    """
    parts = []
    for name, value in fields:
        parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{_name(name)}"\r\n\r\n'.encode())
        parts.append(value.encode() + _CRLF)
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="import.csv"\r\n'
        "Content-Type: text/csv\r\n\r\n".encode()
    )
    return b"".join(parts), f"\r\n--{boundary}--\r\n".encode()


def content_type(boundary: str) -> str:
    """The header of a form with this boundary."""
    return f"multipart/form-data; boundary={boundary}"


def _name(name: str) -> str:
    if not name or any(letter in name for letter in '"\r\n\\'):
        raise ValueError("a field of the upload form has a name that no form can carry")
    return name
