"""``fanline topics ensure``."""

import asyncio
from typing import Annotated

import typer

from service.app import KINDS
from service.cli.failures import ExitCode
from service.cli.options import ConfigOption, JsonOption
from service.cli.output import console, counted, print_findings, print_json, print_table, quiet_libraries
from service.config import load
from service.findings import Severity
from service.kafka.ensuring import Review, TopicLine, ensure_topics

app = typer.Typer(no_args_is_help=True, help="The topics that Fanline needs: `ensure` creates them.")


@app.callback()
def _group() -> None:
    # Without it a group of a single command would hide the command's name.
    pass


@app.command("ensure")
def ensure(
    config: ConfigOption,
    sources: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            metavar="N",
            help="Also create missing source topics, with N partitions: for trials. Their publishers know better how "
            "many they need, and a later change moves keys to other partitions.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create the topics that are missing, and say which settings of the others are wrong.

    Nothing that exists is changed: each finding says how to change it. Replicas, partitions of the results and
    retention come from `kafka.topics` of the configuration. Doing it again does no harm.

    Exits with 1 if a source topic is missing or a setting would break a guarantee.
    """
    quiet_libraries()
    review = asyncio.run(ensure_topics(load(config, KINDS), source_partitions=sources))
    if as_json:
        print_json({"ok": not review.failed, "topics": review.topics, "findings": review.findings})
    else:
        _print(review)
    raise typer.Exit(ExitCode.FAILED if review.failed else ExitCode.DONE)


def _print(review: Review) -> None:
    print_table(
        ["topic", "for", "partitions", "replicas", "state"],
        [_row(topic) for topic in review.topics],
        right=["partitions", "replicas"],
    )
    print_findings(review.findings)
    created = sum(topic.created for topic in review.topics)
    errors = sum(finding.severity is Severity.ERROR for finding in review.findings)
    console().print(f"{len(review.topics)} topics, {created} of them created; {counted(errors, 'error')}")


def _row(topic: TopicLine) -> list[str]:
    use = topic.role if topic.lane is None else f"{topic.role} of {topic.lane}"
    if topic.partitions is None:
        return [topic.name, use, "-", "-", "missing"]
    return [topic.name, use, str(topic.partitions), str(topic.replication), "created" if topic.created else "exists"]
