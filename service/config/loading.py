"""Reading a configuration file: everything that is wrong with it at once, or the model."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from service.config import checks, shape
from service.config.accounts import ACCOUNT_TYPES
from service.config.document import Document, Node, join, parse_document, read_document
from service.config.faults import ConfigurationError, Fault
from service.config.kafka import Kafka
from service.config.lanes import Kinds, Lane
from service.config.model import Configuration, Results
from service.config.reading import FAULTY, Reader
from service.config.secrets import Secret, SecretError

_SECTIONS = ("kafka", "results", "log", "tracing", "http", "console")


def load(path: str | Path, kinds: Kinds) -> Configuration:
    """The configuration in a file. Raises ConfigurationError with all its faults."""
    path = Path(path)
    return _configuration(read_document(path), kinds, path.parent)


def loads(content: bytes, kinds: Kinds, *, file: str = "fanline.yaml") -> Configuration:
    """The configuration in ``content``; ``file`` names it in faults. Raises ConfigurationError."""
    return _configuration(parse_document(content, file=file), kinds, Path(file).parent)


def check_drain(config: Configuration, drain_s: float) -> list[Fault]:
    """What ``--drain`` contradicts: half the rebalance timeout, or an account's time-out."""
    return [config.places.fault(path, problem) for path, problem in checks.drain_problems(config, drain_s)]


def check_secrets(config: Configuration) -> list[Fault]:
    """The secrets that cannot be read, each with its place. Reads every one, keeps none."""
    faults = []
    for path, secret in secrets_of(config):
        try:
            secret.read()
        except SecretError as error:
            faults.append(config.places.fault(path, str(error)))
    return faults


def secrets_of(config: Configuration) -> Iterator[tuple[str, Secret]]:
    """Every secret of the configuration with its path."""
    yield from _secrets(config.kafka, "kafka")
    for name, account in config.accounts.items():
        yield from _secrets(account, join("accounts", name))
    for name, lane in config.lanes.items():
        yield from _secrets(lane.options, join("lanes", name))


def _secrets(value: Any, path: str) -> Iterator[tuple[str, Secret]]:
    match value:
        case Secret():
            yield path, value
        case msgspec.Struct():
            for key in shape.keys_of(type(value)):
                yield from _secrets(getattr(value, key.field), join(path, key.name))
        case dict():
            for name, item in value.items():
                yield from _secrets(item, join(path, name))
        case tuple() | list():
            for index, item in enumerate(value):
                yield from _secrets(item, f"{path}[{index}]")


def _configuration(document: Document, kinds: Kinds, folder: Path) -> Configuration:
    reader = Reader(document.places, folder, checks.CHECKS)
    values = _read(reader, document.root, kinds)
    if reader.faults:
        raise ConfigurationError(reader.faults)
    return Configuration(**values, places=document.places)


def _read(reader: Reader, root: Node, kinds: Kinds) -> dict[str, Any]:
    keys = shape.keys_of(Configuration)
    entries = reader.mapping(root)
    if not isinstance(root.value, dict):
        return {}
    reader.refuse_unknown(root, [key.name for key in keys])
    values = reader.values([key for key in keys if key.name in _SECTIONS], root)
    accounts = _named(reader, entries, "accounts")
    lanes = _named(reader, entries, "lanes")
    if not lanes and "lanes" in entries:
        reader.fault("lanes", "expected at least one lane")
    values["results"] = _results(values)
    around = _surroundings(values, accounts, lanes, kinds)
    values["accounts"] = {name: _account(reader, name, node) for name, node in accounts.items()}
    values["lanes"] = {name: _lane(reader, name, node, around) for name, node in lanes.items()}
    for path, problem in checks.slot_problems(values["accounts"], values["lanes"]):
        reader.fault(path, problem)
    for path, problem in checks.standing_problems(values["lanes"]):
        reader.fault(path, problem)
    return values


def _named(reader: Reader, entries: dict[str, Node], name: str) -> dict[str, Node]:
    if name not in entries:
        reader.fault(name, "is required: a mapping of names to entries")
        return {}
    return reader.mapping(entries[name])


def _results(values: dict[str, Any]) -> Results | None:
    """The results section with the topic's name filled in."""
    kafka: Kafka | None = values.get("kafka")
    results: Results | None = values.get("results")
    if kafka is None or results is None or results.topic:
        return results
    return msgspec.structs.replace(results, topic=f"{kafka.topic_prefix}.results")


def _surroundings(
    values: dict[str, Any], accounts: dict[str, Node], lanes: dict[str, Node], kinds: Kinds
) -> checks.Surroundings:
    kafka: Kafka | None = values.get("kafka")
    results: Results | None = values.get("results")
    prefix = "fanline" if kafka is None else kafka.topic_prefix
    topic = (results and results.topic) or f"{prefix}.results"
    platforms = {name: _entry(node, "platform") for name, node in accounts.items()}
    own = checks.own_topics(prefix, topic, lanes)
    return checks.Surroundings(platforms=platforms, own_topics=own, prefix=prefix, kinds=kinds)


def _entry(node: Node, name: str) -> Any:
    entry = node.value.get(name) if isinstance(node.value, dict) else None
    return None if entry is None else entry.value


def _account(reader: Reader, name: str, node: Node) -> Any:
    if not re.fullmatch(checks.ACCOUNT_NAME.strip("^$"), name):
        reader.fault(node.path, "an account's name has up to 100 letters, digits, dots, underscores and dashes")
    entries = reader.mapping(node)
    if not isinstance(node.value, dict):
        return FAULTY
    platform = _entry(node, "platform")
    cls = ACCOUNT_TYPES.get(platform) if isinstance(platform, str) else None
    if cls is None:
        problem = "is required" if "platform" not in entries else f'there is no platform "{platform}"'
        known = ", ".join(ACCOUNT_TYPES)
        return reader.fault(join(node.path, "platform"), f"{problem}; platforms of this version: {known}")
    keys = shape.keys_of(cls)
    reader.refuse_unknown(node, [key.name for key in keys])
    values = reader.values(keys, node)
    for address in ("base_url", "token_url"):
        if address in values:
            values[address] = values[address].rstrip("/")  # paths of requests begin with it
    return reader.build(cls, {**values, "name": name}, node.path)


def _lane(reader: Reader, name: str, node: Node, around: checks.Surroundings) -> Any:
    if not isinstance(node.value, dict):
        reader.mapping(node)
        return FAULTY
    wanted = _entry(node, "handler")
    kind = around.kinds.get(wanted) if isinstance(wanted, str) else None
    keys = shape.common_keys(kind)
    values = reader.values(keys, node)
    for key, problem in checks.check_lane(name, values, around):
        reader.fault(join(node.path, key) if key else node.path, problem)
    handler = values.get("handler")
    if kind is None:
        if handler is not None:
            known = ", ".join(around.kinds)
            problem = f'there is no handler "{handler}"; handlers of this version: {known}'
            reader.fault(join(node.path, "handler"), problem)
        return FAULTY
    own = shape.keys_of(kind.config)
    reader.refuse_unknown(node, [key.name for key in (*keys, *own)], of=f" for {kind.name}")
    options = reader.build(kind.config, reader.values(own, node), node.path)
    return FAULTY if options is FAULTY else reader.build(Lane, {**values, "name": name, "options": options}, node.path)
