"""Records on their way from a source to mediQuo."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

ChangeKind = Literal["new", "changed", "resent", "unchanged"]


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

    :param rule: one of `rules.RULES`.
    """

    rule: str


class EmptyPart(NamedTuple):
    """Stands for a file without a record, whose export may have failed, in place of a record.

    :param name: of the file.
    """

    name: str


class Change(NamedTuple):
    """How a valid record differs from what mediQuo is known to have.

    :param kind: what it counts as.
    :param fingerprint: of the patient as it is sent.
    :param source: fingerprint of the record as it came; None if the next run must check it again.
    :param had_plan: whether the patient has a plan now, or may have one.
    :param was_known: whether the state has a row of it.
    :param was_foreign: whether another sync was the last to send it.
    :param was_in_doubt: whether a request of an earlier run had no answer.
    """

    kind: ChangeKind
    fingerprint: int
    source: int | None
    had_plan: bool = False
    was_known: bool = False
    was_in_doubt: bool = False
    was_foreign: bool = False


class ValidRecord(NamedTuple):
    """A record that passed all checks, encoded at once, because its source may reuse its objects.

    :param change: how it differs from what mediQuo has; None without a state.
    :param fields: the names of its fields.
    """

    @property
    def loses_plan(self) -> bool:
        """Whether the patient has a plan now, as far as is known, and would have none."""
        return not self.has_plan and self.change is not None and self.change.had_plan

    row: int
    code: str
    has_plan: bool
    encoded: bytes
    location: SourceLocation | None = None
    change: Change | None = None
    fields: tuple[str, ...] = ()
