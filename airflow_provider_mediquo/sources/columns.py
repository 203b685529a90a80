"""Whether records of some columns can be patients."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from airflow_provider_mediquo.api.errors import InvalidPatientsError
from airflow_provider_mediquo.api.patients.schema import PATIENT_FIELDS, REQUIRED
from airflow_provider_mediquo.api.text import listed

_MAX_NAME = 64  # characters; longer ones are prose, or lines whose ends are lost
_VALUE = re.compile(r'[@"]|[0-9]{5}|[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4}')


class ColumnMapping:
    """Checks the columns of a source, or of one file after the other.

    :param columns: name in the source -> field of a patient, or None to drop it.
    """

    def __init__(self, columns: Mapping[str, str | None] | None = None) -> None:
        self.columns = columns or {}
        self._had_plan: bool | None = None  # nothing was read yet

    def fields(self, names: Sequence[str]) -> list[str | None]:
        """Return the field that each column is, None for one that is dropped."""
        fields = [self.columns.get(name, name) for name in names]
        return ["birth_date" if field == "birthdate" else field for field in fields]

    def check(self, names: Sequence[str], source: str) -> None:
        """Raise InvalidPatientsError where records of these columns cannot be patients.

        Columns are named only if `code` and `first_name` are among them, and all look like names:
        the first line of a file without a header is a patient, and where a line end is lost, it
        goes on with one.

        :param source: what has these columns, for the error.
        """
        problem = self._lost(names) or self._wrong(names)
        if problem:
            raise InvalidPatientsError(f"{source} has {problem}")
        self._had_plan = "plan" in self.fields(names)

    def _lost(self, names: Sequence[str]) -> str:
        fields = self.fields(names)
        wanted = {name for name, field in self.columns.items() if field is not None}
        if lost := sorted(map(str, wanted - {*names})):
            return (
                f"no column {listed(lost)}, which `columns` maps. Names are compared exactly, "
                "capitals and spaces too."
            )
        if lost := sorted(REQUIRED.difference(filter(None, fields))):
            return (
                f"{len(names):,} columns, and none of them is {' or '.join(lost)}, written just "
                "so. A header has to name the columns; where it does so in words of its own, map "
                "them: columns={'its name': 'code'}. Where they look right, look at the encoding."
            )
        if self._had_plan is not None and self._had_plan != ("plan" in fields):
            what = "no column for the plan, and what was read before has"
            if not self._had_plan:
                what = "a column for the plan, and what was read before has none"
            return f"{what}: all without would be unsubscribed. Give each file one, even if blank."
        return ""

    def _wrong(self, names: Sequence[str]) -> str:
        fields = self.fields(names)
        if twice := sorted({name for name, n in Counter(filter(None, fields)).items() if n > 1}):
            return (
                f"more than one column for {self._listed(twice, names)}: drop all but one, in the source or "
                "with None in `columns`."
            )
        known = {None, *PATIENT_FIELDS}
        if unknown := [n for n, field in zip(names, fields, strict=True) if field not in known]:
            return (
                "columns that are no field of a patient: "
                f"{self._listed(unknown, names)}. Map each in `columns`, to a "
                "field or to None, which drops it. The fields are "
                f"{', '.join(PATIENT_FIELDS)}."
            )
        return ""

    def _listed(self, some: Sequence[str], names: Sequence[str]) -> str:
        """Return some names, or how many they are where one of the source's may be a value."""
        known = {*PATIENT_FIELDS, *self.columns}
        if all(name in known or _is_like_a_name(name, known) for name in names):
            return listed(some)
        return f"{len(some):,}, not named because a column may hold a value"


def _is_like_a_name(name: str, known: Collection[str]) -> bool:
    has_letters = not name or any(map(str.isalpha, name))
    if not has_letters or len(name) > _MAX_NAME or not name.isprintable() or _VALUE.search(name):
        return False
    rests = [name.removeprefix(each) for each in known if name.startswith(each)]
    return not any(map(str.isdigit, "".join(rests)))  # `plan1`: a line end is lost before a code
