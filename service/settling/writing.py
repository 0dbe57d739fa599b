"""Writes what a settling transaction leaves behind, in turns: results, which are packed at once, and dead letters."""

from collections.abc import Sequence

from service.intake.item import Item
from service.settling.batches import PackedWrite, PartitionWrite, Write, merged
from service.settling.documents import Documents
from service.settling.packing import Packer
from service.turns import Turns, pieces

# Results, and operations in them, that are written without a pause: 3 to 5 ms.
_AT_ONCE = 250
_OPERATIONS_AT_ONCE = 2_000


async def written(documents: Documents, chunk: Sequence[Item], now_ms: int, turns: Turns) -> list[Write]:
    """The chunk's documents, by partition. Each result is packed while what it was made of is in the processor's
    caches."""
    packers: dict[int, Packer] = {}
    dead: list[PartitionWrite] = []
    numbers, start = documents.partitions_of(chunk), 0
    for piece in pieces(chunk, [len(item.operations) for item in chunk], _AT_ONCE, _OPERATIONS_AT_ONCE):
        if start:
            await turns.rest()
        end = start + len(piece)
        for write in documents.writes(piece, now_ms, numbers[start:end]):
            if write.topic != documents.results_topic:
                dead.append(write)
                continue
            packer = packers.get(write.partition)
            if packer is None:
                packer = packers[write.partition] = Packer(turns)
            await packer.add(write.records)
        start = end
    writes: list[Write] = list(merged(dead))
    for number, packer in packers.items():
        writes.append(PackedWrite(documents.results_topic, number, await packer.packed()))
    return writes
