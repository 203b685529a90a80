"""What an upload did and what it cost, in counts that add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_mediquo.api.records import SourceLocation


@dataclass(frozen=True)
class Rejection:
    """A record that was not accepted, without any of its values.

    :param row: its position in the source, from 1.
    :param code: None if the code itself is invalid.
    :param refused_by: `schema`, `duplicate`, `mediquo`; or `unsettled`: there was no final answer,
        and the next run sends it again; or `omitted`: it was sent without these fields.
    :param problems: field -> rule (see `fields.RULES`).
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
class UploadReport:
    """The ledger: `read = upserted + skipped + rejected + unsettled`, always.

    :param read: records that came from the source.
    :param upserted: records that mediQuo accepted.
    :param skipped: records that `transform` left out.
    :param invalid: records that break a rule of the schema.
    :param duplicate: records whose code came before in this run.
    :param refused: records that mediQuo refused.
    :param without_plan: upserted records without a plan, whose patients are unsubscribed now.
    :param omitted: valid records without an invalid field that was left out.
    :param requests: requests sent, including retries.
    :param retries: attempts that repeat one without an answer; a 429 is not an attempt.
    :param throttled_seconds: how long nothing could be sent because of the rate limit.
    :param seconds: duration of the whole run.
    :param stopped_because: why the run ended early; None if every record was tried.
    :param rejects_path: the reject report, which also lists the unsettled records, if there is one.
    :param sample: code -> proof of what was written, for 20 of the upserted records.
    """

    read: int = 0
    upserted: int = 0
    skipped: int = 0
    invalid: int = 0
    duplicate: int = 0
    refused: int = 0
    without_plan: int = 0
    omitted: int = 0
    requests: int = 0
    retries: int = 0
    throttled_seconds: float = 0.0
    seconds: float = 0.0
    stopped_because: str | None = None
    rejects_path: str | None = None
    sample: dict[str, str] = field(default_factory=dict)

    @property
    def rejected(self) -> int:
        """Records that are invalid, duplicates, or refused by mediQuo."""
        return self.invalid + self.duplicate + self.refused

    @property
    def unsettled(self) -> int:
        """Records that are not confirmed: not sent, or no final answer."""
        return self.read - self.upserted - self.skipped - self.rejected

    def as_dict(self) -> dict[str, Any]:
        """Return the ledger as an upsert operator returns it."""
        return {
            "read": self.read,
            "upserted": self.upserted,
            "skipped": self.skipped,
            "rejected": self.rejected,
            "unsettled": self.unsettled,
            "invalid": self.invalid,
            "duplicate": self.duplicate,
            "refused": self.refused,
            "without_plan": self.without_plan,
            "omitted": self.omitted,
            "requests": self.requests,
            "retries": self.retries,
            "throttled_seconds": round(self.throttled_seconds, 3),
            "seconds": round(self.seconds, 3),
            "stopped_because": self.stopped_because,
            "rejects_path": self.rejects_path,
            "sample": dict(self.sample),
        }

    def counts(self) -> dict[str, int | float]:
        """Return the numbers alone."""
        return {
            name: value for name, value in self.as_dict().items() if isinstance(value, int | float)
        }

    def as_text(self) -> str:
        """Return lines to read: counts, and where the reject report is."""
        lines = [f"  {name:<17} {value:>13,}" for name, value in self.counts().items()]
        for name in ("stopped_because", "rejects_path"):
            if text := getattr(self, name):
                lines.append(f"  {name:<17} {text}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return (
            f"{self.upserted:,} upserted, {self.unsettled:,} unsettled, {self.rejected:,} rejected"
        )
