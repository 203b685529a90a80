"""CSV rows that take several lines: which quotes open a cell, and which are stray.

A stray quote makes all lines up to the next quote look like one cell. So a row of several lines is
only taken if no other row can be inside it. If one may be, each of its lines is rejected; if no later
quote closes the first one, only the first line is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise

from marshmallow import ValidationError

from airflow_provider_mediquo.api.patients.meta import read_meta
from airflow_provider_mediquo.api.records import Unreadable
from airflow_provider_mediquo.sources.files.bounded_lines import MAX_LINE, Line, Lines
from airflow_provider_mediquo.sources.files.csv_line import LineParser, is_blank_line

MAX_DOUBT = 50
"""Lines that may be rows of their own or lines of one cell; if there are more, they are rows."""


class QuotedRows:
    """Reads the row that begins with a line whose quote is not closed.

    :param fields: the patient field of each column, None if it is dropped.
    :param width: cells per row.
    :param may_lose_end: whether nothing is lost if the last cell of a row is cut off.
    """

    def __init__(
        self,
        lines: Lines,
        parser: LineParser,
        fields: Sequence[str | None],
        width: int,
        *,
        may_lose_end: bool,
    ) -> None:
        self._lines = lines
        self._parser = parser
        self._fields = fields
        self._width = width
        self._delimiter, self._edges = parser.delimiter, width - 1  # between the cells of a row
        self._may_lose_end = may_lose_end
        self._alone_until = 0

    def read(self, first: Line) -> tuple[list[str] | Unreadable, list[Line]]:
        """Return the cells if the row is certain, else the reason, and the lines that it applies to."""
        attempt = _Attempt(first, self._lines, self.is_like_a_row)
        if first.number > self._alone_until:  # so that each line is tried once
            row = self._parser.first_row(attempt) or []
            taken = attempt.taken
            if self._is_certain(row, taken):
                return row, taken
            if len(taken) > 1 and len(row) == self._width and not self._is_clean(taken[-1]):
                return Unreadable("lines"), taken
            self._alone_until = taken[-1].number
            self._lines.put_back(taken[1:])
        return self.reject(first)

    def reject(self, first: Line) -> tuple[Unreadable, list[Line]]:
        """Reject a line for its quotes, with those after it that may belong to the same cell."""
        taken = [first, *self._up_to_odd_quotes()]
        return Unreadable("lines" if len(taken) > 1 else "cells"), taken

    def is_stub(self, text: str) -> bool:
        """Whether a line may be a piece of an unquoted cell that a line break has cut.

        The other piece, in the row before it or after it, then looks like a whole row.
        """
        if self.is_like_a_row(text) or is_blank_line(text):
            return False
        return self._delimiter not in text or len(self._parser.cells(text) or ()) == 1

    def is_before_a_part(self) -> bool:
        """Whether the next line is no whole row."""
        return self._is_before(lambda line: not self.is_like_a_row(line.text or ""))

    def is_before_a_rest(self) -> bool:
        """Whether the next lines end a cell that seems to be complete already."""
        line = self._lines.peek()
        if line is None:
            return False
        text = line.text or ""
        if text.count(self._delimiter) >= self._edges:  # like a row; each row comes by here
            begins_a_cell = text[:1] == '"' and text[1:2] != self._delimiter
            return not begins_a_cell and '"' in text and self._ends_a_lost_cell(text)
        return self._is_before_a_stub() or self._is_before_an_end()

    def _is_before_a_stub(self) -> bool:
        """Whether a line comes that may be the end of the last cell."""
        return not self._may_lose_end and self._is_before(self._may_be_end)

    def _may_be_end(self, line: Line) -> bool:
        text = line.text or ""
        is_broken = text[:1] == '"' and self._parser.cells(text) is None
        return (self.is_stub(text) or is_broken) and not ('"' in text and self._begins_a_row(line))

    def _is_before(self, is_part: Callable[[Line], bool]) -> bool:
        """Whether such a line is next, also after blank lines if it is no trailer of the file."""
        seen = []
        for line in islice(self._lines, MAX_DOUBT):
            seen.append(line)
            if not is_blank_line(line.text):
                break
        is_found = any(not is_blank_line(line.text) and is_part(line) for line in seen[-1:])
        is_found = is_found and (len(seen) == 1 or self._is_before_a_row())
        self._lines.put_back(seen)
        return is_found

    def _is_before_a_row(self) -> bool:
        seen = [*islice(self._lines, MAX_DOUBT)]
        self._lines.put_back(seen)
        return any(self.is_like_a_row(line.text or "") for line in seen)

    def _is_before_an_end(self) -> bool:
        """Whether a quote comes that only ends a cell, before the next row."""
        seen = []
        is_rest = False
        for line in islice(self._lines, MAX_DOUBT):
            seen.append(line)
            text = line.text or ""
            if self.is_like_a_row(text):
                is_rest = self._ends_a_lost_cell(text)
                break
            if '"' in text and self._begins_a_row(line):
                break
            if '"' in text and self._may_end_a_cell(text):
                is_rest = True
                break
        self._lines.put_back(seen)
        return is_rest

    def _ends_a_lost_cell(self, text: str) -> bool:
        """Whether the first quote of a line ends a cell that began on a line before it."""
        if text[:1] == '"' and text[1:2] != self._delimiter:
            return False
        if text[:1] != '"' and ((at := text.find('"')) < 0 or text[at - 1] == self._delimiter):
            return False
        row = self._parser.cells(text)
        if row is not None and len(row) == self._width:  # then it ends a cell of the same column
            return self._fields[:1] in ([None], ["meta"]) and row[0][-1:] == '"'
        return self._may_end_a_cell(text)

    def _may_end_a_cell(self, text: str) -> bool:
        strays = self._parser.stray_quotes(text).values()
        is_end = any(cell.endswith('"') for cell in strays)
        return is_end or self._parser.cells(f'"{text}') is not None

    def _begins_a_row(self, first: Line) -> bool:
        """Whether a line, which is not like a row, is one together with those after it."""
        attempt = _Attempt(first, self._lines, self.is_like_a_row)
        row = self._parser.first_row(attempt) or []
        self._lines.put_back(attempt.taken[1:])
        return len(row) == self._width

    def cells_of(self, taken: Sequence[Line]) -> int:
        """Return the number of cells if lines are one row, to the end of the last one; else 0."""
        left = iter([line.text or "" for line in taken])
        row = self._parser.first_row(left) or []
        return 0 if [*left] else len(row)

    def _up_to_odd_quotes(self) -> list[Line]:
        """Return the lines up to the first that may close an open quote, and that one too, unless it
        may begin a row; no line if one whose quotes are all correct comes first.
        """
        seen: list[Line] = []
        for line in islice(self._lines, MAX_DOUBT):
            seen.append(line)
            quotes = (line.text or "").count('"')
            if line.text is None or (quotes and self._is_clean(line)):
                break
            if quotes % 2:
                if self._parser.cells(line.text) is None:
                    self._lines.put_back([seen.pop()])
                return seen
        self._lines.put_back(seen)
        return []

    def is_like_a_row(self, text: str) -> bool:
        """Whether it may be a whole row, by any reading: quotes only take delimiters away."""
        return text.count(self._delimiter) >= self._edges

    def is_short(self, text: str) -> bool:
        """Whether a line lacks cells in both readings: its last quote opens a cell, or is stray."""
        at = text.rfind('"')
        row = self._parser.cells(text[:at] + text[at + 1 :]) if at >= 0 else None
        return row is not None and len(row) < self._width and self._parser.cells(text) is None

    def _is_clean(self, line: Line) -> bool:
        """Whether this line alone is a row, and its quotes leave no doubt."""
        text = line.text or ""
        row = self._parser.cells(text)
        return row is not None and len(row) == self._width and not self._parser.stray_quotes(text)

    def _is_certain(self, row: Sequence[str], taken: Sequence[Line]) -> bool:
        first, *others = [line.text or "" for line in taken]
        broken = [at for at, cell in enumerate(row) if "\n" in cell or "\r" in cell]
        is_last = broken[:1] == [self._width - 1]  # so that the first line lacks only its end
        return (
            len(row) == self._width
            and not any(map(self.is_like_a_row, others))
            and (is_last or not self.is_like_a_row(first))
            and not any(self._holds_an_edge(at, others) for at in broken)
            and all(self._may_have_lines(at, row[at]) for at in broken)
            and not self._parser.stray_quotes(first + "".join(others))
        )

    def _holds_an_edge(self, at: int, others: Sequence[str]) -> bool:
        """Whether one row of several lines may end inside a cell, and another begin."""
        counts = [text.count(self._delimiter) for text in others]
        after = self._width - 1 - at
        return any(one >= after and other >= at for one, other in pairwise(counts))

    def _may_have_lines(self, at: int, cell: str) -> bool:
        field = self._fields[at] if at < len(self._fields) else ""
        return field is None or (field == "meta" and _is_object(cell))


class _Attempt:
    """The lines that a row may take, from its first on."""

    def __init__(self, first: Line, lines: Lines, is_like_a_row: Callable[[str], bool]) -> None:
        self.taken = [first]
        self._lines = lines
        self.is_like_a_row = is_like_a_row

    def __iter__(self) -> Iterator[str]:
        left = MAX_LINE - len(self.taken[0].text or "")
        doubts = 0
        yield self.taken[0].text or ""
        for line in self._lines:
            self.taken.append(line)
            text = line.text or ""
            left -= len(text)
            doubts += self.is_like_a_row(text)
            if line.text is None or left < 0 or doubts > MAX_DOUBT:
                return
            yield text


def _is_object(text: str) -> bool:
    try:
        read_meta(text)
    except ValidationError:
        return False
    return True
