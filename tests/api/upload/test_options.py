import re
import time
from datetime import UTC, datetime, timedelta

import pendulum
import pytest

from airflow_provider_mediquo.api.upload.options import UploadOptions, as_of_microseconds, is_within


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_rejects": -1},
        {"max_rejects": 1.0},
        {"max_rejects": -0.1},
        {"max_rejects": True},
        {"max_rejects": "0"},
        {"max_rejects": None},
        {"max_rejects": float("nan")},
        {"max_without_plan": -1},
        {"max_without_plan": 1.5},
        {"max_without_plan": "all"},
        {"max_without_plan": False},
        {"chunk_size": 0},
        {"chunk_size": 101},
        {"chunk_size": 1.0},
        {"chunk_size": True},
        {"max_in_flight": 0},
        {"max_in_flight": 1000},
        {"columns": {"a": "member_id"}},
        {"columns": ["code"]},
        {"columns": {"a": 7}},
        {"columns": {"a": "code", "b": "code"}},
        {"rejects_path": 7},
        {"transform": "lower"},
        {"min_records": -1},
    ],
)
def test_an_option_that_makes_no_sense_is_refused_by_name(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        UploadOptions(**wrong)


def test_limits_are_numbers_or_shares():
    assert is_within(0, 0, 100)
    assert not is_within(0, 1, 100)
    assert is_within(5, 5, 1)
    assert is_within(0.1, 10, 100)
    assert not is_within(0.1, 11, 100)
    assert is_within(0.29, 29, 100), "as it was written: 0.29 * 100 is less than 29"
    assert is_within(0.0, 0, 0)
    assert is_within(None, 100, 100)


def test_columns_rename_and_drop():
    options = UploadOptions(columns={"member_id": "code", "born": "birthdate", "internal": None})
    record = {"member_id": 1, "born": "1980-01-01", "internal": object(), "plan": "x"}
    assert options.rename(record) == ({"code": 1, "birthdate": "1980-01-01", "plan": "x"}, {})


def test_columns_may_swap_names():
    options = UploadOptions(columns={"first_name": "last_name", "last_name": "first_name"})
    record = {"first_name": "Lovelace", "last_name": "Ada"}
    assert options.rename(record) == ({"first_name": "Ada", "last_name": "Lovelace"}, {})


def test_two_columns_that_become_one_are_a_problem():
    options = UploadOptions(columns={"member_id": "code"})
    assert options.rename({"member_id": 1, "code": 2})[1] == {"code": "twice"}
    assert options.rename({"code": 2, "member_id": 1})[1] == {"code": "twice"}


@pytest.mark.parametrize("name", ["omit_invalid", "dry_run", "unsubscribed_report"])
@pytest.mark.parametrize("value", ["False", "{{ params.x }}", 0, None])
def test_what_is_true_or_false_is_no_text(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be True or False"):
        UploadOptions(rejects_path="folder", **{name: value})


def test_what_is_no_mapping_is_left_to_the_schema():
    assert UploadOptions(columns={"a": "code"}).rename([1]) == ([1], {})


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"state_conn_id": " "}, "`state_conn_id` must be text that is not blank"),
        ({"state_conn_id": 7}, "`state_conn_id` must be text that is not blank"),
        ({"state_conn_id": "s", "sync_name": ""}, "`sync_name` must be text that is not blank"),
        (
            {"state_conn_id": "s", "sync_name": "n" * 251},
            "`sync_name` must have at most 250 characters",
        ),
        ({"state_conn_id": "s", "on_missing": "delete"}, "must be 'keep' or 'unsubscribe'"),
        ({"state_conn_id": "s", "max_unsubscribed": 1.0}, "`max_unsubscribed` must be a count"),
        ({"state_conn_id": "s", "max_unsubscribed": -1}, "`max_unsubscribed` must be a count"),
        ({"state_conn_id": "s", "resend_after": 30}, "must be a timedelta of 0 or more"),
        ({"resend_after": timedelta(days=-1)}, "must be a timedelta of 0 or more"),
        ({"state_conn_id": "s", "as_of": "yesterday"}, "`as_of` must be a time in ISO 8601"),
        ({"state_conn_id": "s", "as_of": "0001-01-01T00:00:00+01:00"}, "`as_of` must be a time in"),
        ({"state_conn_id": "s", "as_of": 1_790_000_000}, "`as_of` must be a time in ISO 8601"),
        ({"sync_name": "members"}, "`sync_name` needs a state: set `state_conn_id`"),
        ({"as_of": "2026-11-29"}, "`as_of` needs a state: set `state_conn_id`"),
        ({"on_missing": "unsubscribe"}, "`on_missing` needs a state: set `state_conn_id`"),
    ],
)
def test_wrong_options_of_a_state_are_named(options, problem):
    with pytest.raises(ValueError, match=re.escape(problem)):
        UploadOptions(**options)


@pytest.mark.parametrize(
    ("as_of", "same"),
    [
        ("2026-11-29", datetime(2026, 11, 29, tzinfo=UTC)),
        (" 2026-11-29T01:00:00+01:00 ", datetime(2026, 11, 29, tzinfo=UTC)),
        ("2026-11-29 00:00:00.000001+00:00", datetime(2026, 11, 29, microsecond=1, tzinfo=UTC)),
        (datetime(2026, 11, 29), datetime(2026, 11, 29, tzinfo=UTC)),
        # Airflow's own times.
        (pendulum.datetime(2026, 11, 29), datetime(2026, 11, 29, tzinfo=UTC)),
        (pendulum.naive(2026, 11, 29), datetime(2026, 11, 29, tzinfo=UTC)),
        (
            pendulum.datetime(2026, 11, 29, 1, microsecond=1, tz="Europe/Madrid"),
            datetime(2026, 11, 29, microsecond=1, tzinfo=UTC),
        ),
    ],
)
def test_a_time_is_taken_as_text_or_as_a_datetime(as_of, same):
    assert as_of_microseconds(as_of) == round(same.timestamp() * 1e6)
    assert as_of_microseconds(None) is None


@pytest.fixture
def far_from_utc(monkeypatch):
    """Let this process be in another time zone."""
    monkeypatch.setenv("TZ", "<local>-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_from_utc")
@pytest.mark.parametrize("as_of", ["2026-11-29", "2026-11-29 00:00", datetime(2026, 11, 29)])
def test_a_time_without_a_zone_is_in_utc_wherever_the_worker_is(as_of):
    midnight = datetime(2026, 11, 29, tzinfo=UTC)
    assert as_of_microseconds(as_of) == round(midnight.timestamp() * 1e6)
