"""Ends the events of an import: each has its own result, also where its row was another event's."""

from collections.abc import Callable, Sequence

import msgspec

from contracts.ids import ResultIds
from contracts.outcomes import Outcome
from handlers.imports.rows import IMPORT_ROW
from service.delivery.bulk_dispatcher import BulkHooks
from service.imports.files import FileRows
from service.imports.runs import Ends
from service.intake.item import Item, name_items


class Ending:
    """Writes ends into events, and tells the lane."""

    def __init__(self, hooks: BulkHooks, ids: ResultIds, masked: Callable[[str, Sequence[Item]], str]) -> None:
        self._hooks = hooks
        self._ids = ids
        self._masked = masked

    def masked(self, ends: Ends, items: Sequence[Item]) -> Ends:
        """The same end without what is personal in these events."""
        if ends.detail is None:
            return ends
        return msgspec.structs.replace(ends, detail=self._masked(ends.detail, items))

    def end(self, items: Sequence[Item], ends: Ends, reference: str | None, *, told: bool = True) -> None:
        """End these events; the detail is masked. ``told``: operations were carried out, and are counted."""
        detail = ends.detail
        operations = 0
        for item in items:
            item.outcome, item.reason, item.detail = ends.outcome, ends.reason, detail
            for operation in item.operations:
                operation.outcome, operation.reason, operation.detail = ends.outcome, ends.reason, detail
                operation.status, operation.reference = ends.status, reference
            item.remaining = 0
            operations += len(item.operations)
        if operations and told:
            self._hooks.operations_ended(IMPORT_ROW, ends.outcome, operations)
        self._hooks.ended(items)

    def name_those_sent(self, rows: FileRows) -> None:
        """Events without a row of their own say whose was sent."""
        sent = list({id(item): item for item in rows.sent_for.values()}.values())
        name_items([item for item in sent if item.result_id is None], self._ids)
        for place, item in rows.sent_for.items():
            rows.items[place].coalesced_into = item.result_id


DELIVERED = Ends(Outcome.DELIVERED)
