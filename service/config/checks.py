"""What no single type can say: names, addresses, and keys that contradict each other.

Each check looks at the values of one mapping by the model's names. A value that was refused already is absent.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from service.config.accounts import ApsisAccount, CopernicaAccount, Np6Account, Timeouts
from service.config.kafka import Kafka, Security
from service.config.lanes import Kinds, Lane, Retry
from service.config.model import Configuration, Http, Results
from service.config.reading import Check
from service.imports.slots import SlotShare, slots_problem

Problems = Iterator[tuple[str, str]]
Values = Mapping[str, Any]

LANE_NAME = r"^[a-z0-9][a-z0-9-]*$"
TOPIC_NAME = r"^[A-Za-z0-9._-]+$"
PREFIX = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
ACCOUNT_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
MAX_TOPIC = 249
UPLOAD_HOST = r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?"

LANE_TOPICS = ("dead-letters", "dead-letters.log", "replay", "journal")
SHARED_TOPICS = ("status", "control")


def topic_problem(name: str) -> str | None:
    """Why Kafka would not take a topic of this name."""
    if not re.match(TOPIC_NAME, name) or name in (".", "..") or len(name) > MAX_TOPIC:
        return f"a topic's name has 1 to {MAX_TOPIC} letters, digits, dots, underscores and dashes"
    return None


def url_problem(url: str) -> str | None:
    """Why a platform's address is refused: it must be https (plain on loopback alone) and hold no secret. The
    message does not repeat the address, which may hold one."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "not a URL"
    if parts.scheme not in ("http", "https") or not host or re.search(r"[\s\\\x00-\x1f\x7f]", url):
        return "expected an https URL"
    if parts.username is not None or parts.password is not None:
        return "a URL holds no credentials"
    if "?" in url or "#" in url:
        return "a URL here has no query and no fragment"
    if any(part in (".", "..") for part in parts.path.split("/")):
        return "a URL here has no dots as parts of its path"
    if parts.scheme == "http" and not is_loopback(host):
        return "expected an https URL; http is allowed on loopback alone"
    return None


def is_loopback(host: str) -> bool:
    """Whether a host of a URL, or of ``host:port``, is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_port_problem(address: str, *, lowest: int = 1) -> str | None:
    """Why an address is not ``host:port``; IPv6 stands in brackets."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})", address)
    if match is None or not lowest <= int(match[2]) <= 65_535:
        return f"expected host:port with a port of {lowest} to 65535, such as 127.0.0.1:8080"
    return None


def check_kafka(values: Values) -> Problems:
    """Addresses, the prefix, and timeouts that must be in order."""
    for server in values.get("bootstrap_servers", ()):
        if problem := host_port_problem(server):
            yield "bootstrap_servers", problem
    prefix = values.get("topic_prefix", "")
    if prefix and (not re.match(PREFIX, prefix) or len(prefix) > 200):
        yield "topic_prefix", "expected up to 200 letters, digits, dots, underscores and dashes"
    transaction_s, session_s = values.get("transaction_timeout_s"), values.get("session_timeout_s")
    if transaction_s and session_s and transaction_s >= session_s:
        yield "transaction_timeout", "must be shorter than session_timeout"


def check_security(values: Values) -> Problems:
    """Each protocol and mechanism has its own keys."""
    if "protocol" not in values or "mechanism" not in values:
        return
    protocol, mechanism = values["protocol"], values["mechanism"]
    sasl = protocol.startswith("SASL_")
    if sasl and mechanism is None:
        yield "mechanism", f"is required with {protocol}"
    yield from _only_with(values, ("mechanism",), sasl, "a SASL protocol", required=False)
    passwords = mechanism is not None and mechanism != "OAUTHBEARER"
    yield from _only_with(values, ("username", "password"), passwords, "mechanism PLAIN or SCRAM")
    tokens = ("token_url", "client_id", "client_secret")
    yield from _only_with(values, tokens, mechanism == "OAUTHBEARER", "mechanism OAUTHBEARER")
    tls = protocol in ("SSL", "SASL_SSL")
    yield from _only_with(values, ("ca_file", "cert_file", "key_file"), tls, "SSL or SASL_SSL", required=False)
    if tls and (values.get("cert_file") is None) != (values.get("key_file") is None):
        yield "cert_file" if values.get("cert_file") else "key_file", "cert_file and key_file go together"
    if (url := values.get("token_url")) and (problem := url_problem(url)):
        yield "token_url", problem


def _only_with(values: Values, keys: tuple[str, ...], condition: bool, what: str, *, required: bool = True) -> Problems:
    for key in keys:
        if key not in values:
            continue
        if condition and required and values[key] is None:
            yield key, f"is required with {what}"
        if not condition and values[key] is not None:
            yield key, f"has a meaning with {what} alone"


def check_account(values: Values) -> Problems:
    """The platform's address and the proxy's."""
    if (url := values.get("base_url")) is not None and (problem := url_problem(url)):
        yield "base_url", problem
    if proxy := values.get("proxy"):
        parts = urlsplit(proxy)
        if parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or "?" in proxy or "#" in proxy:
            yield "proxy", "expected an address such as http://proxy:3128"
        elif parts.username is not None:
            yield "proxy", "a URL holds no credentials"


def check_apsis(values: Values) -> Problems:
    """Where files may go, beside what every account has."""
    yield from check_account(values)
    for pattern in values.get("upload_hosts", ()):
        if not re.fullmatch(UPLOAD_HOST, pattern) or not 1 <= int(pattern.partition(":")[2] or 443) <= 65_535:
            yield "upload_hosts", f'"{pattern}" is no host, *.suffix or host:port'
        elif pattern.startswith("*.") and "." not in pattern[2:].partition(":")[0]:
            yield "upload_hosts", f'"{pattern}" lets half of the world in: name a longer suffix'


def check_copernica(values: Values) -> Problems:
    """Where tokens come from, and that a token in addresses is meant."""
    yield from check_account(values)
    base, token_url = values.get("base_url"), values.get("token_url")
    if token_url is not None and (problem := url_problem(token_url)):
        yield "token_url", problem
    elif token_url and base and token_url.startswith("http:") and not is_loopback(urlsplit(base).hostname or ""):
        yield "token_url", "expected an https URL; http is allowed where base_url is on loopback alone"
    if values.get("api_version") == 3 and values.get("i_know") is False:
        yield "api_version", "version 3 puts the token into the address of each request: it needs i_know: true"


def check_http(values: Values) -> Problems:
    """Where to listen. Port 0 takes a free one."""
    if (listen := values.get("listen")) is not None and (problem := host_port_problem(listen, lowest=0)):
        yield "listen", problem


def check_results(values: Values) -> Problems:
    """The topic's name; empty means the default."""
    if (topic := values.get("topic")) and (problem := topic_problem(topic)):
        yield "topic", problem


def check_retry(values: Values) -> Problems:
    """The delays must be in order."""
    first_s, max_s = values.get("first_delay_s"), values.get("max_delay_s")
    if first_s is not None and max_s is not None and first_s > max_s:
        yield "first_delay", "must not be longer than max_delay"


def check_timeouts(values: Values) -> Problems:
    """Connecting is a part of the whole."""
    connect_s, total_s = values.get("connect_s"), values.get("total_s")
    if connect_s is not None and total_s is not None and connect_s > total_s:
        yield "connect", "must not be longer than total"


CHECKS: Mapping[type, Check] = {
    Kafka: check_kafka,
    Security: check_security,
    Np6Account: check_account,
    ApsisAccount: check_apsis,
    CopernicaAccount: check_copernica,
    Timeouts: check_timeouts,
    Http: check_http,
    Results: check_results,
    Retry: check_retry,
}


class Surroundings:
    """What a lane must agree with: the accounts' platforms, our own topics, the handlers."""

    def __init__(self, *, platforms: Mapping[str, Any], own_topics: frozenset[str], prefix: str, kinds: Kinds):
        self.platforms = platforms
        self.own_topics = own_topics
        self.prefix = prefix
        self.kinds = kinds


def check_lane(name: str, values: Values, around: Surroundings) -> Problems:
    """A lane's name, handler, account and topics, and bounds that contradict each other."""
    longest = f"{around.prefix}.{name}.{max(LANE_TOPICS, key=len)}"
    if not re.match(LANE_NAME, name) or name.endswith("\n"):
        yield "", "a lane's name has small letters, digits and dashes and begins with a letter or digit"
    elif len(longest) > MAX_TOPIC:
        yield "", f"the lane's name is too long: the topic {longest[:40]}… would have over {MAX_TOPIC} characters"
    yield from _check_account_of(values, around)
    seen: set[str] = set()
    for topic in values.get("topics", ()):
        if problem := topic_problem(topic):
            yield "topics", problem
        elif topic in seen:
            yield "topics", f'"{topic}" stands twice'
        elif topic in around.own_topics or _is_lane_topic(topic, around.prefix):
            yield "topics", f'"{topic}" is one of our own topics: the lane would read what it writes'
        seen.add(topic)
    batch, buffer = values.get("batch"), values.get("buffer_bytes")
    if batch is not None and buffer is not None and batch.max_bytes > buffer:
        yield "buffer", "must not be smaller than batch.max_bytes"


def _check_account_of(values: Values, around: Surroundings) -> Problems:
    account, handler = values.get("account", ""), values.get("handler", "")
    if account and account not in around.platforms:
        names = ", ".join(around.platforms) or "none"
        yield "account", f'there is no account "{account}"; accounts: {names}'
    kind = around.kinds.get(handler)
    platform = around.platforms.get(account)
    if kind is not None and isinstance(platform, str) and platform != kind.platform:
        yield "account", f'{kind.name} needs an account on {kind.platform}; "{account}" is on {platform}'


def slot_problems(accounts: Mapping[str, Any], lanes: Mapping[str, Any]) -> Problems:
    """Import lanes that have no slot, or together more than their account lets be open. Yields (path, problem)."""
    shares: dict[str, list[SlotShare]] = {}
    for lane in lanes.values():
        if isinstance(lane, Lane) and hasattr(lane.options, "slots"):
            shares.setdefault(lane.account, []).append(SlotShare(lane.name, lane.options.slots))
    for account, sharing in shares.items():
        most = getattr(getattr(accounts.get(account), "limits", None), "max_open_imports", None)
        if most is not None and (problem := slots_problem(sharing, most)):
            yield f"accounts.{account}.limits.max_open_imports", problem


def standing_problems(lanes: Mapping[str, Any]) -> Problems:
    """Lanes that would execute one import, whose executions cannot be told apart. Yields (path, problem)."""
    seen: dict[tuple[str, Any], str] = {}
    for name, lane in lanes.items():
        standing = getattr(lane.options, "import_", None) if isinstance(lane, Lane) else None
        if standing is None:
            continue
        other = seen.setdefault((lane.account, standing), name)
        if other != name:
            yield f"lanes.{name}.import", f"lane {other} has this import already: its executions cannot be told apart"


def own_topics(prefix: str, results: str, lanes: Mapping[str, Any]) -> frozenset[str]:
    """The names of all topics that this configuration writes."""
    shared = {f"{prefix}.{topic}" for topic in SHARED_TOPICS}
    return frozenset({results} | shared | {f"{prefix}.{lane}.{topic}" for lane in lanes for topic in LANE_TOPICS})


def _is_lane_topic(topic: str, prefix: str) -> bool:
    """Also of a lane that this file does not name (any more)."""
    return topic.startswith(f"{prefix}.") and topic.endswith(tuple(f".{name}" for name in LANE_TOPICS))


def drain_problems(config: Configuration, drain_s: float) -> Problems:
    """Where ``--drain`` is too long for Kafka, or too short for a platform's answers. Yields (path, problem)."""
    if drain_s >= config.kafka.rebalance_timeout_s / 2:
        yield "kafka.rebalance_timeout", f"the drain of {drain_s:g}s must be shorter than half of it"
    for name, account in config.accounts.items():
        if account.timeouts.total_s + 10 > drain_s:
            problem = f"this and 10s must not exceed the drain of {drain_s:g}s"
            yield f"accounts.{name}.timeouts.total", problem
