"""Records on their way from a source to mediQuo."""

from __future__ import annotations

from typing import Any, NamedTuple


class SourceLocation(NamedTuple):
    """The position of a record in a file.

    :param file: the name that the source gives it.
    :param line: the first line of the record, from 1; in Parquet the row.
    """

    file: str
    line: int


class LocatedRecord(NamedTuple):
    """A record with its position."""

    record: Any
    location: SourceLocation


class Unreadable(NamedTuple):
    """Stands for a record that cannot be read, and is rejected.

    :param rule: one of `fields.RULES`.
    """

    rule: str


class ValidRecord(NamedTuple):
    """A record that passed all checks, encoded at once, because its source may reuse its objects."""

    row: int
    code: str
    has_plan: bool
    encoded: bytes
    location: SourceLocation | None = None
