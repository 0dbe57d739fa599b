"""What keeps the service from starting: the short form of the check, on one connection."""

from collections.abc import Iterable, Sequence

from service.checking.kafka import features
from service.checking.rights import check_topic_rights
from service.config import Configuration
from service.findings import Severity
from service.kafka.connection import connection_arguments
from service.kafka.probing import api_versions, connected, view
from service.kafka.rights import hidden
from service.kafka.topics import topics_of_lane

_TOPICS = (
    "`fanline topics ensure --config FILE` creates those that Fanline writes; source topics are their publishers' to "
    "create."
)


async def start_problems(config: Configuration, lanes: Sequence[str]) -> list[str]:
    """Brokers that are too old, topics that are missing, rights that are missing on topics; empty if all is well.

    Raises NoBrokerError, UnreachableError, StartError, SecretError.
    """
    wanted = {name: role for lane in lanes for name, role in topics_of_lane(config, lane).items()}
    async with connected(connection_arguments(config.kafka)) as connection:
        old = [
            finding
            for finding in features(config, await api_versions(connection))
            if finding.severity is Severity.ERROR
        ]
        seen = await view(connection, list(wanted))
        unseen = seen.hidden(wanted)
        missing = [name for name in seen.missing(wanted) if name not in unseen]
        existing = {name: role for name, role in wanted.items() if name not in (*unseen, *missing)}
        lacking = [hidden(wanted[name], name) for name in unseen] + await check_topic_rights(connection, existing)
    problems = [str(finding) for finding in old]
    if missing:
        problems.append("these topics do not exist:" + _listed(missing) + "\n" + _TOPICS)
    if lacking:
        problems.append("rights are missing:" + _listed(lacking))
    return problems


def _listed(lines: Iterable[object]) -> str:
    return "".join(f"\n  {line}" for line in lines)
