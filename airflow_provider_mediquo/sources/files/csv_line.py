"""Splits a line of CSV into cells, and says whether its quotes are unambiguous."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence

LINE_END = "\r\n\x1a"
"""Characters that may end a line; DOS ended files with Ctrl-Z."""

MARK = "\ufeff"
"""A byte order mark, also of files that were concatenated."""

_BLANK_BEFORE_QUOTE = re.compile(r'\s+"')


class LineParser:
    """Splits lines of CSV, strictly: the meaning of `"Ada "Bo" Day"` would be a guess.

    :param delimiter: between cells.
    """

    def __init__(self, delimiter: str) -> None:
        self.delimiter = delimiter
        # Made once: a reader takes longer to check its arguments than to read a row.
        self._dialect = csv.reader((), delimiter=delimiter, strict=True).dialect
        self._raw_cells = re.compile(
            rf'(?:^|{re.escape(delimiter)})("(?:[^"]|"")*"|[^{re.escape(delimiter)}]*)'
        )

    def cells(self, line: str) -> list[str] | None:
        """Return the cells of a line; None if a quote in it is wrong or not closed."""
        if '"' not in line:
            return line.rstrip(LINE_END).split(self.delimiter)
        return self.first_row((line.rstrip(LINE_END),))

    def first_row(self, lines: Iterable[str]) -> list[str] | None:
        """Return the cells of a row, which may take several lines; None if its quotes are wrong."""
        try:
            return next(csv.reader(lines, self._dialect))
        except (csv.Error, StopIteration):
            return None

    def stray_quotes(self, text: str) -> dict[int, str]:
        """Return the cells that have quotes without being quoted: number -> as it is written.

        :param text: of a row whose quotes are closed.
        """
        raw = self._raw_cells.findall(text.rstrip(LINE_END))
        return {at: cell for at, cell in enumerate(raw) if '"' in cell and cell[0] != '"'}


def is_blank_line(text: str | None) -> bool:
    """Whether a line has nothing but blanks."""
    return not (text or "").strip(" \t" + LINE_END)


def are_text(strays: dict[int, str], fields: Sequence[str | None]) -> bool:
    """Whether quotes in cells that are not quoted can only be text, as in `5" nails`.

    A delimiter may be text too where it stands between two of them; one that ends a field may be
    the end of a quoted cell whose beginning is lost. So may one at the end of the first cell.

    :param fields: the patient field of each column, None if it is dropped.
    """
    odd = [at for at, cell in strays.items() if cell.count('"') % 2]
    if any(map(_BLANK_BEFORE_QUOTE.match, strays.values())) or (odd and len(strays) > 1):
        return False
    return not any(strays[at][-1] == '"' and (not at or any(fields[at : at + 1])) for at in odd)
