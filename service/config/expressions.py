"""Expressions (first version: syntax alone)."""

import cel


class ExpressionFault(ValueError):
    """An expression is refused at start."""


def check_expression(text: str, *, wants: str) -> None:
    try:
        cel.compile(text)
    except ValueError as error:
        raise ExpressionFault(str(error)) from None
