"""A settler before a broker that obeys the test; it notes all that the lane would be told."""

from contracts.ids import ResultIds
from contracts.results import ResultEncoder, decode_result
from service.errors import RefusedError
from service.intake.assignment import Assignment
from service.intake.item import Item
from service.settling.documents import DocumentPolicy, Documents
from service.settling.settler import SettleHooks, SettlePolicy, Settler
from tests.support.fakes import FakeBroker, FakeTime, values

RESULTS, DEAD_LETTERS = "results", "vip.dead-letters"


def documents_for(*, publish_skipped: bool = True, hash_keys: bool = False, partitions: int = 4) -> Documents:
    """The documents of a lane ``vip``."""
    return Documents(
        DocumentPolicy("vip", RESULTS, lambda: partitions, DEAD_LETTERS, publish_skipped, hash_keys),
        ResultEncoder(lane="vip", handler="np6.segments", platform="np6", account="np6-main", config="c0ffee00"),
        ResultIds("vip"),
    )


class SettlingBench:
    """One lane's settler. ``settled`` are the items that it said are committed, in order."""

    def __init__(self, time: FakeTime, broker: FakeBroker | None = None, policy: SettlePolicy | None = None) -> None:
        self.time = time
        self.broker = broker or FakeBroker()
        self.settled: list[Item] = []
        self._told_of: set[int] = set()
        self.told: list[str] = []
        self.settler = Settler(
            self.broker,
            documents_for(),
            policy or SettlePolicy(),
            SettleHooks(
                settled=self._settled,
                fenced=self._fenced,
                refused=self._refused,
                lost=lambda why: self.told.append("lost"),
                recovered=lambda: self.told.append("recovered"),
            ),
            time,
            self.broker.read_offsets,
        )
        self.assignment: Assignment | None = None

    def _settled(self, items: list[Item], seconds: float) -> None:
        assert seconds >= 0
        for item in items:
            assert item.partition.assignment.active
            assert item.offset not in item.partition.items, "told of as settled, and still unfinished"
            assert id(item) not in self._told_of, "settled twice"
            self._told_of.add(id(item))
            self.settled.append(item)

    def _fenced(self, assignment: Assignment) -> None:
        self.told.append("fenced")
        assignment.end()

    def _refused(self, error: RefusedError) -> None:
        self.told.append(f"refused {error.what}")
        if self.assignment is not None:
            self.assignment.end()

    def add(self, *items: Item) -> None:
        """These items have reached their ends."""
        for item in items:
            self.assignment = item.partition.assignment
            self.settler.add(item)

    def published(self) -> list[tuple[str, int, int]]:
        """Topic, partition and offset of the source record of each committed result."""
        results = [decode_result(value or b"") for value in values(self.broker.written, RESULTS)]
        origins = [result.data.origin for result in results]
        return [(origin.topic, origin.partition, origin.offset) for origin in origins]
