"""Rows of a CSV file, by the standard library's writer: UTF-8 unless told otherwise, a cell quoted where it needs to
be, lines end CRLF.

A text is written unchanged, also one that a spreadsheet would take for a formula: the file is read by a platform, and
what it gets back must be what the event said.
"""

import csv
from collections.abc import Callable, Sequence


class _Echo:
    """Stands where the writer wants a file: it returns what it gets, and so does ``writerow``."""

    def write(self, text: str) -> str:
        return text


def row_writer(delimiter: str, encoding: str = "utf-8") -> Callable[[Sequence[str]], bytes]:
    """What encodes the cells of one row as a line, its end included. One cell alone and empty is quoted, for a line
    without anything in it is no row to most readers. Raises UnicodeEncodeError for what another encoding has not."""
    write = csv.writer(_Echo(), delimiter=delimiter).writerow

    def encode(cells: Sequence[str]) -> bytes:
        line = delimiter.join(cells)
        # What needs no quotes, as nearly every row: the writer takes four times as long to find that out.
        if '"' in line or "\n" in line or "\r" in line or line.count(delimiter) != len(cells) - 1 or not line:
            written: str = write(cells)
            return written.encode(encoding)
        return f"{line}\r\n".encode(encoding)

    return encode
