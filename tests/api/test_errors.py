import inspect
import pickle

import pytest

from airflow_provider_mediquo.api import errors
from airflow_provider_mediquo.api.client.settings import Settings
from airflow_provider_mediquo.api.patients import endpoints
from airflow_provider_mediquo.api.report import Rejection, UploadReport

ALL = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, errors.MediquoError)
]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_survives_pickling(kind):
    report = UploadReport(read=3, upserted=2, invalid=1, sample={"m-1": "proof"})
    error = kind("What happened.", status=503, report=report)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == "What happened."
    assert (again.status, again.report) == (503, report)


def test_the_attributes_of_single_errors_survive_pickling():
    rejection = Rejection(7, "m-7", "schema", {"email": "email"})
    error = errors.InvalidPatientsError("x", rejections=(rejection,))
    assert pickle.loads(pickle.dumps(error)).rejections == (rejection,)
    limited = errors.RateLimitedError("x", retry_after=7.0, is_final=False)
    again = pickle.loads(pickle.dumps(limited))
    assert (again.retry_after, again.is_final, again.status) == (7.0, False, 429)
    assert pickle.loads(pickle.dumps(errors.ServerError("x", retry_after=3.0))).retry_after == 3.0


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.AuthenticationError, PermissionError),
        (errors.ConnectionSettingsError, ValueError),
        (errors.InvalidPatientsError, ValueError),
        (errors.RejectedRequestError, ValueError),
        (errors.PatientNotFoundError, LookupError),
        (errors.UnreachableError, ConnectionError),
    ],
)
def test_an_error_is_also_the_builtin_it_resembles(kind, builtin):
    assert issubclass(kind, builtin)


def test_errors_that_a_retry_cannot_fix_say_so():
    final = {error.__name__ for error in ALL if not error.can_retry}
    assert final == {
        "AuthenticationError",
        "ConnectionSettingsError",
        "InvalidPatientsError",
        "TooManyRejectsError",
        "UnsubscribeLimitError",
        "RejectedRequestError",
        "AuditError",
        "StateMismatchError",
    }


def test_the_tree_in_the_docstring_names_every_error():
    assert [name for name in (e.__name__ for e in ALL) if name not in str(errors.__doc__)] == []


def test_neither_keys_nor_token_nor_body_show_in_a_repr():
    settings = Settings(api_key="canaryinamine-1", secret_key="canaryinamine-2")
    token = endpoints.AccessToken("canaryinamine-3", "Bearer")
    operation = endpoints.upsert([b'{"code": "m-1", "first_name": "canaryinamine-4"}'])
    for value in (settings, token, operation):
        assert "canaryinamine" not in repr(value)
        assert "canaryinamine" not in str(value)
        assert "canaryinamine" not in f"{[value]}"
        assert pickle.loads(pickle.dumps(value)) == value


def test_operations_survive_pickling():
    for operation in (endpoints.get("m-1"), endpoints.authenticate("m-1"), endpoints.upsert([])):
        assert pickle.loads(pickle.dumps(operation)) == operation
