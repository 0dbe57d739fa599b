"""Answers of brokers are read as the standard library reads them, in fewer copies."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from hypothesis import given, settings
from hypothesis import strategies as st

from service.kafka import frames
from service.kafka.frames import FrameReader, read_whole_frames

LIMIT = 8


class FakeTransport:
    """Whether it reads; nothing may come while it does not."""

    def __init__(self) -> None:
        self.reads = asyncio.Event()
        self.reads.set()

    def pause_reading(self) -> None:
        self.reads.clear()

    def resume_reading(self) -> None:
        self.reads.set()


async def said_by(
    kind: type[asyncio.StreamReader], chunks: list[tuple[bytes, bool]], sizes: list[int], end: str
) -> list[Any]:
    """What a reader gives that is asked for pieces of these sizes while the chunks come in, and then no more. Beside
    each chunk stands whether anybody else has a turn behind it."""
    reader, transport = kind(limit=LIMIT), FakeTransport()
    reader.set_transport(transport)  # type: ignore[arg-type] # as far as a reader knows one

    async def feed() -> None:
        for chunk, is_last in chunks:
            await transport.reads.wait()
            reader.feed_data(chunk)
            if is_last:
                await asyncio.sleep(0)
        # Who waits hears of the last chunk before the end, which the standard library expects.
        await asyncio.sleep(0)
        if end == "eof":
            reader.feed_eof()
        else:
            reader.set_exception(ConnectionError("reset"))

    async def read() -> list[Any]:
        found: list[Any] = []
        for size in sizes:
            try:
                found.append(await reader.readexactly(size))
            except asyncio.IncompleteReadError as error:
                found.append((error.partial, error.expected))
            except ConnectionError as error:
                found.append(str(error))
        return found

    feeding, reading = asyncio.create_task(feed()), asyncio.create_task(read())
    try:
        async with asyncio.timeout(5):
            found = await reading
    finally:
        feeding.cancel()
    return [*found, reader.at_eof()]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.booleans()), max_size=12),
    st.lists(st.integers(0, 60), min_size=1, max_size=6),
    st.sampled_from(["eof", "reset"]),
)
def test_pieces_are_what_the_standard_library_gives(
    chunks: list[tuple[bytes, bool]], sizes: list[int], end: str
) -> None:
    """Whatever the chunks are in which they come, also where the connection ends in the middle; and the transport,
    which pauses when much has come that nobody asked for, goes on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "_LARGE_BYTES", 4)
        ours = asyncio.run(said_by(FrameReader, chunks, sizes, end))
    assert ours == asyncio.run(said_by(asyncio.StreamReader, chunks, sizes, end))


async def test_connections_of_a_consumer_read_so() -> None:
    """Those that it has and those that come, each once asked for; one that is closed, or none at all, is passed by."""
    closed, plain = SimpleNamespace(_reader=None), SimpleNamespace(_reader=asyncio.StreamReader())
    conns = iter([closed, None, plain, plain])

    async def get(node_id: int, *, group: int) -> Any:
        return next(conns)

    client = SimpleNamespace(_get_conn=get)
    read_whole_frames(SimpleNamespace(_client=client))  # type: ignore[arg-type] # as far as it is looked at
    assert [await client._get_conn(1, group=0) for _ in range(4)] == [closed, None, plain, plain]
    assert type(plain._reader) is FrameReader


def test_the_private_names_exist() -> None:
    """Those of the client and of the standard library on which this stands."""
    assert "ready" in AIOKafkaClient.send.__code__.co_names
    assert "_get_conn" in AIOKafkaClient.ready.__code__.co_names
    assert {"_reader", "readexactly"} <= set(AIOKafkaConnection._read.__code__.co_names)
    names = set(asyncio.StreamReader.readexactly.__code__.co_names)
    assert {"_buffer", "_eof", "_exception", "_wait_for_data"} <= names
