"""What an upload did and what it cost, in counts that add up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_mediquo.api.records import SourceLocation, ValidRecord
from airflow_provider_mediquo.api.text import counted

OUTCOMES = (
    *("read", "upserted", "new", "changed", "resent", "unchanged", "withheld", "skipped"),
    *("rejected", "unsettled", "without_plan", "unsubscribed", "missing"),
    *("missing_unsubscribed", "missing_withheld", "missing_unsettled"),
)
"""The counts of a ledger that say what happened to records and members.

Each is a column of the receipts, so another one is a change of the state's tables.
"""


@dataclass(frozen=True)
class Rejection:
    """A record that was not accepted, without any of its values.

    :param row: its position in the source, from 1.
    :param code: None if the code itself is invalid.
    :param refused_by: `schema`, `duplicate`, `mediquo`; or `unsettled`: there was no final answer,
        and the next run sends it again; or `omitted`: it was sent without these fields; or
        `withheld`: it was not sent, because it would have taken a plan away.
    :param problems: field -> rule (see `rules.RULES`).
    :param status: of mediQuo's answer.
    :param location: file and line, if the source is files.
    """

    row: int
    code: str | None
    refused_by: str
    problems: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None
    location: SourceLocation | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as one line of a reject report."""
        line: dict[str, Any] = {"row": self.row}
        if self.location:
            line |= self.location._asdict()
        line |= {"code": self.code, "refused_by": self.refused_by, "problems": dict(self.problems)}
        return line if self.status is None else line | {"status": self.status}


@dataclass
class Receipt:
    """The names of the fields that were sent, and the recipient.

    :param recipient: origin and path of mediQuo's API.
    :param version: of this package.
    :param key: ID of the secret key, which reveals nothing about it.
    :param fields: names of the fields that any record was sent with.
    """

    recipient: str
    version: str
    key: str
    fields: set[str] = field(default_factory=set)

    def add(self, records: Iterable[ValidRecord]) -> None:
        """Note the fields of records that are about to be sent."""
        for names in {record.fields for record in records}:  # most often one for all
            self.fields.update(names)

    def as_dict(self) -> dict[str, Any]:
        """Return it as it is in the ledger."""
        return {
            "fields": sorted([*self.fields]),  # a copy: other threads add to it
            "recipient": self.recipient,
            "version": self.version,
            "key": self.key,
        }


@dataclass
class UploadReport:
    """The ledger: `read = upserted + unchanged + withheld + skipped + rejected + unsettled`, always.

    With a state `upserted = new + changed + resent`, and
    `missing = missing_unsubscribed + missing_withheld + missing_unsettled`.

    :param read: records that came from the source.
    :param upserted: records that mediQuo accepted.
    :param skipped: records that `transform` left out.
    :param invalid: records that break a rule of the schema.
    :param duplicate: records whose code came before in this run.
    :param refused: records that mediQuo refused.
    :param rejects_by_rule: field -> rule -> how many rejected records broke it.
    :param without_plan: upserted records without a plan, whose patients are unsubscribed now.
    :param omitted: records from which an invalid field was left out.
    :param unchanged: records that mediQuo has already.
    :param withheld: records that would take a plan away, more than `max_unsubscribed` allows.
    :param new: upserted records whose code the state did not know.
    :param changed: upserted records that differ from what was sent before.
    :param resent: upserted records that were in doubt, wrong, or sent too long ago.
    :param moved: upserted records whose member was last sent by another sync.
    :param would_unsubscribe: members that have a plan and would have none after this run, whether
        `max_unsubscribed` allows it or not; 0 if the source was not read to its end.
    :param unsubscribed: members that had a plan and have none now.
    :param missing: members that this sync sent before and that its source no longer has.
    :param missing_unsubscribed: those of them that have no plan any more.
    :param missing_had_plan: those of `missing_unsubscribed` that had one, and lost it.
    :param missing_withheld: those that keep their plan: they were too many, or may be in the source.
    :param unwritten: lines that are missing in the reports because they could not be written, such as
        to a full disk: they are in the log.
    :param requests: requests sent, including retries.
    :param retries: attempts that repeat one without an answer; a 429 is not an attempt.
    :param throttled_seconds: how long nothing could be sent because of the rate limit.
    :param seconds: duration of the whole run.
    :param stopped_because: why the run ended early; None if every record was tried.
    :param rejects_path: the reject report, which also lists the unsettled records, if there is one.
    :param sync: the connection of the state, the name of the sync, and the number of its run.
    :param is_dry_run: whether nothing was sent: the counts are those that a real run would have.
    :param unsubscribed_path: the list of the unsubscribed patients, if there is one.
    :param receipt: which fields were sent, the recipient, the version, and the key.
    :param sample: code -> proof of what was written, for 20 of the upserted records.
    """

    read: int = 0
    upserted: int = 0
    skipped: int = 0
    invalid: int = 0
    duplicate: int = 0
    refused: int = 0
    rejects_by_rule: dict[str, dict[str, int]] = field(default_factory=dict)
    without_plan: int = 0
    omitted: int = 0
    unchanged: int = 0
    withheld: int = 0
    new: int = 0
    changed: int = 0
    resent: int = 0
    moved: int = 0
    would_unsubscribe: int = 0
    unsubscribed: int = 0
    missing: int = 0
    missing_unsubscribed: int = 0
    missing_had_plan: int = 0
    missing_withheld: int = 0
    unwritten: int = 0
    requests: int = 0
    retries: int = 0
    throttled_seconds: float = 0.0
    seconds: float = 0.0
    stopped_because: str | None = None
    rejects_path: str | None = None
    sync: dict[str, Any] | None = None
    is_dry_run: bool = False
    unsubscribed_path: str | None = None
    receipt: Receipt | None = None
    sample: dict[str, str] = field(default_factory=dict)

    @property
    def rejected(self) -> int:
        """Records that are invalid, duplicates, or refused by mediQuo."""
        return self.invalid + self.duplicate + self.refused

    @property
    def unsettled(self) -> int:
        """Records that are not confirmed: not sent, or no final answer."""
        left = self.upserted + self.unchanged + self.withheld + self.skipped + self.rejected
        return self.read - left

    @property
    def missing_unsettled(self) -> int:
        """Missing members that are not confirmed to have no plan."""
        return self.missing - self.missing_unsubscribed - self.missing_withheld

    def count_change(self, record: ValidRecord) -> None:
        """Count how an upserted record differs from what mediQuo had."""
        if change := record.change:
            setattr(self, change.kind, getattr(self, change.kind) + 1)
            self.moved += change.was_foreign
        self.unsubscribed += record.loses_plan

    def as_dict(self) -> dict[str, Any]:
        """Return the ledger as an upsert operator returns it."""
        return {
            "read": self.read,
            "upserted": self.upserted,
            **(self._sync_counts() if self.sync else {}),
            "skipped": self.skipped,
            "rejected": self.rejected,
            "unsettled": self.unsettled,
            "invalid": self.invalid,
            "duplicate": self.duplicate,
            "refused": self.refused,
            "rejects_by_rule": {name: {**rules} for name, rules in self.rejects_by_rule.items()},
            "without_plan": self.without_plan,
            "omitted": self.omitted,
            "unwritten": self.unwritten,
            "requests": self.requests,
            "retries": self.retries,
            "throttled_seconds": round(self.throttled_seconds, 3),
            "seconds": round(self.seconds, 3),
            "stopped_because": self.stopped_because,
            "rejects_path": self.rejects_path,
            **({"sync": dict(self.sync)} if self.sync else {}),
            **({"is_dry_run": True} if self.is_dry_run else {}),
            "unsubscribed_path": self.unsubscribed_path,
            **({"receipt": self.receipt.as_dict()} if self.receipt else {}),
            "sample": dict(self.sample),
        }

    def _sync_counts(self) -> dict[str, int]:
        names = (
            *("new", "changed", "resent", "unchanged", "withheld"),
            *("would_unsubscribe", "unsubscribed", "missing"),
            *("missing_unsubscribed", "missing_had_plan", "missing_withheld", "missing_unsettled"),
        )
        return {name: getattr(self, name) for name in names}

    def counts(self) -> dict[str, int | float]:
        """Return the numbers alone."""
        counts = self.as_dict().items()
        return {name: value for name, value in counts if type(value) in (int, float)}

    def as_text(self) -> str:
        """Return lines to read: counts, and where the reports are."""
        lines = [f"  {name:<20} {value:>13,}" for name, value in self.counts().items()]
        for name in ("stopped_because", "rejects_path", "unsubscribed_path"):
            if text := getattr(self, name):
                lines.append(f"  {name:<20} {text}")
        return "\n".join(lines)

    def unsubscribed_as_text(self) -> str | None:
        """Return a sentence about the members that lost their plan; None if there are none."""
        if not self.unsubscribed:
            return None
        members = counted(self.unsubscribed, "member")
        verb = "would lose" if self.is_dry_run else "lost"
        without = self.unsubscribed - self.missing_had_plan
        return (
            f"{members} {verb} their plan: {without:,} by a record without one, "
            f"{self.missing_had_plan:,} because they left the source."
        )

    def __str__(self) -> str:
        return (
            f"{self.upserted:,} upserted, {self.unsettled:,} unsettled, {self.rejected:,} rejected"
        )
