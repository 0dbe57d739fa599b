"""Executions that are written into a template are those that the exact way writes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.events import ContactChanged, Event, NotificationOccurred
from contracts.results import Operation
from handlers.base import ExpressionError, Piece, Refusal
from handlers.np6.usual_executions import UsualExecutions, usual_executions
from handlers.np6.workflows import WorkflowsHandler
from handlers.templates import compile_template
from service.config.expressions import compile_expression

TEXTS = st.text(max_size=12) | st.sampled_from(
    ["", "é", 'say "x"', "a\\b", "line\nfeed", "\0", "\x7f", "\ud800", "x" * 20_000]
)
TEMPLATE = {"label": "data.label", "more": {"at": "data.occurred_at", "who": "data.contact_id"}}


def compiled(text: str, key: str, wants: Any = "value") -> Any:
    return compile_expression(text, place=key, wants=wants)


def handler(receiver: str = "data.target", template: Any = TEMPLATE, receiver_type: str = "id") -> WorkflowsHandler:
    fields = [("data", compile_template(template, "data", compiled))]
    return WorkflowsHandler(42, compiled(receiver, "receiver"), fields, receiver_type=receiver_type)


def event(data: Any) -> Event:
    return Event(id="e", source="s", type="t", data=data)


def planned(by: WorkflowsHandler, data: Any, *, exactly: bool) -> Any:
    """The plan of an event; ``exactly``: without the template. An error is told by its text."""
    usual = by._usual
    try:
        by._usual = None if exactly else usual
        return by.plan(event(data), b"k")
    except ExpressionError as error:
        return type(error), str(error)
    finally:
        by._usual = usual


@pytest.fixture(scope="module")
def both() -> list[WorkflowsHandler]:
    found = [handler(), handler(receiver_type='a "quoted" type')]
    assert all(isinstance(one._usual, UsualExecutions) for one in found)
    return found


@given(data=st.data())
def test_both_ways_write_the_same(both: list[WorkflowsHandler], data: st.DataObject) -> None:
    """Whatever the texts hold, and whichever of them is absent: the plan is the same."""
    some = st.none() | TEXTS
    read = NotificationOccurred(1, data.draw(TEXTS), "activation", data.draw(TEXTS), data.draw(some), data.draw(some))
    for one in both:
        assert planned(one, read, exactly=False) == planned(one, read, exactly=True)


def test_the_usual_one_is_written_into_the_template(both: list[WorkflowsHandler]) -> None:
    """The comparison would see nothing if no event went that way."""
    read = NotificationOccurred(1, "000PKXK4", "activation", "2026-01-01T00:00:00Z", "Autumn", "c-1")
    assert both[0]._usual is not None
    payload = (
        b'{"receiver":{"type":"id","value":"000PKXK4"},'
        b'"data":{"label":"Autumn","more":{"at":"2026-01-01T00:00:00Z","who":"c-1"}}}'
    )
    assert both[0]._usual.encode(read) == ("000PKXK4", payload)


def test_the_target_is_told_where_the_receiver_is_one(both: list[WorkflowsHandler]) -> None:
    """Of another type it may be an address: nothing of it stands in a result. Both ways plan the same."""
    read = NotificationOccurred(1, "000PKXK4", "activation", "2026-01-01T00:00:00Z", "Autumn", "c-1")
    for one, target in zip(both, ("000PKXK4", None), strict=True):
        piece = planned(one, read, exactly=False)
        assert piece == planned(one, read, exactly=True)
        assert piece.operation == Operation("workflow.execute", target, "42")


def test_what_is_filled_in_once_is_gone_the_next_time(both: list[WorkflowsHandler]) -> None:
    """The template is used again: an event with less in it has nothing of the one before."""
    first = NotificationOccurred(1, "000PKXK4", "activation", "2026-01-01T00:00:00Z", "Autumn", "c-1")
    second = NotificationOccurred(1, "000PKXK5", "activation", "2026-01-02T00:00:00Z", None, "c-2")
    planned(both[0], first, exactly=False)
    found = planned(both[0], second, exactly=False)
    assert isinstance(found, Piece)
    assert found.payload == (
        b'{"receiver":{"type":"id","value":"000PKXK5"},"data":{"more":{"at":"2026-01-02T00:00:00Z","who":"c-2"}}}'
    )


def test_an_event_of_the_other_type_is_not_usual(both: list[WorkflowsHandler]) -> None:
    """A contact has other fields: the exact way says that the receiver has no value."""
    found = both[0].plan(event(ContactChanged(contact_id="c", change="created")), b"k")
    assert isinstance(found, Refusal)


@pytest.mark.parametrize(
    ("receiver", "template"),
    [
        ("data.target", {"x": "data.context.x"}),
        ("data.target", {"x": '"constant"'}),
        ("data.target", ["data.label"]),
        ("data.target", {"x": ["data.label"]}),
        ('data.target + "x"', {"x": "data.label"}),
    ],
)
def test_what_is_more_than_texts_of_the_data_has_no_template(receiver: str, template: Any) -> None:
    """Only plain fields are read at once."""
    assert handler(receiver, template)._usual is None


def test_a_name_that_json_escapes_is_no_gap() -> None:
    """A field of the configuration may have any name: it cannot be taken for a place to fill in."""
    fields = [("data", compile_template({"\0": "data.label"}, "data", compiled))]
    written = usual_executions("id", compiled("data.target", "receiver"), fields)
    assert written is not None
    read = NotificationOccurred(1, "T", "activation", "2026-01-01T00:00:00Z", "L")
    assert written.encode(read) == ("T", b'{"receiver":{"type":"id","value":"T"},"data":{"\\u0000":"L"}}')
