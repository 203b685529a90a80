import re
import time
from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mediquo.api.client.request import (
    RawResponse,
    read_result,
    retry_after,
    sent_at,
)
from airflow_provider_mediquo.api.errors import (
    AuthenticationError,
    ConnectionSettingsError,
    RejectedRequestError,
    ServerError,
)
from airflow_provider_mediquo.api.patients.endpoints import get, upsert

NOW = 1_700_000_000


def received(status: int = 200, body: bytes = b"{}", **headers: str) -> RawResponse:
    return RawResponse(status, {n.replace("_", "-"): v for n, v in headers.items()}, body)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RejectedRequestError),
        (409, RejectedRequestError),
        (413, RejectedRequestError),
        (422, RejectedRequestError),
        (401, AuthenticationError),
        (403, AuthenticationError),
        (404, ConnectionSettingsError),
        (405, ConnectionSettingsError),
        (301, ConnectionSettingsError),
        (304, ConnectionSettingsError),
        (408, ServerError),
        (500, ServerError),
        (502, ServerError),
        (503, ServerError),
        (504, ServerError),
        (599, ServerError),
    ],
)
def test_an_error_is_named_by_what_the_caller_can_do(status, kind):
    with pytest.raises(kind) as caught:
        read_result(upsert([]), received(status, b'{"message": "canaryinamine"}'))
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert str(status) in str(caught.value)
    assert "canaryinamine" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "end"),
    [
        (422, "it refuses the data, and stored nothing of this request."),
        (409, "it refuses the data."),
    ],
)
def test_a_409_may_be_that_of_a_proxy_and_does_not_say_what_was_stored(status, end):
    with pytest.raises(RejectedRequestError, match=re.escape(f"to PUT patients: {end}")):
        read_result(upsert([]), received(status))


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"\xff\xfe", b"[" * 100_000, b'{"a": ' + b"9" * 5000]
)
def test_a_200_that_is_no_json_is_an_answer_that_was_lost(body):
    with pytest.raises(ServerError) as caught:
        read_result(get("m-1"), received(200, body))
    assert caught.value.status == 200
    assert caught.value.__context__ is None


@pytest.mark.parametrize("status", [300, 302, 307, 399])
def test_a_redirect_is_no_success_whatever_its_body_says(status):
    with pytest.raises(ConnectionSettingsError):
        read_result(upsert([]), received(status, b'{"message": "Success"}'))


@pytest.mark.parametrize("status", [408, 500, 503])
def test_a_failure_may_ask_for_a_minute_and_no_more(status):
    for asked, seconds in (("60", 60.0), ("61", 60.0), ("86400", 60.0)):
        with pytest.raises(ServerError) as caught:
            read_result(upsert([]), received(status, Retry_After=asked))
        assert caught.value.retry_after == seconds


def test_a_204_is_no_documented_answer():
    with pytest.raises(ServerError):
        read_result(upsert([]), received(204, b""))


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("3600", 3600.0),
        (formatdate(NOW + 7, usegmt=True), 7.0),
        (formatdate(NOW - 7, usegmt=True), 0.0),
        ("", None),
        ("soon", None),
        ("-7", None),
        ("1.5", None),
        ("\u0667", None),
        ("9" * 30, 3600.0),
        ("3601", 3600.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
        ("9" * 300, None),
    ],
)
def test_retry_after_is_seconds_or_a_date_by_the_servers_own_clock(asked, seconds):
    headers = {"Retry_After": asked, "Date": formatdate(NOW, usegmt=True)}
    assert retry_after(received(429, **headers)) == seconds


def test_retry_after_as_a_date_of_a_server_without_a_clock_goes_by_our_own():
    asked = formatdate(time.time() + 100, usegmt=True)
    assert 90 < (retry_after(received(429, Retry_After=asked)) or 0) <= 101


def test_the_time_of_a_request_is_the_servers_and_never_late():
    date = formatdate(NOW, usegmt=True)
    assert sent_at(received(Date=date), 0.0) == NOW
    assert sent_at(received(Date=date), 0.01) == NOW - 1
    assert sent_at(received(Date=date), 2.5) == NOW - 3
    assert sent_at(received(), 2.5) is None
    assert sent_at(received(Date="yesterday"), 2.5) is None


@settings(deadline=None, database=None, derandomize=True, max_examples=200)
@given(
    st.text(max_size=40)
    | st.from_regex(r"\A[A-Z][a-z]{2}, [0-9]{1,3} [A-Z][a-z]{2} [0-9]{1,6} [0-9:]{3,9} .{0,6}\Z"),
    st.sampled_from(["", "nonsense", "Tue, 14 Nov 2023 22:13:20 GMT"]),
)
def test_any_text_in_a_header_is_a_time_or_nothing(text, date):
    found = retry_after(received(429, Retry_After=text, Date=date))
    assert found is None or found >= 0
    sent_at(received(Date=text), 1.0)
