"""An audit begins once all that has been written can be seen."""

from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from service.app import KINDS
from service.auditing.auditing import AuditError, Progress, _Audit
from service.config import loads
from service.lookup.scanning import Span
from tests.support.fakes import FakeTime, run
from tests.unit.service.test_service_app import CONFIG

OPEN, SHUT = TopicPartition("results", 0), TopicPartition("results", 1)


class Reader:
    """A topic of two partitions; an open transaction hides the end of one of them for so long."""

    def __init__(self, time: FakeTime, hidden_s: float) -> None:
        self._now = time.monotonic
        self._seen_at = time.monotonic() + hidden_s
        self.asked = 0

    async def high_watermarks(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        # Others go on writing: what comes behind the first look is nobody's business.
        self.asked += 1
        return {OPEN: 6 + self.asked, SHUT: 3}

    async def spans(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Span]:
        return {OPEN: Span(0, 7 if self._now() >= self._seen_at else 2), SHUT: Span(0, 3)}


def _audit(reader: Reader) -> _Audit:
    given: Any = reader
    none: Any = None
    return _Audit(loads(CONFIG, KINDS), [], given, none, {}, Progress(lambda *_: None, lambda *_: None))


@pytest.mark.parametrize("hidden_s", [0.0, 3.0, 40.0])
def test_what_an_open_transaction_hides_is_waited_for_and_then_read(hidden_s: float) -> None:
    """Up to all that had been written when the audit looked first, and no further; not a second longer."""

    async def main(time: FakeTime) -> None:
        reader, began = Reader(time, hidden_s), time.monotonic()
        assert await _audit(reader)._visible([OPEN, SHUT]) == {OPEN: Span(0, 7), SHUT: Span(0, 3)}
        assert hidden_s <= time.monotonic() - began < hidden_s + 1
        assert reader.asked == 1

    run(main)


def test_a_transaction_that_does_not_end_is_told_of() -> None:
    """Its broker would have ended it: 30 s behind the transactions' own time nobody waits any more."""

    async def main(time: FakeTime) -> None:
        began = time.monotonic()
        with pytest.raises(AuditError, match="results-0: a transaction has been open for 45 s and hides"):
            await _audit(Reader(time, 1e9))._visible([OPEN, SHUT])
        assert 45 <= time.monotonic() - began < 46

    run(main)
