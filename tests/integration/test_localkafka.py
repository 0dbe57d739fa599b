"""The local Kafka itself: starts, survives what tests do to it, and lets in whom it should."""

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAuthorizationFailedError

from service.localkafka import LocalKafka, LocalKafkaError, Protocol, Security, serve
from tests.support.kafka import Message, create_topics, produce, read_committed_all
from tests.support.patience import patiently
from tests.support.tls import Certificates, make_certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


async def values(kafka: LocalKafka, topic: str, **client: Any) -> list[bytes | None]:
    return [record.value for record in await read_committed_all(kafka.bootstrap_servers, [topic], **client)]


async def test_data_survive_a_kill_a_stop_and_a_second_start(tmp_path: Path) -> None:
    """Acknowledged records outlive the process; the data directory is kept, with its port and its records."""
    async with LocalKafka(data_dir=tmp_path / "data") as kafka:
        first = kafka.bootstrap_servers
        await create_topics(first, ["t"])
        await produce(first, "t", [Message(b"1")])
        kafka.kill()
        await kafka.restart()
        await produce(first, "t", [Message(b"2")])
        await kafka.stop()
        await kafka.restart()
        assert await values(kafka, "t") == [b"1", b"2"]
    async with LocalKafka(data_dir=tmp_path / "data") as kafka:
        assert kafka.bootstrap_servers == first
        assert await values(kafka, "t") == [b"1", b"2"]
    with pytest.raises(LocalKafkaError, match="Kafka of 1 brokers"):
        await LocalKafka(data_dir=tmp_path / "data", brokers=3).__aenter__()


async def test_it_listens_on_loopback_alone_and_leaves_nothing_behind() -> None:
    """No other machine can reach it; afterwards its process and its temporary data are gone."""
    async with LocalKafka() as kafka:
        directory, process = kafka.data_dir, psutil.Process(kafka.cluster.pid())
        listening = [c for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
        assert len(listening) == 3
        assert {c.laddr.ip.removeprefix("::ffff:") for c in listening} == {"127.0.0.1"}
        assert directory.stat().st_mode & 0o077 == 0
    assert not directory.exists()
    assert not process.is_running()


async def test_a_frozen_broker_goes_on_where_it_was() -> None:
    """A paused broker answers nothing, and what was asked meanwhile is answered when it goes on."""
    async with LocalKafka() as kafka:
        await create_topics(kafka.bootstrap_servers, ["t"])
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
            await producer.send_and_wait("t", b"before")
            kafka.pause()
            try:
                waiting = await producer.send("t", b"while")
                done, _ = await asyncio.wait([waiting], timeout=0.3)
            finally:
                kafka.resume()
            assert not done
            await asyncio.wait_for(waiting, patiently(30))


async def test_three_brokers_go_on_without_one() -> None:
    """With replication 3 and two in sync, a killed broker costs nothing that was acknowledged."""
    async with LocalKafka(brokers=3) as kafka:
        assert len(kafka.bootstrap_servers.split(",")) == 3
        await create_topics(kafka.bootstrap_servers, {"t": 6}, replication=3)
        producer = AIOKafkaProducer(
            bootstrap_servers=kafka.bootstrap_servers, acks="all", transactional_id="t", request_timeout_ms=30_000
        )
        await producer.start()
        async with producer.transaction():
            await asyncio.gather(*[await producer.send("t", b"1", partition=n) for n in range(6)])
        kafka.kill(1)
        async with producer.transaction():
            await asyncio.gather(*[await producer.send("t", b"2", partition=n) for n in range(6)])
        await producer.stop()
        assert sorted(await values(kafka, "t"), key=str) == [b"1"] * 6 + [b"2"] * 6
        await kafka.restart(1)


async def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    """A taken port is named; what the broker itself refuses is told with the end of its log."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LocalKafkaError, match=f"port {port} of 127.0.0.1 is taken"):
            await LocalKafka(port=port).__aenter__()
    with pytest.raises(LocalKafkaError, match=r"num\.io\.threads"):
        await LocalKafka(data_dir=tmp_path, properties={"num.io.threads": "0"}).__aenter__()
    (tmp_path / "broker-1" / "data").mkdir(exist_ok=True)
    (tmp_path / "broker-1" / "data" / "meta.properties").write_text("version=1\ncluster.id=x\nnode.id=7\n")
    with pytest.raises(LocalKafkaError, match=r"(?s)ended with code 1.*node id 7"):
        await LocalKafka(data_dir=tmp_path).__aenter__()


async def test_serve_runs_until_it_is_cancelled(tmp_path: Path) -> None:
    """It tells its address once it serves, and ends its broker with itself."""
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(0, tmp_path, on_ready=ready.set_result))
    address = await asyncio.wait_for(ready, patiently(60))
    await create_topics(address, ["t"])
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(address.split(":")[1]))) != 0
    assert (tmp_path / "broker-1" / "server.log").exists()


async def test_sasl_over_tls_with_acls(certificates: Certificates) -> None:
    """SCRAM and PLAIN users get in over TLS; a wrong password does not; a right that is missing is named."""
    security = Security(
        protocol=Protocol.SASL_SSL,
        key_store=certificates.server_store,
        scram_users={"ada": 'p"w\\1', "eve": "pw2"},
        plain_users={"bob": 'p"w\\3'},
        acls=True,
        super_users=["ada", "bob"],
    )
    async with LocalKafka(security=security) as kafka:

        def client(name: str, password: str, mechanism: str = "SCRAM-SHA-512") -> dict[str, Any]:
            return {
                "security_protocol": "SASL_SSL",
                "ssl_context": certificates.client_context(),
                "sasl_mechanism": mechanism,
                "sasl_plain_username": name,
                "sasl_plain_password": password,
            }

        ada = client("ada", 'p"w\\1')
        await create_topics(kafka.bootstrap_servers, ["t"], **ada)
        await produce(kafka.bootstrap_servers, "t", [Message(b"1")], transactional_id="x", **ada)
        assert await values(kafka, "t", **client("bob", 'p"w\\3', "PLAIN")) == [b"1"]
        with pytest.raises(TopicAuthorizationFailedError):
            await produce(kafka.bootstrap_servers, "t", [Message(b"2")], **client("eve", "pw2"))
        for stranger in (client("ada", "wrong"), client("bob", "wrong", "PLAIN")):
            with pytest.raises(KafkaConnectionError):
                await AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers, **stranger).start()


async def test_tls_with_client_certificates(certificates: Certificates) -> None:
    """Where the broker has a trust store, only who shows a certificate of that authority gets in."""
    security = Security(
        protocol=Protocol.SSL,
        key_store=certificates.server_store,
        trust_store=certificates.ca,
    )
    async with LocalKafka(security=security) as kafka:
        known: dict[str, Any] = {
            "security_protocol": "SSL",
            "ssl_context": certificates.client_context(with_certificate=True),
        }
        await create_topics(kafka.bootstrap_servers, ["t"], **known)
        unknown: dict[str, Any] = {"security_protocol": "SSL", "ssl_context": certificates.client_context()}
        with pytest.raises(KafkaError):
            await AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers, **unknown).start()


async def test_sasl_in_plain_text() -> None:
    """SASL_PLAINTEXT lets users in as well."""
    async with LocalKafka(security=Security(protocol=Protocol.SASL_PLAINTEXT, scram_users={"ada": "pw"})) as kafka:
        ada: dict[str, Any] = {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": "ada",
            "sasl_plain_password": "pw",
        }
        await create_topics(kafka.bootstrap_servers, ["t"], **ada)


@pytest.mark.parametrize(
    "chosen",
    [
        {"protocol": Protocol.SSL},
        {"protocol": Protocol.SASL_SSL, "key_store": Path("k")},
        {"protocol": Protocol.SASL_PLAINTEXT},
        {"plain_users": {"a": "b"}},
        {"key_store": Path("k")},
        {"acls": True},
    ],
)
def test_security_that_does_not_fit_together_is_refused(chosen: dict[str, Any]) -> None:
    """What would silently be ignored, or could never work, is refused before anything starts."""
    with pytest.raises(ValueError, match="need"):
        Security(**chosen)
