"""How an upload ended: no error, or the one that says what to do."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_provider_mediquo.api.errors import (
    InvalidPatientsError,
    MediquoError,
    TooManyRejectsError,
)
from airflow_provider_mediquo.api.report import Rejection, UploadReport
from airflow_provider_mediquo.api.upload.options import is_within

AGAIN = "Safe to run again."


@dataclass(frozen=True)
class RunOutcome:
    """All that a verdict is made of.

    :param stopped_by: what ended the run early.
    :param unanswered: the last error of the chunks whose attempts were used up.
    :param lost_plans: records with a plan, whose code went out without one; the first of them.
    :param kinds: how often each problem was found.
    """

    report: UploadReport
    max_rejects: float
    stopped_by: MediquoError | None
    unanswered: MediquoError | None
    unanswered_chunks: int
    lost_plans: Sequence[Rejection]
    lost_plan_count: int
    kinds: Counter[str]
    last_status: int | None


def verdict(end: RunOutcome) -> MediquoError | None:
    """Return the error of this ending, the one that a retry may heal first."""
    report = end.report
    if end.stopped_by:
        return _like(end.stopped_by, f"Stopped: {end.stopped_by}", end)
    if end.unanswered:
        chunks = f"{end.unanswered_chunks:,} request{'s' * (end.unanswered_chunks > 1)}"
        return _like(end.unanswered, f"{chunks} had no final answer: {end.unanswered}", end)
    if end.lost_plans:
        what = (
            "Records with a plan, of a code that went out without one, which unsubscribes: "
            f"{end.lost_plan_count:,}. Give each code once."
        )
        return InvalidPatientsError(
            _text(what, end), report=report, rejections=tuple(end.lost_plans)
        )
    if not is_within(end.max_rejects, report.rejected, report.read):
        what = (
            f"{report.rejected:,} of {report.read:,} records were rejected, more than "
            f"`max_rejects` ({end.max_rejects}) allows. Correct them at their source, or raise it."
        )
        return TooManyRejectsError(_text(what, end), report=report, status=end.last_status)
    return None


def _like(error: MediquoError, what: str, end: RunOutcome) -> MediquoError:
    ended = copy.copy(error)
    ended.args, ended.report = (_text(what, end),), end.report
    return ended


def _text(what: str, end: RunOutcome) -> str:
    lines = [f"{what} {end.report}. {AGAIN}"]
    kinds = [each for each in end.kinds.most_common() if not each[0].startswith("unsettled")]
    if kinds:
        common = "; ".join(f"{kind} ({count:,})" for kind, count in kinds[:5])
        lines.append(f"Most frequent: {common}.")
    if end.report.rejects_path:
        lines.append(f"Written down, a line a record: {end.report.rejects_path}")
    elif end.kinds:
        lines.append(
            "They are in the log above, the first 20 rejects of them; `rejects_path` keeps all."
        )
    if end.last_status:
        lines.append(f"Last status other than success: {end.last_status}.")
    return "\n".join(lines)
