"""Every way a call to mediQuo can fail, named by what the caller can do about it.

MediquoError
├── AuthenticationError (PermissionError)     401, 403: fix the keys of the connection
├── ConnectionSettingsError (ValueError)      fix the other fields of the connection
├── InvalidPatientsError (ValueError)         fix these records: row, code, field, rule
├── TooManyRejectsError                       fix the rejected records, or raise `max_rejects`
├── UnsubscribeLimitError                     map the plan, or set `max_without_plan`
├── RejectedRequestError (ValueError)         400, 413, 422: fix the data
├── PatientNotFoundError (LookupError)        no such patient (yet): wait, then try again
├── RateLimitedError                          429 for too long: try again later
├── ServerError                               5xx, or an answer that cannot be read: try again
├── UnreachableError (ConnectionError)        no answer: try again
├── SourceError                               the database or the files failed: try again
└── StoppedError                              the task was killed: run it again

No error holds a patient's value, a key or a token: at most codes, names of fields and rules.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from airflow_provider_mediquo.api.report import Rejection, UploadReport


class MediquoError(Exception):
    """Whatever went wrong between here and mediQuo.

    :param status: the HTTP status of the answer that caused it, where one did.
    :param report: the ledger of the upload that it ended, where it ended one.
    """

    can_retry: ClassVar[bool] = True
    """Whether the same call may succeed later without anybody changing anything."""

    def __init__(
        self, message: str, *, status: int | None = None, report: UploadReport | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception pickles its positional arguments only.
        return (self.__class__, self.args, self.__dict__)


class AuthenticationError(MediquoError, PermissionError):
    """mediQuo does not accept the keys (401), or they may not do this (403)."""

    can_retry = False


class ConnectionSettingsError(MediquoError, ValueError):
    """The connection cannot work as it is set up, or does not lead to mediQuo's API."""

    can_retry = False


class InvalidPatientsError(MediquoError, ValueError):
    """Records that the schema or a rule of the upload refuses.

    :param rejections: which ones: row, code, and field -> rule.
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
    """More records were rejected than `max_rejects` allows; the good ones were sent."""

    can_retry = False


class UnsubscribeLimitError(MediquoError):
    """More patients than allowed would have been sent without a plan; those were not sent."""

    can_retry = False


class RejectedRequestError(MediquoError, ValueError):
    """mediQuo refuses this request (400, 413, 422); nothing of it was stored.

    :param named: what its answer blames, if anything: the record's place in the request, from 0,
        -> names of its fields. It may be wrong.
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
    """mediQuo shows no patient with this code, or does not show it yet."""


class RateLimitedError(MediquoError):
    """mediQuo answered 429 for ten minutes, or asked for a pause longer than that.

    :param retry_after: seconds that mediQuo asked to wait.
    :param is_final: whether waiting is over: sending again now would only be refused again.
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
    """mediQuo's side failed (5xx), or what it answered cannot be read.

    :param retry_after: seconds that mediQuo asked to wait, 0 if it did not.
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
    """No answer came: the host is down or unknown, the connection broke, or time ran out."""


class SourceError(MediquoError):
    """Where the records come from cannot be read (any further)."""


class StoppedError(MediquoError):
    """The task was killed, or its upload stopped, before this request had its answer."""
