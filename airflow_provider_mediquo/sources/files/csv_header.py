"""Reads the layout of a CSV file from its first lines: delimiter, names, number of cells."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

from airflow_provider_mediquo.api.errors import InvalidPatientsError, SourceError
from airflow_provider_mediquo.api.patients.schema import REQUIRED
from airflow_provider_mediquo.sources.columns import ColumnMapping
from airflow_provider_mediquo.sources.files.bounded_lines import MAX_LINE, Line, Lines
from airflow_provider_mediquo.sources.files.csv_line import (
    LINE_END,
    MARK,
    LineParser,
    is_blank_line,
)

_DELIMITERS = (",", ";", "\t", "|")
_SEP = re.compile(r'"?sep=([^"])"?', re.IGNORECASE)  # which Excel writes and reads
_OTHER_DELIMITER = re.compile(r"[,;|:^~¦§\x00-\x1f]")
_OTHER_LINE_END = re.compile("[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_HEADER_LINES = 10  # that a header may take
_AHEAD = 10  # lines that are looked at


class Layout(NamedTuple):
    """The layout of the rows of a file.

    :param fields: the patient field of each column, None if it is dropped.
    :param width: cells per row; those after the names are blank.
    :param has_lf: whether its lines end with LF, so that a lone CR is part of a cell.
    :param may_lose_end: whether the last cell of a row is dropped, so that it may be cut off.
    """

    parser: LineParser
    names: list[str]
    fields: list[str | None]
    width: int
    has_lf: bool
    may_lose_end: bool


def read_layout(
    lines: Lines, name: str, mapping: ColumnMapping, delimiter: str | None
) -> Layout | None:
    """Read the header; None if the file is empty.

    Raises InvalidPatientsError for a header that cannot be read or does not fit.
    """
    first = next(filled(lines, name), None)
    if first and (said := _SEP.fullmatch(_text(first))):
        delimiter = delimiter or said[1]
        first = next(filled(lines, name), None)
    if not first:
        return None
    first = first._replace(text=(first.text or "").lstrip(MARK))
    begin = [first.text or "", *_texts_ahead(lines, _HEADER_LINES - 1)]
    parser = LineParser(delimiter or _fitting(begin, mapping))
    given = _without_mark(_header_row(first, lines, parser, name))
    names = _without_blank_ends(given)
    ahead = _texts_ahead(lines, _AHEAD)
    texts = [line.rstrip(LINE_END) for line in ahead if not is_blank_line(line)]
    rows = [parser.cells(text) or [] for text in texts]
    _check(names, rows, name, mapping)
    fields, width = mapping.fields(names), _width(rows, given, names)
    # A blank in quotes is a cell: the header may have lost a delimiter.
    if width > len(given) and not all(t.rstrip(" ").endswith(parser.delimiter) for t in texts):
        width = len(given)
    if width > len(given) and _are_numbered(rows, fields, mapping):
        raise InvalidPatientsError(
            f"{name} seems to have row numbers.\nThe header does not name them: each row has one cell "
            "more than the header.\nName that column, and drop it with None in `columns`; or, if the "
            "first column is named, end the header with the delimiter, too."
        )
    is_end_dropped = not mapping.is_transformed and width == len(fields) and fields[-1] is None
    has_lf = (first.text or "").endswith("\n")
    return Layout(parser, names, fields, width, has_lf, is_end_dropped)


def filled(lines: Lines, name: str) -> Iterator[Line]:
    """Yield the lines that are not blank; raises SourceError for one that is too long."""
    for line in lines:
        if line.text is None:
            raise SourceError(
                f"{name} cannot be read any further:\nline {line.number:,} is longer than "
                f"{MAX_LINE:,} characters, and may be any number of rows. The lines before it were "
                "read."
            )
        if not is_blank_line(line.text):
            yield line


def is_followed(lines: Lines, name: str) -> bool:
    """Whether a line comes that is not blank."""
    ahead = [*islice(filled(lines, name), 1)]
    lines.put_back(ahead)
    return bool(ahead)


def _text(line: Line) -> str:
    return (line.text or "").rstrip(LINE_END)


def _header_row(first: Line, lines: Lines, parser: LineParser, name: str) -> list[str]:
    """Return the cells of the header, which may take several lines in a spreadsheet."""
    more = (line.text or "" for line in islice(lines, _HEADER_LINES - 1))
    if (row := parser.cells(_text(first))) is not None:
        return row
    if (row := parser.first_row(chain([first.text or ""], more))) is not None:
        return row
    raise InvalidPatientsError(
        f"The header of {name} has a stray quote.\nIt is not closed, or does not stand next to a "
        "delimiter. Write each name without quotes, or in quotes with no blank around them."
    )


def _without_mark(names: list[str]) -> list[str]:
    """Leave out a byte order mark inside the quotes of the first name."""
    return [name.lstrip(MARK) if not at else name for at, name in enumerate(names)]


def _without_blank_ends(names: Sequence[str]) -> list[str]:
    """Leave out the columns at the end that have no name: a delimiter ends each line, say."""
    count = max((at for at, name in enumerate(names, 1) if name.strip()), default=0)
    return [*names[:count]]


def _texts_ahead(lines: Lines, count: int) -> list[str]:
    ahead = [*islice(lines, count)]
    lines.put_back(ahead)
    return [line.text or "" for line in ahead]


def _width(rows: Sequence[Sequence[str]], given: Sequence[str], names: Sequence[str]) -> int:
    """Return how many cells a row has, which may end with a delimiter though the header does not."""
    widths = {len(row) for row in rows}
    is_blank = not any("".join(row[len(names) :]).strip() for row in rows)
    return (
        widths.pop() if is_blank and len(widths) == 1 and max(widths) >= len(names) else len(given)
    )


def _are_numbered(
    rows: Sequence[Sequence[str]], fields: Sequence[str | None], mapping: ColumnMapping
) -> bool:
    """Whether rows begin with their number, without a name: as pandas and R may write them.

    They count from 0 or 1. Codes may do so too, but then no other code stands where a name should.
    """
    first = [row[0].strip() for row in rows]
    if not any(first == [*map(str, range(at, at + len(first)))] for at in (0, 1)):
        return False
    if not mapping.is_transformed and fields[0] != "code":
        return True
    at = 1 if mapping.is_transformed else fields.index("first_name")
    return all(any(map(str.isdigit, row[at])) for row in rows)


def _fitting(begin: Sequence[str], mapping: ColumnMapping) -> str:
    """Return the delimiter that fits the first row of these lines, or else the one with the most columns."""
    names = {each: _names(begin, each) for each in _DELIMITERS}
    for each in _DELIMITERS:
        if {*mapping.fields(names[each])} >= REQUIRED:
            return each
    return max(_DELIMITERS, key=lambda each: len(names[each]))


def _names(begin: Sequence[str], delimiter: str) -> list[str]:
    try:
        return _without_mark(next(csv.reader(begin, delimiter=delimiter), []))
    except csv.Error:  # a cell is too long for `csv`: this is not the delimiter
        return []


def _check(
    names: Sequence[str], rows: Sequence[Sequence[str]], name: str, mapping: ColumnMapping
) -> None:
    if any("\ud800" <= character <= "\udfff" for character in "".join(names)):
        raise InvalidPatientsError(
            f"The header of {name} is in another encoding than it is read with.\nSet `encoding`."
        )
    if not rows and _OTHER_LINE_END.search("".join(names)):
        raise InvalidPatientsError(
            f"{name} is a single line.\nIt contains a character that ends lines elsewhere: write LF or CR LF "
            "after each line. On a mainframe, 0x15 is a NEL: convert it to LF."
        )
    if mapping.is_transformed:
        _refuse_data(names, rows, name, mapping)
    mapping.check(names, name, is_text=True)


def _refuse_data(
    names: Sequence[str], rows: Sequence[Sequence[str]], name: str, mapping: ColumnMapping
) -> None:
    """Refuse what no function can make patients of; without one, the names say what is wrong."""
    if len(names) == 1 and _OTHER_DELIMITER.search(names[0]):
        raise InvalidPatientsError(
            f"{name} has a single column.\nIts name contains what may be a delimiter: set `delimiter`."
        )
    if mapping.may_be_data(names, rows):
        raise InvalidPatientsError(
            f"The first line of {name} looks like data.\nIt must be a header: add one, or check "
            "`encoding` and `delimiter`. If these are its names, map one of them in `columns`, for "
            "example to None."
        )
