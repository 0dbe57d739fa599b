"""Gives orders: what commands write into the control topic, and read of it."""

import asyncio
import getpass
import os
import socket
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError
from aiokafka.structs import TopicPartition

from contracts.control import Key, Order, encode_key, encode_order
from service.control.orders import Orders
from service.errors import FanlineError
from service.kafka.clients import stop_quietly
from service.kafka.probing import connected, view

_WITHIN_S = 20.0
_CLOSE_S = 2.0
_POLL_MS = 200


class OrderError(FanlineError):
    """An order could not be given or read. The message says why, and what to do."""


def who_orders() -> str:
    """``user@host`` of whoever runs the command."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())  # a container without a list of users
    return f"{user}@{socket.gethostname()}"


async def give_orders(arguments: Mapping[str, Any], topic: str, orders: Mapping[Key, Order]) -> None:
    """Write orders; they are acknowledged by all in-sync replicas when this returns. ``arguments`` are those of a
    client. Raises NoBrokerError, UnreachableError, OrderError."""
    await _refuse_missing(arguments, topic)
    producer = AIOKafkaProducer(**arguments, enable_idempotence=True, acks="all")
    try:
        async with asyncio.timeout(_WITHIN_S):
            await producer.start()
            for key, order in orders.items():
                value = encode_order(order)
                await producer.send_and_wait(topic, value, key=encode_key(key), partition=0, timestamp_ms=order.at_ms)
    except TopicAuthorizationFailedError as error:
        raise OrderError(f"topic {topic}: this user of Kafka may not write to it; grant Write on the topic") from error
    except TimeoutError as error:
        why = f"no answer of the brokers within {_WITHIN_S:.0f} s; whether the order was given is not known, look again"
        raise OrderError(f"topic {topic}: {why}") from error
    except KafkaError as error:
        raise OrderError(f"topic {topic}: the order was not given ({type(error).__name__})") from error
    finally:
        await stop_quietly(producer, _CLOSE_S)


async def read_orders(arguments: Mapping[str, Any], topic: str) -> Orders:
    """Everything that has been ordered. Raises NoBrokerError, UnreachableError, OrderError."""
    await _refuse_missing(arguments, topic)
    orders, tp = Orders(), TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(**arguments, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        async with asyncio.timeout(_WITHIN_S):
            await consumer.start()
            consumer.assign([tp])
            end = (await consumer.end_offsets([tp]))[tp]
            while await consumer.position(tp) < end:
                for record in (await consumer.getmany(tp, timeout_ms=_POLL_MS)).get(tp, ()):
                    orders.apply(record.key, record.value)
    except TopicAuthorizationFailedError as error:
        raise OrderError(f"topic {topic}: this user of Kafka may not read it; grant Read on the topic") from error
    except (KafkaError, TimeoutError) as error:
        raise OrderError(f"topic {topic}: could not be read ({type(error).__name__})") from error
    finally:
        await stop_quietly(consumer, _CLOSE_S)
    return orders


async def _refuse_missing(arguments: Mapping[str, Any], topic: str) -> None:
    async with connected(arguments) as connection:
        if (await view(connection, [topic])).missing([topic]):
            raise OrderError(
                f"topic {topic}: does not exist, or may not be seen by this user of Kafka; "
                "`fanline topics ensure` creates it"
            )
