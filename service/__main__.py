"""``python -m service`` and the script ``fanline``."""

import io
import sys

from service.cli import app


def main() -> None:
    """Run the command that the arguments name, and exit."""
    # A terminal without a check mark or an umlaut gets an escape, as of Python's own errors: no command fails of it.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    app(prog_name="fanline")


if __name__ == "__main__":
    main()
