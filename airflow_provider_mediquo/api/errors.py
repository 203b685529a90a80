"""All errors, named by what the caller can do.

MediquoError
├── AuthenticationError (PermissionError)     401, 403: fix the connection's keys
├── ConnectionSettingsError (ValueError)      fix the other fields of the connection
├── InvalidPatientsError (ValueError)         fix these records: row, code, field, rule
├── TooManyRejectsError                       fix the rejected records, or raise `max_rejects`
├── UnsubscribeLimitError                     map the plan, or raise `max_without_plan` or
│                                             `max_unsubscribed`
├── RejectedRequestError (ValueError)         400, 409, 413, 422: fix the data
├── PatientNotFoundError (LookupError)        no such patient (yet): wait, then try again
├── RateLimitedError                          429 for too long: try again later
├── ServerError                               5xx, or an unreadable answer: try again
├── UnreachableError (ConnectionError)        no answer: try again
├── SourceError                               the database or a file cannot be read: try again
├── AuditError                                mediQuo is not as it was sent: run the sync again
├── StateError                                the state cannot be used now: try again later
│   └── StateMismatchError                    the state is of another version, or newer than the source
└── StoppedError                              the task was killed: run it again

No error contains patient data, keys or tokens; only codes, field names and rules.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from airflow_provider_mediquo.api.report import Rejection, UploadReport


class MediquoError(Exception):
    """The base class of all errors.

    :param status: the HTTP status of the answer that caused the error, if any.
    :param report: the ledger of the upload that the error ended, if any.
    """

    can_retry: ClassVar[bool] = True
    """Whether the same call may succeed later without any change."""

    def __init__(
        self, message: str, *, status: int | None = None, report: UploadReport | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.report = report

    def as_line(self) -> str:
        """Return the message without its line breaks, for logs and counts."""
        return str(self).replace("\n", " ")

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception pickles its positional arguments only.
        return (self.__class__, self.args, self.__dict__)


class AuthenticationError(MediquoError, PermissionError):
    """Invalid keys (401), or keys without the permission (403)."""

    can_retry = False


class ConnectionSettingsError(MediquoError, ValueError):
    """The connection is invalid, or does not lead to mediQuo's API."""

    can_retry = False


class InvalidPatientsError(MediquoError, ValueError):
    """Records or columns that break the schema or a rule of the upload.

    :param rejections: the invalid records: row, code, and field -> rule.
    """

    can_retry = False

    def __init__(
        self,
        message: str,
        *,
        rejections: tuple[Rejection, ...] = (),
        status: int | None = None,
        report: UploadReport | None = None,
    ) -> None:
        super().__init__(message, status=status, report=report)
        self.rejections = rejections


class TooManyRejectsError(MediquoError):
    """More records were rejected than `max_rejects` allows; the valid ones were sent."""

    can_retry = False


class UnsubscribeLimitError(MediquoError):
    """More patients would lose their plan than `max_without_plan` or `max_unsubscribed` allows; these
    were not sent.
    """

    can_retry = False


class RejectedRequestError(MediquoError, ValueError):
    """mediQuo refuses the request (400, 409, 413, 422). It stored nothing of it, except maybe with 409.

    :param named: the invalid records that the answer names, which may be wrong: position in the
        request, from 0 -> names of fields.
    """

    can_retry = False

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        report: UploadReport | None = None,
        named: Mapping[int, Collection[str]] | None = None,
    ) -> None:
        super().__init__(message, status=status, report=report)
        self.named = named or {}


class PatientNotFoundError(MediquoError, LookupError):
    """mediQuo has no patient with this code, or does not show it yet."""


class RateLimitedError(MediquoError):
    """mediQuo answered 429, or the rate limit allows no request yet (`status` is None then: nothing was
    sent).

    :param retry_after: seconds that mediQuo asked to wait.
    :param is_final: whether to give up instead of waiting.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = 429,
        report: UploadReport | None = None,
        retry_after: float = 60.0,
        is_final: bool = True,
    ) -> None:
        super().__init__(message, status=status, report=report)
        self.retry_after = retry_after
        self.is_final = is_final


class ServerError(MediquoError):
    """mediQuo had a server error (5xx), or its answer cannot be read.

    :param retry_after: seconds that mediQuo asked to wait, 0 if none.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        report: UploadReport | None = None,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(message, status=status, report=report)
        self.retry_after = retry_after


class UnreachableError(MediquoError, ConnectionError):
    """No answer: the host is down or unknown, the connection broke, or the timeout passed."""


class SourceError(MediquoError):
    """The source of the records cannot be read any further."""


class AuditError(MediquoError):
    """More members than `max_wrong` are not in mediQuo as they were sent; the next run sends them."""

    can_retry = False


class StateError(MediquoError):
    """The state cannot be read or written, or another run of the same sync uses it."""


class StateMismatchError(StateError):
    """The state is of another version, or of newer data than the source."""

    can_retry = False


class StoppedError(MediquoError):
    """The task was killed, or its upload stopped, before the request had an answer."""
