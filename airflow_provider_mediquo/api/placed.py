"""What a source can say of a record beside the record itself."""

from __future__ import annotations

from typing import Any, NamedTuple


class Place(NamedTuple):
    """Where a record was found.

    :param file: as its source names it.
    :param line: the first of the record, from 1; in Parquet the row.
    """

    file: str
    line: int


class Placed(NamedTuple):
    """A record, and where it was found."""

    record: Any
    place: Place


class Unreadable(NamedTuple):
    """What stands in a record's place where there is none; it is rejected.

    :param rule: one of `fields.RULES`.
    """

    rule: str
