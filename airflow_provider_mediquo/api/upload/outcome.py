"""How an upload ended: no error, or the one that says what to do."""

from __future__ import annotations

import copy
import logging
from contextlib import suppress
from dataclasses import dataclass

from airflow_provider_mediquo.api import errors
from airflow_provider_mediquo.api.errors import (
    InvalidPatientsError,
    MediquoError,
    TooManyRejectsError,
    UnsubscribeLimitError,
)
from airflow_provider_mediquo.api.report import UploadReport
from airflow_provider_mediquo.api.text import counted
from airflow_provider_mediquo.api.upload.ledger import Ledger
from airflow_provider_mediquo.api.upload.options import is_within
from airflow_provider_mediquo.api.upload.reject_log import SHOWN

log = logging.getLogger(__name__)

AGAIN = "Safe to run again."
_SHOWN_KINDS = 5

_SUMMARIES: tuple[tuple[type[MediquoError], str, str], ...] = (
    (errors.AuthenticationError, "keys not accepted", "Fix the connection."),
    (errors.ConnectionSettingsError, "invalid connection", "Fix the connection."),
    (errors.InvalidPatientsError, "invalid source", "Fix the source."),
    (errors.UnsubscribeLimitError, "too many without a plan", "Check the plans."),
    (errors.RejectedRequestError, "data refused", "Fix the data."),
    (errors.RateLimitedError, "rate limited", AGAIN),
    (errors.ServerError, "mediQuo is failing", AGAIN),
    (errors.UnreachableError, "mediQuo not reachable", AGAIN),
    (errors.SourceError, "source missing or incomplete", AGAIN),
    (errors.StateMismatchError, "state does not fit", "Check the state."),
    (errors.StateError, "state not usable", AGAIN),
    (errors.StoppedError, "the task was killed", AGAIN),
)


@dataclass(frozen=True)
class RunOutcome:
    """What is known at the end of a run.

    :param stopped_by: what ended the run early.
    :param withheld: why some members kept their plan.
    :param unanswered: the last error of the requests whose attempts were used up.
    """

    ledger: Ledger
    max_rejects: float
    stopped_by: MediquoError | None
    unanswered: MediquoError | None
    unanswered_count: int
    withheld: UnsubscribeLimitError | None = None

    def error(self) -> MediquoError | None:
        """Return the error of this run; first the one that a retry may cure."""
        if self.stopped_by:
            what, advice = _summary(self.stopped_by)
            return self._like(self.stopped_by, f"Stopped: {what}.", advice)
        if self.unanswered:
            what = f"{counted(self.unanswered_count, 'request')} without a final answer."
            return self._like(self.unanswered, what, AGAIN)
        report = self.ledger.report
        if report.unsettled:  # whatever it was: green means that nothing is left
            what = f"{counted(report.unsettled, 'record')} not sent, or without a final answer."
            return MediquoError(self._text(what, AGAIN, "The upload was stopped."), report=report)
        if self.ledger.lost_plans:
            return self._lost_plans()
        if report.missing_unsettled:
            members = counted(report.missing_unsettled, "member")
            what = f"{members} missing, without a final answer."
            details = "They keep their plan until the next run."
            return MediquoError(self._text(what, AGAIN, details), report=report)
        if self.withheld and not report.is_dry_run:
            return self._like(self.withheld, "Withheld: too many would lose their plan.", "")
        if is_within(self.max_rejects, report.rejected, report.read):
            return None
        what = f"More rejects than `max_rejects` ({self.max_rejects})."
        details = "Correct them at their source, or raise `max_rejects`. Valid records were sent."
        text = self._text(what, "", details)
        return TooManyRejectsError(text, report=report, status=self.ledger.stats.last_bad_status)

    def _lost_plans(self) -> InvalidPatientsError:
        count = self.ledger.lost_plan_count
        what = f"{counted(count, 'plan')} lost to another record of the same code."
        details = (
            f"{counted(count, 'code')} with a plan in one record, but not in the first valid one.\nIf "
            "that one was accepted, the patient is unsubscribed now. Give each code once, then run again."
        )
        return InvalidPatientsError(
            self._text(what, "", details),
            report=self.ledger.report,
            rejections=tuple(self.ledger.lost_plans),
        )

    def _like(self, error: MediquoError, what: str, advice: str) -> MediquoError:
        ended = copy.copy(error)
        ended.args = (self._text(what, advice, str(error)),)
        ended.report = self.ledger.report
        return ended

    def _text(self, what: str, advice: str, details: str) -> str:
        report, status = self.ledger.report, self.ledger.stats.last_bad_status
        lines = [f"{what} {report}. {advice}".rstrip()]
        if details not in what:
            lines.append(details)
        if kinds := self.problems():
            lines.append(f"Most frequent: {kinds}.")
        if report.rejects_path:
            lines.append(f"Reject report: {report.rejects_path}")
        if report.unwritten:
            lines.append(
                f"{counted(report.unwritten, 'line')} could not be written there; see the log above."
            )
        if report.rejected and self.ledger.is_logged:
            lines.append(
                f"The first {SHOWN} rejects are in the log above; set `rejects_path` to keep all."
            )
        if status:
            lines.append(f"Last HTTP error status: {status}.")
        return "\n".join(lines)

    def log_rejects(self, warn_rejects: float | None) -> None:
        """Log the rejects of a run that succeeded, as a warning if there are more than this."""
        report, kinds = self.ledger.report, self.problems()
        most = ", most frequent" if len(self.ledger.problems) > _SHOWN_KINDS else ""
        what = f"{report.rejected:,} rejected{most}: {kinds}."
        if warn_rejects is not None and not is_within(warn_rejects, report.rejected, report.read):
            log.warning("More rejects than `warn_rejects` (%s). %s", warn_rejects, what)
        elif kinds:
            log.log(logging.WARNING if warn_rejects is None else logging.INFO, "%s", what)

    def problems(self) -> str:
        """Return the most frequent field and rule pairs of the rejects."""
        counts = self.ledger.problems.most_common()
        return "; ".join(f"{kind} ({count:,})" for kind, count in counts[:_SHOWN_KINDS])


def add_ledger(error: BaseException, report: UploadReport) -> None:
    """Set the ledger as the `report` of an error; one that is not ours also says how the run ended."""
    with suppress(Exception):  # it may allow no such attribute
        if not isinstance(error, MediquoError):
            error.add_note(f"The upload ended with {report}. {AGAIN}")
        error.report = report  # type: ignore[attr-defined]  # as a MediquoError has it


def _summary(error: MediquoError) -> tuple[str, str]:
    what, advice = next(
        ((what, advice) for kind, what, advice in _SUMMARIES if isinstance(error, kind)),
        ("error", AGAIN),
    )
    return (f"{what} ({error.status})" if error.status else what), advice
