"""CSV with a header. https://www.rfc-editor.org/rfc/rfc4180"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any, TextIO

from airflow_provider_mediquo.api.errors import InvalidPatientsError, SourceError
from airflow_provider_mediquo.api.patients.schema import REQUIRED
from airflow_provider_mediquo.api.records import LocatedRecord, SourceLocation, Unreadable
from airflow_provider_mediquo.sources.columns import ColumnMapping
from airflow_provider_mediquo.sources.files.bounded_lines import MAX_LINE, Lines

_DELIMITERS = (",", ";", "\t", "|")
_LINE_END = re.compile(r"\r\n?|\n")


def read_csv(
    text: TextIO, name: str, header: ColumnMapping, delimiter: str | None
) -> Iterator[LocatedRecord]:
    """Yield each row as a mapping of the header's names to cells; blank lines are skipped.

    A row with more or fewer cells than the header is Unreadable: read as blanks, those that were
    cut off would empty what a patient has. So is each line of rows that a lost quote has joined.
    Raises SourceError where rows cannot be told apart.

    :param name: of the file.
    :param header: checks the columns, and says which are fields of a patient.
    :param delimiter: None: the one that fits the header.
    """
    lines = Lines(text)
    blank, first = _first(lines)
    delimiter = delimiter or _fitting(first, header)
    rows = _rows(chain(repeat("\n", blank), [first], lines), lines, name, delimiter)
    names = next((row for _, row in rows if row != []), None) or []
    _check(names, name, header)
    one_line = [at for at, field in enumerate(header.fields(names)) if field not in (None, "meta")]
    for line, row in rows:
        place = SourceLocation(name, line)
        if row == []:
            continue
        if not row or len(row) != len(names):
            yield LocatedRecord(Unreadable("cells"), place)
        elif joined := _joined(row, delimiter):
            for number in range(joined):  # a member each
                yield LocatedRecord(Unreadable("lines"), SourceLocation(name, line + number))
        elif any("\n" in row[at] or "\r" in row[at] for at in one_line):
            yield LocatedRecord(Unreadable("lines"), place)
        else:
            yield LocatedRecord(dict(zip(names, row)), place)  # noqa: B905  # just compared


def _joined(row: Sequence[str], delimiter: str) -> int:
    """Return how many rows look like they were joined into this one, by two quotes too few; or 0.

    The cell that holds them begins with the rest of one row, and ends with the beginning of another;
    there is no quote in between. In prose, a comma has a blank behind it.
    """
    for at, cell in enumerate(row):
        first, *others = _LINE_END.split(cell)
        if not others or '"' in cell:
            continue
        after, before = len(row) - 1 - at, at
        rest = first.rsplit(delimiter, after)[1:]
        beginning = others[-1].split(delimiter, before)[:-1]
        is_whole = len(rest) == after and len(beginning) == before
        if is_whole and not any(map(_begins_blank, [*rest, *beginning])):
            return 1 + len(others)
    return 0


def _begins_blank(cell: str) -> bool:
    return cell[:1].isspace()


def _rows(
    given: Iterable[str | None], lines: Lines, name: str, delimiter: str
) -> Iterator[tuple[int, list[str] | None]]:
    """Yield the line that each row begins on, and its cells; None where its quotes are wrong."""
    every = _OfOneRow(given)
    # Strict, because what `"Ada "Bo" Day"` was meant to be is a guess.
    reader = csv.reader(every, delimiter=delimiter, strict=True)
    while True:
        begin = reader.line_num + 1
        every.begin()
        row = None
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            pass
        is_clear = reader.line_num == begin and not every.are_too_many
        if row is None and not (is_clear and _ends(lines.last, delimiter)):
            raise _no_end(name, begin)
        yield begin, row


class _OfOneRow:
    """Lines, as many as a row may have: each cell of a row without end may be short."""

    def __init__(self, lines: Iterable[Any]) -> None:
        self.are_too_many = False
        self._lines = lines
        self._left = MAX_LINE

    def begin(self) -> None:
        """Count anew."""
        self._left = MAX_LINE

    def __iter__(self) -> Iterator[Any]:
        for line in self._lines:
            self._left -= len(line or "")
            self.are_too_many = self._left < 0
            if self.are_too_many:
                raise csv.Error
            yield line


def _first(lines: Iterable[str | None]) -> tuple[int, str | None]:
    """Return how many blank lines there are before the first other one, and that."""
    every = enumerate(lines)
    return next(((n, line) for n, line in every if line is None or not line.isspace()), (0, ""))


def _fitting(first: str | None, header: ColumnMapping) -> str:
    """Return the delimiter that fits a first line, or else the one with the most columns."""
    names = {each: _names(first or "", each) for each in _DELIMITERS}
    for each in _DELIMITERS:
        if {*header.fields(names[each])} >= REQUIRED:
            return each
    return max(_DELIMITERS, key=lambda each: len(names[each]))


def _names(first: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([first], delimiter=delimiter), [])
    except csv.Error:  # a cell is longer than the module takes, as by a delimiter that is none
        return []


def _check(names: Sequence[str], name: str, header: ColumnMapping) -> None:
    if any("\ud800" <= character <= "\udfff" for character in "".join(names)):
        raise InvalidPatientsError(
            f"The header of {name} is in another encoding than it is read with: set `encoding`."
        )
    header.check(names, name)


def _ends(line: str | None, delimiter: str) -> bool:
    """Whether a row ends with its line, by a reading that takes wrong quotes for text."""
    try:
        return line is not None and len([*csv.reader([line, "."], delimiter=delimiter)]) == 2
    except csv.Error:
        return False


def _no_end(name: str, line: int) -> SourceError:
    return SourceError(
        f"{name} cannot be read any further: the row that begins on line {line:,} has no clear "
        "end. A quote in it is not closed, or not where it should be; or it is far too long. The "
        "lines before it were read."
    )
