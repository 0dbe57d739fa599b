"""Expressions over an element of a list that another expression gave."""

from typing import Any

import pytest

from contracts.events import CONTACT_CHANGED, ContactChanged, Event
from handlers.base import ExpressionError
from service.config.expressions import ExpressionFault, check_expression, compile_row_expression

EVENT = Event("e", "s", CONTACT_CHANGED, ContactChanged("c-1", "updated", attributes={"city": "Hull"}))


@pytest.mark.parametrize(
    ("text", "row", "expected"),
    [
        ("row", "a", "a"),
        ("row.id", {"id": 7}, 7),
        ('row["Order.ID"]', {"Order.ID": "x"}, "x"),
        ("row.missing", {"id": 7}, None),
        ("data.attributes.city + row", ", UK", "Hull, UK"),
        ("data.contact_id", None, "c-1"),
        ("'\"text\"'", None, '"text"'),
        ("row.list.exists(x, x == 2)", {"list": [1, 2]}, True),
    ],
)
def test_a_row_stands_beside_the_event(text: str, row: Any, expected: Any) -> None:
    """Whatever its type; what it lacks is null."""
    assert compile_row_expression(text, place="p")(EVENT, None, row) == expected


def test_an_error_names_the_place_and_no_value() -> None:
    """As with every expression."""
    with pytest.raises(ExpressionError, match=r"^p: ") as caught:
        compile_row_expression("row + 1", place="p")(EVENT, None, "secret")
    assert "secret" not in str(caught.value)


def test_elsewhere_there_is_no_row() -> None:
    """Only where the key says so; and paths are checked all the same."""
    with pytest.raises(ExpressionFault, match='no variable "row"'):
        check_expression("row.id")
    check_expression("row.id", with_row=True)
    with pytest.raises(ExpressionFault, match="segmnets"):
        check_expression("data.segmnets", with_row=True)
