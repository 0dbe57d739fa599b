"""Rows of a CSV file, by the standard library's writer: UTF-8 unless told otherwise, a cell quoted where it needs to
be, lines end CRLF.

A text is written unchanged, also one that a spreadsheet would take for a formula: the file is read by a platform, and
what it gets back must be what the event said.
"""

import csv
from collections.abc import Callable, Sequence
from io import StringIO


def row_writer(delimiter: str, encoding: str = "utf-8") -> Callable[[Sequence[str]], bytes]:
    """What encodes the cells of one row as a line, its end included. One cell alone and empty is quoted, for a line
    without anything in it is no row to most readers. Raises UnicodeEncodeError for what another encoding has not."""
    buffer = StringIO(newline="")
    write = csv.writer(buffer, delimiter=delimiter, lineterminator="\r\n").writerow

    def encode(cells: Sequence[str]) -> bytes:
        buffer.seek(0)
        buffer.truncate()
        write(cells)
        return buffer.getvalue().encode(encoding)

    return encode
