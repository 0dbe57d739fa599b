"""Keys whose records wait outside memory: from an offset on all of them are unfinished, whatever the runs say.

One number per key stands for any number of records, in memory and in the commit's metadata. In the ledger's runs a
deferred record counts as finished, so that it is no hole in them; the commit never passes the first of any key.
Keys are known by a digest, which says nothing of them and has one length. Should two keys ever have the same one,
records of the second would be delivered again after a restart.
"""

from collections.abc import Mapping
from hashlib import blake2b

DIGEST_BYTES = 8
# In the metadata each takes its digest and an offset of at most four bytes (a window of 268 million).
BYTES_PER_KEY = DIGEST_BYTES + 4
# So that they and a window of ``ledger.SAFE_WINDOW_OFFSETS`` fit into the metadata together.
MOST_KEYS = 32

# By digest, the offset from which on the key's records are unfinished.
Deferred = Mapping[bytes, int]


def key_digest(key: bytes) -> bytes:
    """What stands for a key."""
    return blake2b(key, digest_size=DIGEST_BYTES).digest()


def is_deferred(deferred: Deferred, key: bytes | None, offset: int) -> bool:
    """Whether the record waits outside memory. One without a key never waits."""
    if key is None:
        return False
    first = deferred.get(key_digest(key))
    return first is not None and offset >= first


def pack(base: int, deferred: Deferred) -> bytes:
    """A count, and each key's digest and distance from ``base``."""
    packed = bytearray([len(deferred)])
    for digest, first in sorted(deferred.items()):
        packed += digest
        packed += (first - base).to_bytes(4, "big")
    return bytes(packed)


def unpack(base: int, payload: bytes) -> tuple[dict[bytes, int], bytes] | None:
    """The keys, and what follows them; None if it is too short."""
    if not payload:
        return None
    end = 1 + payload[0] * BYTES_PER_KEY
    if len(payload) < end:
        return None
    deferred: dict[bytes, int] = {}
    for start in range(1, end, BYTES_PER_KEY):
        digest = payload[start : start + DIGEST_BYTES]
        deferred[digest] = base + int.from_bytes(payload[start + DIGEST_BYTES : start + BYTES_PER_KEY], "big")
    return deferred, payload[end:]
