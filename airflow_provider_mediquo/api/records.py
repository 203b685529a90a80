"""What a source can say of a record beside the record itself."""

from __future__ import annotations

from typing import Any, NamedTuple


class SourceLocation(NamedTuple):
    """Where a record was found.

    :param file: as its source names it.
    :param line: the first of the record, from 1; in Parquet the row.
    """

    file: str
    line: int


class LocatedRecord(NamedTuple):
    """A record, and where it was found."""

    record: Any
    place: SourceLocation


class Unreadable(NamedTuple):
    """What stands in a record's place where there is none; it is rejected.

    :param rule: one of `fields.RULES`.
    """

    rule: str


class ValidRecord(NamedTuple):
    """A record that may be sent, as it is then: its source may use its objects again."""

    row: int
    code: str
    has_plan: bool
    encoded: bytes
    place: SourceLocation | None = None
