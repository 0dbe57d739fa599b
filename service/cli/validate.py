"""``fanline validate``."""

import typer

from service.cli.failures import ExitCode
from service.cli.files import FileArgument, name_of, opened, size_of
from service.cli.options import JsonOption
from service.cli.output import Bar, counted, print_json
from service.publishing.validating import Fault, Line, read_lines


def validate(file: FileArgument, as_json: JsonOption = False) -> None:
    """Check events against the contracts, before anybody publishes them.

    Prints a line for each fault: file, line number, where in the event, and what was expected; never a value. Events
    of a type that Fanline does not know are faults too. Empty lines are passed over. Needs no Kafka and no
    configuration.

    Exits with 1 if a line is no valid event.
    """
    valid = invalid = 0
    kept: list[Fault] = []
    with opened(file) as stream, Bar("validating", size_of(stream)) as bar:
        for line in read_lines(bar.over(stream)):
            if isinstance(line, Line):
                valid += 1
            elif line is not None:
                invalid += 1
                if as_json:
                    kept.append(line)
                else:
                    bar.line(fault_text(name_of(file), line))
    if as_json:
        print_json({"file": name_of(file), "valid": valid, "invalid": invalid, "faults": kept})
    else:
        typer.echo(f"{counted(valid, 'valid event')}, {counted(invalid, 'fault')}", err=True)
    raise typer.Exit(ExitCode.FAILED if invalid else ExitCode.DONE)


def fault_text(file: str, fault: Fault) -> str:
    """``events.ndjson:12: data.contact_id: missing``."""
    return f"{file}:{fault.line}: {fault.problem}"
