"""Whether section, keyspaces, topics and attributes' versions of a lane are the account's. Pure.

Channels, folders and tags are not looked for: no call is known that lists them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from handlers.apsis import client
from handlers.apsis.wire import attribute_versions, discriminators, version_in_use
from handlers.base import Answer
from handlers.looks import Fault, Look, remedy_of

if TYPE_CHECKING:
    from handlers.apsis.imports import ApsisImportsConfig

_Named = Sequence[tuple[str, str]]  # the lane's key, and the name that stands there


def looks_of(options: "ApsisImportsConfig") -> Iterator[Look]:
    """The calls for one lane; lists that it needs nothing of are not asked for."""
    section = options.section
    keyspaces = [(f"keyspaces[{n}].discriminator", one.discriminator) for n, one in enumerate(options.keyspaces)]
    topics = [(f"consents[{n}].topic", one.topic) for n, one in enumerate(options.consents)]
    versions = [(f"attributes[{n}].version_id", one.version_id) for n, one in enumerate(options.attributes)]
    yield Look("the account's sections", "section", client.sections(), _names("section", [("section", section)]))
    yield Look("the account's keyspaces", "keyspaces", client.keyspaces(), _names("keyspace", keyspaces))
    if topics:
        yield Look(f"the topics of section {section}", "section", client.topics(section), _names("topic", topics))
    if versions:
        yield Look(f"the attributes of section {section}", "section", client.attributes(section), _versions(versions))


def _names(what: str, wanted: _Named) -> Callable[[Answer], Sequence[Fault] | None]:
    def judge(answer: Answer) -> Sequence[Fault] | None:
        known = None if answer.truncated else discriminators(answer.body)
        return None if known is None else list(_unknown(what, wanted, known))

    return judge


def _unknown(what: str, wanted: _Named, known: Iterable[str]) -> Iterator[Fault]:
    names = set(known)
    for key, name in wanted:
        if name not in names:
            yield Fault(key, f"the platform has no {what} {name}", remedy_of(name, names))


def _versions(wanted: _Named) -> Callable[[Answer], Sequence[Fault] | None]:
    def judge(answer: Answer) -> Sequence[Fault] | None:
        known = None if answer.truncated else attribute_versions(answer.body)
        if known is None:
            return None
        in_use = {name: given_up for name, given_up in known.items() if given_up is None}
        faults = list(_unknown("version of an attribute", wanted, known))
        for key, name in wanted:
            if name in known and name not in in_use:
                faults.append(_given_up(key, name, known[name], version_in_use(answer.body, name)))
        return faults

    return judge


def _given_up(key: str, name: str, when: str | None, instead: str | None) -> Fault:
    problem = f"version {name} of an attribute was given up ({when})"
    return Fault(key, problem, f'"{instead}" is in use' if instead else "the attribute has no version that is in use")
