"""What the buffer counts of an event that is held, against what it takes of memory."""

import json
import sys
from typing import Any

import msgspec
import pytest

from service.app import KINDS, Application
from service.config import loads
from service.intake.item import Item, item_of
from service.intake.planner import Planner, PlanningPolicy
from service.kafka.records import Record
from tests.support.fakes import Source

CONFIGURATION = """
kafka: {bootstrap_servers: [localhost:9092], topic_prefix: p}
accounts:
  np6: {platform: np6, base_url: "https://api.example", api_key: {env: KEY}}
  apsis: {platform: apsis, base_url: "https://api.example", client_id: {env: KEY}, client_secret: {env: KEY},
          upload_hosts: [files.example]}
lanes:
  segments: {handler: np6.segments, account: np6, topics: [source], target: data.identifiers.np6,
             join: data.segments.join}
  workflows: {handler: np6.workflows, account: np6, topics: [source], workflow: 42,
              data: {label: data.attributes.note}, receiver: {type: id, value: data.identifiers.np6}}
  imports:
    handler: apsis.imports
    account: apsis
    topics: [source]
    section: s
    keyspaces: [{discriminator: com.apsis1.keyspaces.email, column: email, value: data.identifiers.email}]
    attributes:
      - {version_id: "1", column: first_name, value: data.attributes.first_name}
      - {version_id: "2", column: note, value: data.attributes.note}
"""


@pytest.mark.parametrize(("lane", "at_least"), [("segments", 0.7), ("imports", 0.7), ("workflows", 0.4)])
def test_what_is_held_takes_what_is_counted(lane: str, at_least: float) -> None:
    """Of an event of some 500 bytes: no more, or a lane would outgrow its buffer; nor much less, or it could not be
    filled. An execution is counted as if its event were held. What holds events (lists, keys) is not counted."""
    config = loads(CONFIGURATION.encode(), KINDS)
    handler = Application(config).handler(config.lanes[lane])
    planner = Planner(handler, None, PlanningPolicy(False, None, False), lambda *told: pytest.fail(str(told)))
    source = Source()
    item, other = (_planned(planner, source, number) for number in (1, 2))
    shared = _reached(other, {id(source.state()): source.state()})
    taken = sum(_allocated(thing) for thing in _reached(item, dict(shared)).values() if id(thing) not in shared)
    assert at_least <= taken / item.size <= 1.1


def _planned(planner: Planner, source: Source, number: int) -> Item:
    data = {
        "contact_id": f"contact-{number}",
        "change": "updated",
        "identifiers": {"np6": f"T-{number:06d}", "email": f"contact-{number}@example.org"},
        "attributes": {"first_name": f"Jeanne-{number}", "note": f"{number}" * 150, "points": 1_000 + number},
        "segments": {"join": [1_000 + number]},
        "version": 1_000 + number,
    }
    event = {"specversion": "1.0", "id": f"e-{number}", "source": f"crm-{number}", "type": "contact.changed.v1"}
    value = json.dumps({**event, "data": data}).encode()
    record = Record("source", 0, 1_000 + number, 1_700_000_000_000 + number, b"contact-%d" % number, value, ())
    item = item_of(source.state(), record, record.offset, 1_700_000_000_500)  # type: ignore[arg-type] # as a lane's
    planner.plan(item)
    assert item.outcome is None, item.detail
    return item


def _reached(thing: Any, found: dict[int, Any]) -> dict[int, Any]:
    """Everything that a thing holds, and it; what is ``found`` already is not gone into."""
    if thing is None or isinstance(thing, type) or id(thing) in found:
        return found
    found[id(thing)] = thing
    held: list[Any] = []
    if isinstance(thing, msgspec.Struct):
        held = [getattr(thing, name) for name in thing.__struct_fields__]
    elif isinstance(thing, dict):
        held = [*thing, *thing.values()]
    elif isinstance(thing, tuple | list | set):
        held = [*thing]
    for one in held:
        _reached(one, found)
    return found


def _allocated(thing: object) -> int:
    """Python allocates in steps of 16 bytes."""
    return -(-sys.getsizeof(thing) // 16) * 16
