"""What was found of one event, and how it all belongs together: records, replays, dead letters and results. Pure."""

from collections.abc import Collection, Mapping

import msgspec

from contracts.deadletters import Position, read_dead_letter, read_replay
from contracts.ids import result_id
from contracts.results import ATTRIBUTE_MAX, Origin, ResultError, SyncResult, decode_result
from contracts.timestamps import parse_rfc3339_ms
from service.lookup.matching import EventMatcher
from service.lookup.results import event_id_of
from service.lookup.scanning import Record
from service.lookup.standing import DeadLetterPlace, Explanation, LaneFacts, ended, unended
from service.settling.partitioner import partitions as partitions_of

# So many records are told of that only hold the id somewhere.
_MOST_MENTIONS = 20

# Topic, partition, offset.
Place = tuple[str, int, int]


class Story(msgspec.Struct):
    """One record of the event and how it stands in each lane. ``found``: it still lies in its topic; ``readable``: it
    is known to be of the event, and does not only hold the id somewhere in bytes that cannot be read."""

    record: Position
    found: bool
    readable: bool
    lanes: list[Explanation] = []


class SourceRecord(msgspec.Struct, frozen=True):
    """A record of a source topic."""

    position: Position
    key: bytes | None
    readable: bool


class Findings:
    """Collects what the topics hold of an event. ``lanes``: the source topics of each lane of the configuration."""

    def __init__(self, event_id: str, lanes: Mapping[str, Collection[str]]) -> None:
        self._event_id = event_id
        self._matcher = EventMatcher(event_id)
        self._lanes = lanes
        self.records: dict[Place, SourceRecord] = {}
        self._replays: dict[tuple[str, Place], tuple[Position, Place]] = {}  # by (lane, place read): its first source
        self._results: dict[tuple[str, Place], SyncResult] = {}  # by (lane, place read)
        self._dead: dict[str, DeadLetterPlace] = {}  # by result id
        self._ids: dict[str, bytes] = {}  # result ids of records that hold the id but cannot be read

    # -- collecting

    def take_source(self, record: Record) -> None:
        """A record of a source topic."""
        readable = self._matcher.is_of(record.value, record.headers)
        if not readable:
            if not self._matcher.mentions(record.value, record.headers):
                return
            if sum(not one.readable for one in self.records.values()) >= _MOST_MENTIONS:
                return
            for lane in self._lanes:
                found = result_id(lane, record.topic, record.partition, record.offset, record.timestamp)
                self._ids[found] = found.encode()
        position = _position(record)
        self.records[_place(position)] = SourceRecord(position, record.key, readable)

    def take_replay(self, lane: str, record: Record) -> None:
        """A record of a lane's replay topic."""
        if self._matcher.is_of(record.value, record.headers):
            position = _position(record)
            told = read_replay(record.headers)
            origin = position if told is None or told.origin is None else told.origin
            self._replays[lane, _place(position)] = (position, _place(origin))

    def take_dead_letter(self, record: Record) -> None:
        """A record of a dead-letter topic."""
        told = read_dead_letter(record.headers)
        if told is not None and (
            told.result_id in self._ids
            or self._matcher.is_of(record.value, record.headers)
            or self._matcher.mentions(record.value, record.headers)
        ):
            self._dead[told.result_id] = DeadLetterPlace(record.topic, record.partition, record.offset, told)

    def take_result(self, record: Record) -> None:
        """A record of the results topic."""
        value = record.value
        if value is None or not (
            self._matcher.may_be_in_result(value) or any(found in value for found in self._ids.values())
        ):
            return
        try:
            result = decode_result(value)
        except ResultError:
            return
        if event_id_of(result) == self._event_id[:ATTRIBUTE_MAX] or result.id in self._ids:
            # The first one counts.
            self._results.setdefault((result.data.lane, _origin_place(result.data.origin)), result)

    # -- what is still to be asked

    def result_partitions(self, count: int) -> set[int]:
        """The partitions of the results topic in which the results of the records that were found lie."""
        found = self.records.values()
        return set(partitions_of([one.key for one in found], [one.position.partition for one in found], count))

    def open_in(self, lane: str) -> set[tuple[str, int]]:
        """Topic and partition of the records that have no result in the lane."""
        places = [place for place in self.records if place[0] in self._lanes[lane]]
        places += [place for of, place in self._replays if of == lane]
        return {
            (topic, partition)
            for topic, partition, offset in places
            if (lane, (topic, partition, offset)) not in self._results
        }

    # -- the stories

    def stories(self, facts: Mapping[str, LaneFacts]) -> list[Story]:
        """Each first source record with all that is known of it, the oldest first. ``facts`` by lane."""
        told = {place: Story(one.position, found=True, readable=one.readable) for place, one in self.records.items()}
        first_places = self._first_places()
        for lane, place in first_places:
            if place not in told:
                told[place] = Story(self._first(lane, place), found=False, readable=True)
        for place, story in told.items():
            lanes = [lane for lane, topics in self._lanes.items() if place[0] in topics]
            lanes += [lane for lane, first in first_places if first == place]
            for lane in dict.fromkeys(lanes):
                explanation = self._explain(lane, story.record, facts.get(lane))
                if explanation is not None:
                    story.lanes.append(explanation)
        return sorted(told.values(), key=lambda story: (story.record.timestamp_ms or 0, _place(story.record)))

    def _explain(self, lane: str, first: Position, facts: LaneFacts | None) -> Explanation | None:
        told = self._standing(lane, first, facts)
        if told is None:
            return None
        place = _place(first)
        again = [read for (of, _), (read, origin) in self._replays.items() if (of, origin) == (lane, place)]
        # Of a replay whose record is gone its result is left.
        known = {_place(read) for read in again}
        again += [
            _of_origin(result.data.origin)
            for (of, read), result in self._results.items()
            if of == lane and read not in known and _first_of(result) == place and read != place
        ]
        standings = [self._standing(lane, read, facts) for read in sorted(again, key=_place)]
        told.replays = [each for each in standings if each is not None]
        return told

    def _standing(self, lane: str, record: Position, facts: LaneFacts | None) -> Explanation | None:
        result = self._results.get((lane, _place(record)))
        timestamp_ms = -1 if record.timestamp_ms is None else record.timestamp_ms
        name = result.id if result else result_id(lane, record.topic, record.partition, record.offset, timestamp_ms)
        dead = self._dead.get(name)
        if result is not None or dead is not None:
            return ended(lane, result, dead)
        return None if facts is None else unended(record, facts)

    def _first_places(self) -> list[tuple[str, Place]]:
        """Lane and first source record of everything that was found but the source records."""
        places = [(lane, first) for (lane, _), (_, first) in self._replays.items()]
        places += [(lane, _first_of(result)) for (lane, _), result in self._results.items()]
        places += [(dead.told.lane, _place(dead.told.origin)) for dead in self._dead.values()]
        return list(dict.fromkeys(places))

    def _first(self, lane: str, place: Place) -> Position:
        """A first source record that was not found itself."""
        for dead in self._dead.values():
            if _place(dead.told.origin) == place:
                return dead.told.origin
        result = self._results.get((lane, place))
        return Position(*place) if result is None else _of_origin(result.data.origin)


def _position(record: Record) -> Position:
    return Position(record.topic, record.partition, record.offset, record.timestamp if record.timestamp >= 0 else None)


def _place(position: Position) -> Place:
    return position.topic, position.partition, position.offset


def _origin_place(origin: Origin) -> Place:
    return origin.topic, origin.partition, origin.offset


def _of_origin(origin: Origin) -> Position:
    timestamp_ms = None if origin.timestamp is None else parse_rfc3339_ms(origin.timestamp)
    return Position(origin.topic, origin.partition, origin.offset, timestamp_ms)


def _first_of(result: SyncResult) -> Place:
    """The first source record of the event: of a replay as its headers told."""
    replay = result.data.replay
    return _origin_place(result.data.origin if replay is None or replay.origin is None else replay.origin)
