"""``fanline kafka``."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from service.cli.output import Bar
from service.cli.signals import until_signal
from service.localkafka import serve

DEFAULT_PORT = 9092


def kafka(
    port: Annotated[
        int, typer.Option(min=0, max=65_535, metavar="PORT", help="Port on 127.0.0.1; 0 takes a free one.")
    ] = DEFAULT_PORT,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            help="Keep the data here, and go on from what it holds. Default: a temporary directory, removed at the "
            "end.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run Apache Kafka on this machine until Ctrl-C: one broker, for trials, not for production.

    The first start downloads Apache Kafka (43 MB), checked against sums that Fanline brings, into the user's cache.
    Needs `pip install 'fanline[kafka]'`.
    """
    asyncio.run(until_signal(_serve(port, data)))


async def _serve(port: int, data: Path | None) -> None:
    with Bar("getting Apache Kafka ready", None) as bar:

        def ready(address: str) -> None:
            bar.close()
            typer.echo(f"Apache Kafka serves at {address}")
            typer.echo(f'In a configuration: kafka: {{bootstrap_servers: ["{address}"], topics: {{replication: 1}}}}')
            typer.echo("Ctrl-C ends it.", err=True)

        await serve(port, data, on_ready=ready, progress=bar.show)
