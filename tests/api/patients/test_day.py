"""Which day a date, a datetime or a text means."""

import datetime as dt
import time

import pendulum
import pytest

MADRID = dt.timezone(dt.timedelta(hours=1))


@pytest.mark.parametrize(
    "day",
    [
        "1980-02-29",
        " 1980-02-29\n",
        "1980-02-29 00:00",
        "1980-02-29 00:00:00",
        "1980-02-29T00:00:00",
        "1980-02-29 00:00:00.000",
        "1980-02-29 00:00:00,0000000",
        "1980-02-29T00:00:00Z",
        "1980-02-29 00:00:00+01",
        "1980-02-29 00:00:00 UTC",
        dt.date(1980, 2, 29),
        dt.datetime(1980, 2, 29),
        dt.datetime(1980, 2, 29, tzinfo=dt.timezone(dt.timedelta(hours=14))),
        pendulum.date(1980, 2, 29),
        pendulum.datetime(1980, 2, 29),
    ],
)
def test_a_day_is_a_date_or_the_midnight_that_begins_it(sent, day):
    assert sent("birth_date", day) == "1980-02-29"


@pytest.mark.parametrize("hour", [1, 12, 23])
def test_another_time_may_mean_another_day(rule, hour):
    for day in (
        dt.datetime(1980, 2, 29, hour),
        dt.datetime(1980, 2, 29, hour, tzinfo=MADRID),
        pendulum.datetime(1980, 2, 29, hour),
        f"1980-02-29 {hour:02}:00:00",
        f"1980-02-29T{hour:02}:00",
        f"1980-02-29T{hour:02}:00:00.000Z",
        f"1980-02-29 {hour:02}:00:00+0100",
    ):
        assert rule("birth_date", day) == "zone"


def test_a_second_or_less_after_midnight_is_another_time(rule):
    assert rule("birth_date", dt.datetime(1980, 2, 29, microsecond=1)) == "zone"
    assert rule("birth_date", "1980-02-29 00:00:00.001") == "zone"


@pytest.mark.parametrize(
    "day",
    [
        "1981-02-29",
        "1981-02-29 00:00:00",
        "1980-2-9",
        "19800229",
        "29/02/1980",
        "1980-02-29T",
        "1980-02-29 midnight",
        "1980-13-01",
        "0000-00-00",
        "0000-00-00 00:00:00",
        "\u0661\u0669\u0668\u0660-\u0660\u0661-\u0660\u0661",
        "NULL",
        r"\N",
        19800229,
        True,
        b"1980-02-29",
    ],
)
def test_anything_else_is_no_day(rule, day):
    assert rule("birth_date", day) == "date"


@pytest.mark.parametrize("year", [1, 1753, 1899])
def test_a_day_before_1900_is_a_placeholder(rule, year):
    assert rule("birth_date", dt.date(year, 12, 31)) == "date"
    assert rule("birth_date", f"{year:04}-12-31") == "date"
    assert rule("birth_date", f"{year:04}-12-31 00:00:00") == "date"


def test_1900_is_taken(sent):
    assert sent("birth_date", "1900-01-01") == "1900-01-01"


@pytest.fixture
def local_zone(monkeypatch):
    """Set the zone of this process: `local_zone(14)` is 14 hours ahead of UTC."""

    def change(hours):
        monkeypatch.setenv("TZ", f"<local>{-hours}")
        time.tzset()

    yield change
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("ahead", [14, -12])
def test_today_is_the_day_in_utc_wherever_the_worker_is(rule, local_zone, ahead):
    """In one of the two zones, the local day is always another one."""
    local_zone(ahead)
    today = found = None
    while today != dt.datetime.now(dt.UTC).date():  # again, if midnight came in between
        today = dt.datetime.now(dt.UTC).date()
        found = [rule("birth_date", today + dt.timedelta(days=days)) for days in (-1, 0, 1, 2)]
    assert found == [None, None, "future", "future"]


def test_nobody_is_born_in_the_future(rule):
    tomorrow = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=2)
    for day in (tomorrow, tomorrow.isoformat(), f"{tomorrow} 00:00:00", "9999-12-31"):
        assert rule("birth_date", day) == "future"
