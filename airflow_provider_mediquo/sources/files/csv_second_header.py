"""A second header inside a CSV file, as in files that were concatenated.

Its columns may be in another order: then each value of the rows after it would go to another field.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from airflow_provider_mediquo.api.patients.schema import PATIENT_FIELDS
from airflow_provider_mediquo.sources.files.bounded_lines import Line
from airflow_provider_mediquo.sources.files.csv_line import MARK, LineParser


class HeaderRows:
    """Tells headers from records, in which a cell or two may equal a name by chance.

    :param names: of the first header.
    :param others: names that another header may have.
    :param width: cells per row.
    """

    def __init__(
        self, names: Sequence[str], others: Iterable[str], parser: LineParser, width: int
    ) -> None:
        self._first = folded(names)
        self._begin = "".join(self._first[:1])
        known = folded([*names, *others, *PATIENT_FIELDS, "birthdate"])
        self.names = frozenset(name for name in known if any(map(str.isalpha, name)))
        """Names that a header may have, folded."""
        styles = (str.lower, str.upper, str.title, str.capitalize)
        self.spellings = frozenset(style(name) for name in self.names for style in styles)
        """The usual ways to write them. If a row has none, and does not begin with a name, it is a record."""
        self._parser = parser
        self._width = width

    def is_one(self, row: Sequence[str]) -> bool:
        """Whether the cells of a row are a header, the first one or another."""
        cells = _without_blank_ends(folded(row))
        return cells == self._first or self._is_another(cells)

    def another_among(self, rejected: Sequence[Line]) -> Line | None:
        """Return the line, of some that are no record, that is or begins another header than the first.

        It may end with one, if the line end before the header is missing.
        """
        texts = [(line.text or "").removeprefix(MARK) for line in rejected]
        if folded(self._parser.first_row(iter(texts)) or []) == self._first:
            return None  # its names may have several lines
        pairs = zip(rejected, texts, strict=True)
        return next((line for line, text in pairs if self._is_another_in(text)), None)

    def _is_another_in(self, text: str) -> bool:
        delimiter = self._parser.delimiter
        row = self._parser.cells(text) or text.replace('"', "").split(delimiter)
        cells = _without_blank_ends(folded(row))
        joined = cells[self._width - 1 :]
        if joined and joined[0].endswith(self._begin):
            joined[0] = self._begin
        return any(each != self._first and self._is_another(each) for each in (cells, joined))

    def _is_another(self, cells: Sequence[str]) -> bool:
        filled = [*filter(None, cells)]
        if len(cells) < 2 or len({*filled}) < len(filled):  # names differ
            return False
        known = sum(cell in self.names for cell in filled)
        begins_alike = cells[0] == self._begin and cells[0] in self.names
        if known > 1 and (begins_alike or known * 2 > len(cells)):
            return True
        return (begins_alike or known > 1) and all(map(_is_like_a_name, cells))


def folded(cells: Iterable[str]) -> list[str]:
    """Return cells as they are compared: without case, and without whitespace around them."""
    return [cell.strip().casefold() for cell in cells]


def _without_blank_ends(cells: Sequence[str]) -> list[str]:
    return [*cells[: max((at for at, cell in enumerate(cells, 1) if cell), default=0)]]


def _is_like_a_name(cell: str) -> bool:
    has_letters = any(map(str.isalpha, cell))
    return has_letters and "@" not in cell and not any(map(str.isdigit, cell))
