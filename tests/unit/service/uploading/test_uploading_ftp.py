"""FTP and FTPS against a server that is not ours: what lies in its folder, and what every trouble is called."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from handlers.base import Answer, Failure, FailureKind, Reply, Request
from service.clock import SystemClock
from service.uploading.ftp import FtpPolicy, FtpTransport
from service.uploading.spool import BLOCK_BYTES, Spool, SpoolError
from tests.support.ftp import ftp_modules, keys_of
from tests.support.ftp import serving as serving_as
from tests.support.tls import Certificates, make_certificates

WHO = {"username": "fanline", "password": "s3cret"}
FOLDER = "23 - Import Contacts"
PART, FINAL = "/23%20-%20Import%20Contacts/.fanline-1.part", "/23%20-%20Import%20Contacts/Import%20Contacts.csv"
CONTENT = bytes(range(256)) * 8_192 + b"end"
EXISTS, PUT = Request("HEAD", FINAL), Request("PUT", PART)
MOVE = Request("MOVE", PART, (("Destination", FINAL),))
serving = partial(serving_as, **WHO)


@pytest.fixture(scope="module")
def node_modules() -> Path:
    return ftp_modules()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("ftp"))


@asynccontextmanager
async def file_of(content: bytes) -> AsyncIterator[Spool]:
    async with Spool(SystemClock()) as spool:
        await spool.write([content])
        await spool.finish()
        yield spool


def transport(port: int, tls: ssl.SSLContext | None = None, *, step_s: float = 10.0) -> FtpTransport:
    return FtpTransport(FtpPolicy("127.0.0.1", port, tls is not None, 5.0, step_s), tls)


def status(reply: Reply) -> int:
    assert isinstance(reply, Answer), reply
    return reply.status


@pytest.mark.parametrize("secured", [False, True])
async def test_a_file_is_there_only_once_it_is_whole(
    node_modules: Path, certificates: Certificates, tmp_path: Path, *, secured: bool
) -> None:
    """Under another name first, then renamed; with TLS on both connections, the second resuming the first's session."""
    (tmp_path / FOLDER).mkdir()
    tls = certificates.client_context() if secured else None
    keys = keys_of(certificates) if secured else {}
    with serving(node_modules, tmp_path, **keys) as port:
        ftp = transport(port, tls)
        assert status(await ftp.send(EXISTS, WHO)) == 404
        async with file_of(CONTENT) as file:
            assert status(await ftp.with_file(file).send(PUT, WHO)) == 204
        assert os.listdir(tmp_path / FOLDER) == [".fanline-1.part"]
        assert status(await ftp.send(EXISTS, WHO)) == 404
        assert status(await ftp.send(MOVE, WHO)) == 204
        assert os.listdir(tmp_path / FOLDER) == ["Import Contacts.csv"]
        assert (tmp_path / FOLDER / "Import Contacts.csv").read_bytes() == CONTENT
        assert status(await ftp.send(EXISTS, WHO)) == 204


async def test_no_file_is_overwritten(node_modules: Path, tmp_path: Path) -> None:
    """Looked for once more right before the name is given."""
    (tmp_path / FOLDER).mkdir()
    held = tmp_path / FOLDER / "Import Contacts.csv"
    with serving(node_modules, tmp_path) as port:
        ftp = transport(port)
        async with file_of(b"new") as file:
            assert status(await ftp.with_file(file).send(PUT, WHO)) == 204
        held.write_bytes(b"old")
        assert status(await ftp.send(MOVE, WHO)) == 409
        assert held.read_bytes() == b"old"
        assert status(await ftp.send(Request("DELETE", PART), WHO)) == 204
    assert os.listdir(tmp_path / FOLDER) == ["Import Contacts.csv"]


async def test_a_part_that_was_left_is_written_anew(node_modules: Path, tmp_path: Path) -> None:
    """As behind a crash: longer or shorter, the file is the new one."""
    (tmp_path / FOLDER).mkdir()
    part = tmp_path / FOLDER / ".fanline-1.part"
    part.write_bytes(b"x" * 10_000)
    with serving(node_modules, tmp_path) as port:
        async with file_of(b"new") as file:
            assert status(await transport(port).with_file(file).send(PUT, WHO)) == 204
    assert part.read_bytes() == b"new"


@pytest.mark.parametrize("secured", [False, True])
async def test_what_crashes_have_left_goes_with_the_next_file(
    node_modules: Path, certificates: Certificates, tmp_path: Path, *, secured: bool
) -> None:
    """What begins as the request says, and nothing else in the folder, whatever its name is."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    others = ["Import Contacts.csv", ".fanline-part-b-1", "x.fanline-part-a-1", "caf\udce9"]
    for name in [".fanline-part-a-1", ".fanline-part-a-22", *others]:
        (folder / name).write_bytes(b"half")
    tls = certificates.client_context() if secured else None
    path = "/23%20-%20Import%20Contacts/.fanline-part-a-3"
    with serving(node_modules, tmp_path, **(keys_of(certificates) if secured else {})) as port:
        async with file_of(b"new") as file:
            put = Request("PUT", path, (("Clears", ".fanline-part-a-"),))
            assert status(await transport(port, tls).with_file(file).send(put, WHO)) == 204
    assert sorted(os.listdir(folder)) == sorted([*others, ".fanline-part-a-3"])
    assert (folder / ".fanline-part-a-3").read_bytes() == b"new"


@pytest.mark.parametrize("known", ["MLSD", "NLST -a", "NLST", ""])
async def test_whatever_a_server_knows_of_lists_the_file_has_been_put(known: str) -> None:
    """Asked in the way that shows hidden files, if there is one; nothing that it answers harms the file."""
    deleted: list[str] = []

    async def list_to(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"type=file; .p-1\r\n" if known == "MLSD" else b".p-1\r\n")
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        answers = {"USER": "331 ?", "PASS": "230 in", "QUIT": "221 bye", "SIZE": "213 3"}
        data: asyncio.Server | None = None
        wanted: list[str] = []
        writer.write(b"220 hello\r\n")
        while line := (await reader.readline()).decode().strip():
            verb = line.split()[0]
            answer = answers.get(verb, "200 ok")
            if verb == "DELE":
                deleted.append(line.removeprefix("DELE "))
            elif verb in ("EPSV", "PASV"):
                if data is not None:
                    data.close()
                lists = wanted.count("STOR") > 0
                data = await asyncio.start_server(list_to if lists and known else take, "127.0.0.1", 0)
                place = data.sockets[0].getsockname()[1]
                answer = f"227 here (127,0,0,1,{place // 256},{place % 256})" if verb == "PASV" else "500 no"
            elif verb in ("STOR", "MLSD", "NLST"):
                wanted.append(verb)
                if verb == "STOR" or line == known:
                    writer.write(b"150 go\r\n")
                    answer = "226 done"
                else:
                    answer = "500 what?"
            writer.write(f"{answer}\r\n".encode())
        if data is not None:
            data.close()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, file_of(b"new") as file:
        put = Request("PUT", "/.p-2", (("Clears", ".p-"),))
        port = server.sockets[0].getsockname()[1]
        assert status(await transport(port).with_file(file).send(put, WHO)) == 204
    assert deleted == ([".p-1"] if known else [])


@pytest.mark.parametrize(
    ("request_", "who", "expected"),
    [
        (EXISTS, {**WHO, "password": "wrong"}, 401),
        (Request("HEAD", "/nowhere/a.csv"), WHO, 403),
        (Request("DELETE", PART), WHO, 404),
        (MOVE, WHO, 404),
    ],
)
async def test_what_a_server_refuses(
    node_modules: Path, tmp_path: Path, request_: Request, who: dict[str, str], expected: int
) -> None:
    """In the words of HTTP, with the server's own line, which holds no password."""
    (tmp_path / FOLDER).mkdir()
    with serving(node_modules, tmp_path) as port:
        reply = await transport(port).send(request_, who)
    assert status(reply) == expected
    assert isinstance(reply, Answer)
    assert b"wrong\n" not in reply.body
    assert len(reply.body) <= 300


async def test_a_server_without_size_is_asked_for_its_list(node_modules: Path, tmp_path: Path) -> None:
    """A file that is there is never taken for gone."""
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "Import Contacts.csv").write_bytes(b"x")
    with serving(node_modules, tmp_path, blacklist=["SIZE"]) as port:
        assert status(await transport(port).send(EXISTS, WHO)) == 204
        (tmp_path / FOLDER / "Import Contacts.csv").unlink()
        assert status(await transport(port).send(EXISTS, WHO)) == 404


async def test_without_tls_no_name_is_sent(node_modules: Path, certificates: Certificates, tmp_path: Path) -> None:
    """A server that offers none gets neither name nor password: the lane holds."""
    with serving(node_modules, tmp_path) as port:
        reply = await transport(port, certificates.client_context()).send(EXISTS, WHO)
    assert status(reply) == 405


async def test_a_certificate_that_is_not_trusted(
    node_modules: Path, certificates: Certificates, tmp_path: Path
) -> None:
    """Holds the lane, and nothing is sent."""
    with serving(node_modules, tmp_path, **keys_of(certificates)) as port:
        reply = await transport(port, ssl.create_default_context()).send(EXISTS, WHO)
    assert isinstance(reply, Failure)
    assert reply.kind is FailureKind.BAD_CERTIFICATE


@asynccontextmanager
async def saying(*lines: bytes, seen: list[bytes] | None = None) -> AsyncIterator[int]:
    """A server that answers each line with the next of its own, and then says nothing any more."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for line in lines:
            writer.write(line + b"\r\n")
            got = await reader.readline()
            if seen is not None:
                seen.append(got)
        await ended.wait()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        ended.set()
        await asyncio.sleep(0)


IN = [b"220 hello", b"331 password", b"230 in", b"200 binary"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([b"421 too many connections"], 503),
        ([b"220 hello", b"331 password", b"530 no"], 401),
        ([*IN, b"550 no such folder"], 403),
        ([*IN, b"553 not yours"], 403),
        ([*IN, b"nonsense"], 405),
    ],
)
async def test_what_a_servers_lines_mean(lines: list[bytes], expected: int) -> None:
    """Codes as statuses of HTTP."""
    async with saying(*lines) as port:
        assert status(await transport(port).send(EXISTS, WHO)) == expected


@pytest.mark.parametrize(
    ("request_", "kind"), [(EXISTS, FailureKind.NOT_SENT), (Request("DELETE", PART), FailureKind.TIMED_OUT)]
)
async def test_silence_before_anything_was_changed_is_not_that_behind_it(request_: Request, kind: FailureKind) -> None:
    """Who was only asked has taken nothing."""
    async with saying(*IN, b"250 there") as port:
        reply = await transport(port, step_s=1).send(request_, WHO)
    assert isinstance(reply, Failure)
    assert reply.kind is kind


async def test_nobody_listens() -> None:
    """Nothing was sent."""
    async with saying(b"") as port:
        pass
    reply = await transport(port).send(EXISTS, WHO)
    assert isinstance(reply, Failure)
    assert reply.kind is FailureKind.NOT_SENT


async def test_who_is_cancelled_leaves_at_once_and_the_thread_ends_soon(node_modules: Path, tmp_path: Path) -> None:
    """A drain does not wait for a server that says nothing."""
    loop = asyncio.get_running_loop()
    async with saying(b"220 hello") as port:
        sending = asyncio.create_task(transport(port, step_s=30.0).send(EXISTS, WHO))
        await asyncio.sleep(0.2)
        began = loop.time()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await loop.shutdown_default_executor()
        assert loop.time() - began < 5


async def test_a_file_that_cannot_be_read_is_told(node_modules: Path, tmp_path: Path) -> None:
    """As what it is: our disk's."""
    (tmp_path / FOLDER).mkdir()
    with serving(node_modules, tmp_path) as port:
        async with file_of(bytes(2 * BLOCK_BYTES)) as file:
            file.close()
            with pytest.raises(SpoolError):
                await transport(port).with_file(file).send(PUT, WHO)
