"""What may not be printed."""

import time
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaError
from hypothesis import given
from hypothesis import strategies as st

from contracts.outcomes import Outcome
from service.errors import StartError
from service.telemetry.redaction import MASK, Redactor, SecretStrings, describe


def redacted(value: Any, *secrets: str) -> Any:
    strings = SecretStrings()
    for secret in secrets:
        strings.add(secret)
    return Redactor(strings)(None, "info", {"value": value})["value"]


@pytest.mark.parametrize(
    "text",
    [
        "key K3y+/=&\"x' refused",
        "https://h/?access_token=K3y%2B%2F%3D%26%22x%27&n=1",
        'body {"key": "K3y+/=&\\"x\'"}',
    ],
)
def test_a_secret_is_masked_in_every_spelling(text: str) -> None:
    """Plain, in a URL, in JSON: nothing of the secret is left."""
    cleaned = redacted(text, "K3y+/=&\"x'")
    assert MASK in cleaned
    assert "K3y" not in cleaned
    assert cleaned.split(MASK)[0] == text.split("K3y")[0]


def test_a_secret_with_a_blank_is_masked_in_a_path() -> None:
    """In a path a blank is %20, in a form it is +."""
    assert redacted("/a/b%20cd/x?k=b+cd", "b cd") == f"/a/{MASK}/x?k={MASK}"


def test_the_longer_secret_is_masked_whole() -> None:
    """Where one secret begins with another, no tail is left."""
    assert redacted("x hunter2-long y", "hunter2", "hunter2-long") == f"x {MASK} y"


def test_older_secrets_stay_masked() -> None:
    """After a key was renewed the old one is still not printed."""
    assert redacted("first1 second2", "first1", "second2") == f"{MASK} {MASK}"


def test_a_secret_of_three_characters_is_none() -> None:
    """Masking "abc" would riddle every line."""
    assert redacted("abc abc", "abc") == "abc abc"


@pytest.mark.parametrize(
    "text",
    [
        "anna.svensson+x@example.com",
        "<anna@example.com>",
        "mailto:anna@example.com",
        "/targets/anna%40example.com/segments/5",
        "email=anna@example.com&x=1",
        "anna@localhost",
        "änna@exämple.se",
    ],
)
def test_addresses_are_masked(text: str) -> None:
    """An e-mail address is not printed, wherever it stands."""
    cleaned = redacted(f"before {text} after")
    assert MASK in cleaned
    assert "nna" not in cleaned
    assert cleaned.startswith("before ")
    assert cleaned.endswith(" after")


def test_addresses_are_found_in_linear_time() -> None:
    """A megabyte without a blank does not stop the process."""
    began = time.process_time()
    redacted("a" * 1_000_000 + "@")
    redacted("a@" * 300_000)
    assert time.process_time() - began < 5


def test_nested_values_are_cleaned() -> None:
    """Also the keys and values within."""
    value = {"anna@example.com": [("x", "hunter2"), {"deep": {"hunter2"}}]}
    assert redacted(value, "hunter2") == {MASK: [["x", MASK], {"deep": [MASK]}]}


def test_only_plain_values_are_printed() -> None:
    """An object's repr can hold a whole record; bytes can be one."""

    class Record:
        def __repr__(self) -> str:
            return "Anna"

    assert redacted([Record(), b"Anna", KeyError("Anna")]) == ["<Record>", "<bytes>", "<KeyError>"]
    assert redacted([None, True, 3, 1.5, Outcome.HELD]) == [None, True, 3, 1.5, "held"]


def test_what_is_too_deep_is_cut() -> None:
    """A value that contains itself ends."""
    value: list[Any] = []
    value.append(value)
    assert "<list>" in str(redacted(value))


@given(st.recursive(st.text() | st.binary() | st.integers() | st.none(), lambda inner: st.lists(inner)))
def test_no_value_breaks_a_line(value: Any) -> None:
    """Whatever is logged, the secret is not in it."""
    assert "hunter2" not in str(redacted([value, "hunter2"], "hunter2"))


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except type(error) as caught:
        return caught


def test_an_exceptions_message_is_withheld() -> None:
    """It may quote what it failed on; its type and where it arose are told."""
    told = describe(raised(KeyError("Anna"), raised(ValueError("Svensson"))))
    assert told["type"] == "KeyError"
    assert told["cause"]["type"] == "ValueError"
    assert told["stack"][-1].endswith(" raised")
    assert "Anna" not in str(told)
    assert "Svensson" not in str(told)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (StartError("no such topic"), "no such topic"),
        (ConnectionRefusedError(111, "Connection refused"), "[Errno 111] Connection refused"),
        (KafkaConnectionError("Unable to bootstrap"), "KafkaConnectionError: Unable to bootstrap"),
    ],
)
def test_messages_of_our_own_and_of_the_network_are_told(error: BaseException, message: str) -> None:
    """Without them nobody could mend anything."""
    assert describe(error)["message"] == message


def test_kafka_errors_that_wrap_anything_are_not_trusted() -> None:
    """The client puts the repr of any exception into a plain KafkaError."""
    assert "message" not in describe(KafkaError("Unexpected error during coordination KeyError('Anna')"))


def test_groups_and_long_chains_are_bounded() -> None:
    """A TaskGroup's errors are told one by one, and no chain is endless."""
    error: BaseException = ExceptionGroup("group", [KeyError("Anna"), StartError("why")])
    for _ in range(50):
        error = raised(RuntimeError("x"), error)
    assert len(str(describe(error))) < 5000
    told = describe(ExceptionGroup("Anna", [KeyError("Anna"), StartError("why")]))
    assert [inner["type"] for inner in told["errors"]] == ["KeyError", "StartError"]
    assert "Anna" not in str(told)
