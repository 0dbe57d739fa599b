"""Accessors for what import lanes ask of each event: whether there is a consent of this channel, topic and status."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from contracts.events import Consent
from service.config.expressions.syntax import Const, Name, Operation, Select, Tree

Test = Callable[[Sequence[Consent]], bool]


def consent_test(variable: Tree, condition: Tree) -> Test | None:
    """The test of ``data.consents.exists(variable, condition)``; None unless the condition compares fields of the
    consent with constant texts, and asks for all of these to be equal."""
    chained = isinstance(condition, Operation) and condition.operator == "&&"
    parts = condition.operands if isinstance(condition, Operation) and chained else (condition,)
    found = [_field_and_text(variable, part) for part in parts]
    equal = [one for one in found if one is not None]
    if len(equal) != len(found):
        return None
    wanted = dict(equal)
    if len(wanted) == len(equal) and wanted.keys() <= {"channel", "topic", "status"}:
        return _asks_for(wanted.get("channel"), wanted.get("topic"), wanted.get("status"))
    read: Callable[[Consent], Any] = attrgetter(*(field for field, _ in equal))
    values = equal[0][1] if len(equal) == 1 else tuple(text for _, text in equal)
    return lambda consents: values in map(read, consents)


def _asks_for(channel: str | None, topic: str | None, status: str | None) -> Test:
    """The test of these fields, None for one that is not asked of."""

    def test(consents: Sequence[Consent]) -> bool:
        for consent in consents:
            if (
                (topic is None or consent.topic == topic)
                and (status is None or consent.status == status)
                and (channel is None or consent.channel == channel)
            ):
                return True
        return False

    return test


def _field_and_text(variable: Tree, part: Tree) -> tuple[str, str] | None:
    """Of ``variable.field == "text"``, in whatever order."""
    match part:
        case Operation("==", (Select(Name() as of, field), Const(str() as text))) if of == variable:
            return field, text
        case Operation("==", (Const(str() as text), Select(Name() as of, field))) if of == variable:
            return field, text
    return None
