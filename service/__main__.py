"""``python -m service`` and the script ``fanline``."""

from service.cli import app


def main() -> None:
    """Run the command that the arguments name, and exit."""
    app(prog_name="fanline")


if __name__ == "__main__":
    main()
