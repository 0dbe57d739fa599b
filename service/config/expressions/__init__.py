"""Expressions of the configuration: CEL over ``data``, ``event`` and ``key``, checked and compiled at start."""

from service.config.expressions.compiling import (
    MAX_RESULT_BYTES,
    MAX_TEXT_BYTES,
    check_expression,
    compile_expression,
    compile_row_expression,
)
from service.config.expressions.syntax import ExpressionFault

__all__ = [
    "MAX_RESULT_BYTES",
    "MAX_TEXT_BYTES",
    "ExpressionFault",
    "check_expression",
    "compile_expression",
    "compile_row_expression",
]
