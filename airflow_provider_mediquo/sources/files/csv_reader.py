"""CSV with a header, line by line. https://www.rfc-editor.org/rfc/rfc4180

Each line is a row, or is rejected with its number. Only a line with an open quote may form a row
together with the lines after it: see `csv_quoted`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TextIO

from airflow_provider_mediquo.api.errors import InvalidPatientsError
from airflow_provider_mediquo.api.patients.fields import is_blank
from airflow_provider_mediquo.api.records import LocatedRecord, SourceLocation, Unreadable
from airflow_provider_mediquo.sources.columns import ColumnMapping
from airflow_provider_mediquo.sources.files.bounded_lines import Line, Lines
from airflow_provider_mediquo.sources.files.csv_header import (
    Layout,
    filled,
    is_followed,
    read_layout,
)
from airflow_provider_mediquo.sources.files.csv_line import LINE_END, MARK, are_text
from airflow_provider_mediquo.sources.files.csv_quoted import QuotedRows
from airflow_provider_mediquo.sources.files.csv_second_header import HeaderRows

log = logging.getLogger(__name__)


def read_csv(
    text: TextIO, name: str, mapping: ColumnMapping, delimiter: str | None
) -> Iterator[LocatedRecord]:
    """Yield each row as a mapping of the header's names to cells; blank rows are skipped.

    A row with more or fewer cells than the header is Unreadable: missing cells would count as blank
    and clear fields. So is each line whose quotes are ambiguous. Raises InvalidPatientsError at a
    second header that differs from the first.

    :param name: of the file.
    :param mapping: checks the columns, and says which are fields of a patient.
    :param delimiter: None: the one that fits the header.
    """
    lines = Lines(text)
    layout = read_layout(lines, name, mapping, delimiter)
    if layout is None:
        log.warning("%s is empty.", name)
        return
    names = layout.names
    headers = HeaderRows(names, map(str, mapping.columns), layout.parser, layout.width)
    rows = _Rows(lines, layout, headers)
    if not is_followed(lines, name):
        log.warning("%s is empty: it has only a header.", name)
    for line in filled(lines, name):
        row, taken = rows.read(line)
        if isinstance(row, Unreadable):
            _refuse_another_header(headers, taken, name)
            rows.doubt_after(taken)
            for each in taken:
                yield LocatedRecord(row, SourceLocation(name, each.number))
        elif row:
            rows.is_in_doubt = len(taken) > 1
            location = SourceLocation(name, line.number)
            yield LocatedRecord(dict(zip(names, row)), location)  # noqa: B905  # blanks may follow


def _refuse_another_header(headers: HeaderRows, rejected: Sequence[Line], name: str) -> None:
    if line := headers.another_among(rejected):
        raise InvalidPatientsError(
            f"{name} cannot be read any further:\nline {line.number:,} is a second header with other "
            "columns. Split the file, so that each part begins with its header. The lines before it "
            "were read."
        )


class _Rows:
    """Reads rows of a layout."""

    def __init__(self, lines: Lines, layout: Layout, headers: HeaderRows) -> None:
        self.is_in_doubt = False
        """Whether the next line may belong to the row before it: that was rejected, cut off, or on several lines."""
        self._is_rest = False  # whether this is so even if it looks like a row
        self._is_stub = False  # whether the rejected line before may be the beginning of the next
        self._is_open = False  # whether the rejected lines before leave a quote open
        self._is_cut = False  # whether the line before ended with a CR that ends no other line
        self._layout = layout
        self._headers = headers
        self._names, self._spellings = headers.names, headers.spellings
        self._count, self._width = len(layout.names), layout.width
        self._delimiter = layout.parser.delimiter
        self._quoted = QuotedRows(
            lines, layout.parser, layout.fields, layout.width, may_lose_end=layout.may_lose_end
        )

    def read(self, line: Line) -> tuple[list[str] | Unreadable, Sequence[Line]]:
        """Return the cells of the row on a line, none of a blank one, and the lines it takes."""
        text = line.text or ""
        if text[0] == MARK:
            text = text[1:]
        row: list[str] | Unreadable
        taken: Sequence[Line] = (line,)
        if '"' not in text:
            row = self._checked(text.rstrip(LINE_END).split(self._delimiter))
        else:
            row, taken = self._with_quotes(line, text)
            if self._is_open and len(taken) > 1:
                self._is_open = False
                row = Unreadable("lines") if row and self.is_in_doubt else row
        if row and isinstance(row, list) and self._quoted.is_before_a_rest():
            row = Unreadable("lines")
        was_cut = self._is_cut
        self._is_cut = self._layout.has_lf and (taken[-1].text or "")[-1:] == "\r"
        is_part = self._is_rest or was_cut or self._is_cut or self._is_stub
        return (Unreadable("lines") if row and is_part else row), taken

    def doubt_after(self, taken: Sequence[Line]) -> None:
        """Keep in mind that lines were rejected, and whether the next row may be the rest of them."""
        self.is_in_doubt = True
        text = taken[-1].text or ""
        count = self._quoted.cells_of(taken)
        is_end = len(taken) > 1 and text.rstrip().endswith('"')  # of a quoted cell
        self._is_stub = (len(taken) > 1 and count == 1) or (
            not is_end and self._quoted.is_stub(text)
        )
        self._is_open = sum((line.text or "").count('"') for line in taken) % 2 == 1
        if self._quoted.is_like_a_row(text) and (len(taken) > 1 or not self._quoted.is_short(text)):
            self._is_rest = False
        elif '"' in text:
            is_open = self._layout.parser.cells(text) is None
            self._is_rest = is_open and count != self._layout.width

    def _with_quotes(self, line: Line, text: str) -> tuple[list[str] | Unreadable, Sequence[Line]]:
        row = self._layout.parser.cells(text)
        if row is None:
            return self._quoted.read(line)
        if '"' in "".join(row) and not self._is_certain(text):
            return self._quoted.reject(line)
        if len(row) != self._layout.width:  # also if it is blank: a quote too many is no empty row
            return Unreadable("cells"), (line,)
        return self._checked(row), (line,)

    def _is_certain(self, text: str) -> bool:
        strays = self._layout.parser.stray_quotes(text)
        if not strays:
            return True
        is_text = not self.is_in_doubt and are_text(strays, self._layout.fields)
        return is_text and not self._quoted.is_before_a_part()

    def _checked(self, row: list[str]) -> list[str] | Unreadable:
        count, width = self._count, self._width
        first = row[0].strip()
        if (not first or not first.isascii()) and is_blank("".join(row)):
            self.is_in_doubt |= len(row) != width
            return []
        if len(row) != width or (width > count and "".join(row[count:]).strip()):
            return Unreadable("cells")
        may_be_header = first.casefold() in self._names or not self._spellings.isdisjoint(row)
        return Unreadable("header") if may_be_header and self._headers.is_one(row) else row
