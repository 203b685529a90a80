"""Maps the columns of a source to the fields of a patient, and checks that they fit."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from airflow_provider_mediquo.api.errors import InvalidPatientsError
from airflow_provider_mediquo.api.patients.schema import PATIENT_FIELDS, REQUIRED
from airflow_provider_mediquo.api.patients.words import INVISIBLE
from airflow_provider_mediquo.api.text import counted, listed

_MAX_NAME = 64  # characters; longer ones are prose, or lines whose ends are lost
_MIN_DIGITS = 5  # of a number that is no year
_VALUE = re.compile(r'[@"]|[0-9]{5}|[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4}')


class ColumnMapping:
    """Checks the columns of a source, or of several files.

    :param columns: name in the source -> field of a patient, or None to drop the column.
    :param is_transformed: whether `transform` makes patients of the records: then the columns can
        have any names.
    """

    def __init__(
        self, columns: Mapping[str, str | None] | None = None, *, is_transformed: bool = False
    ) -> None:
        self.columns = columns or {}
        self.is_transformed = is_transformed
        self._had_plan: bool | None = None  # of the files before; None: there was no file yet
        self._before: Sequence[str] | None = None  # the names in the file before

    def fields(self, names: Sequence[str]) -> list[str | None]:
        """Return the field of each column, None if it is dropped."""
        fields = [self.columns.get(name, name) for name in names]
        return ["birth_date" if field == "birthdate" else field for field in fields]

    def is_read(self, name: str) -> bool:
        """Return whether what a column says may become a patient's."""
        return self.is_transformed or self.fields([name]) != [None]

    def check(self, names: Sequence[str], source: str, *, is_text: bool = False) -> None:
        """Raise InvalidPatientsError if records with these columns cannot be patients.

        Names are only shown if `code` and `first_name` are among them and all look like names: in
        a file without a header, or with a damaged one, they are patient data.

        :param source: the file or statement, for the message.
        :param is_text: whether `encoding` and `delimiter` decide what the names are.
        """
        if self.is_transformed:
            problem = self._twice(list(names), names) or self._differing(names)
        else:
            problem = self._missing(names, is_text=is_text) or self._wrong(names)
        if problem:
            raise InvalidPatientsError(f"{source} has {problem}")
        self._had_plan = "plan" in self.fields(names)
        self._before = names

    def may_be_data(self, names: Sequence[str], rows: Iterable[Sequence[str]]) -> bool:
        """Whether the names may be a record: some look like values, or come again as values below.

        :param rows: the first records.
        """
        if {*names} & {*PATIENT_FIELDS, *self.columns}:
            return False
        places = {name: at for at, name in enumerate(names) if name.strip()}
        # A header again, maybe in another order, is no sign.
        others = (
            row
            for row in rows
            if [*row[: len(names)]] != [*names]
            and all(places.get(cell, at) == at for at, cell in enumerate(row))
        )
        pairs = (pair for row in others for pair in zip(names, row, strict=False))
        return any(map(_is_like_a_value, names)) or any(a.strip() and a == b for a, b in pairs)

    def _differing(self, names: Sequence[str]) -> str:
        """Compare with the file before: `transform` cannot tell a lost column from a blank cell."""
        before = names if self._before is None else self._before
        changes = [
            f"{what} {self._shown(some, all_names)}"
            for what, some, all_names in (
                ("lacks", sorted({*before} - {*names}), before),
                ("adds", sorted({*names} - {*before}), names),
            )
            if some
        ]
        if changes:
            return (
                f"other columns than the files before.\nIt {' and '.join(changes)}. With `transform`, "
                "all files need the same columns. Read files that differ in tasks of their own."
            )
        return ""

    def _missing(self, names: Sequence[str], *, is_text: bool) -> str:
        fields = self.fields(names)
        expected = {name for name, field in self.columns.items() if field is not None}
        if missing := sorted(map(str, expected - {*names})):
            near = _near(missing, names)
            return (
                f"no column {listed(missing)}, which `columns` maps.\nNames must match exactly, "
                f"including case and spaces.{near}"
            )
        if missing := sorted(REQUIRED.difference(filter(None, fields))):
            return (
                f"no column named {' or '.join(missing)} among its {counted(len(names), 'column')}.\n"
                f"Map it: columns={{'its_name': '{missing[0]}'}}"
                f"{', or check `encoding`, `delimiter` and the first line, which must be a header' if is_text else ''}."
                f"{_near(missing, names)}"
            )
        if self._had_plan is not None and self._had_plan != ("plan" in fields):
            return (
                f"{'no' if self._had_plan else 'a'} plan column, unlike the files before.\nRecords without "
                "a plan would be unsubscribed. Give each file the column, even if it is blank."
            )
        return ""

    def _wrong(self, names: Sequence[str]) -> str:
        fields = self.fields(names)
        if twice := self._twice(fields, names):
            return twice
        known = {None, *PATIENT_FIELDS}
        if unknown := [n for n, field in zip(names, fields, strict=True) if field not in known]:
            return (
                f"unknown columns:\n{self._shown(unknown, names)}. Map each in `columns`, to a field or "
                "to None to drop it: columns={'its_name': None}. "
                f"The fields are {', '.join(PATIENT_FIELDS)}.{_near(PATIENT_FIELDS, unknown)}"
            )
        return ""

    def _twice(self, fields: Sequence[str | None], names: Sequence[str]) -> str:
        if twice := sorted({name for name, n in Counter(filter(None, fields)).items() if n > 1}):
            by = "" if self.is_transformed else " or with None in `columns`"  # applied after it
            return (
                f"more than one column for {self._shown(twice, names)}.\nDrop all but one, in the "
                f"source{by}."
            )
        return ""

    def _shown(self, some: Sequence[str], names: Sequence[str]) -> str:
        """Return some names, or how many there are if the header may hold patient data."""
        is_header = {*self.fields(names)} >= REQUIRED  # with `transform` it need not be one
        if is_header and self._are_like_names(names):
            return listed(some)
        return f"{len(some):,}, not shown because the header may hold patient data"

    def _are_like_names(self, names: Sequence[str]) -> bool:
        known = {*PATIENT_FIELDS, *self.columns}
        return all(name in known or _is_like_a_name(name, known) for name in names)


def _near(expected: Iterable[str], names: Collection[str]) -> str:
    """Say which expected name another one looks like."""
    found = {_folded(name) for name in names}
    near = [name for name in expected if name not in names and _folded(name) in found]
    if not near:
        return ""
    return (
        f" One looks like {near[0]}, and differs in case, spaces, invisible characters, or the form of "
        "its accents."
    )


def _folded(name: str) -> str:
    return INVISIBLE.sub("", unicodedata.normalize("NFKC", name)).strip().casefold()


def _is_like_a_value(name: str) -> bool:
    """Whether it can hardly be a name, even where names may be years, prose, or of several lines."""
    text = " ".join(name.split())
    is_number = sum(map(str.isdigit, text)) >= _MIN_DIGITS and not any(map(str.isalpha, text))
    return is_number or not text.isprintable() or bool(_VALUE.search(text.replace('"', "")))


def _is_like_a_name(name: str, known: Collection[str]) -> bool:
    has_letters = not name or any(map(str.isalpha, name))
    if not has_letters or len(name) > _MAX_NAME or not name.isprintable() or _VALUE.search(name):
        return False
    rests = [name.removeprefix(each) for each in known if name.startswith(each)]
    return not any(map(str.isdigit, "".join(rests)))  # `plan1`: a line end is lost before a code
