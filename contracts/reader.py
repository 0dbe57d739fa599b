"""For other teams: read the results topic, each result once.

The records come from any Kafka client (read with ``isolation.level=read_committed``); nothing here does I/O::

    reader = ResultReader()
    for record in consumer:
        result = reader.read(record.value)
        if result is not None:
            ...
"""

from collections import OrderedDict

from .results import SyncResult, decode_result


class ResultReader:
    """Decodes results and drops those whose id was read before.

    It remembers the last ``window`` ids (about 150 bytes each). Exactly-once lanes publish no repeats; with
    ``delivery: at_least_once`` a result can appear again, with the same id, soon after the first. The first one
    counts.
    """

    def __init__(self, window: int = 100_000) -> None:
        if window < 1:
            raise ValueError("window must be at least 1")
        self._window = window
        self._seen: OrderedDict[str, None] = OrderedDict()

    def read(self, value: bytes) -> SyncResult | None:
        """The result in a record's value; None if it is a repeat. Raises contracts.results.ResultError."""
        result = decode_result(value)
        if result.id in self._seen:
            self._seen.move_to_end(result.id)
            return None
        self._seen.setdefault(result.id)
        if len(self._seen) > self._window:
            self._seen.popitem(last=False)
        return result
