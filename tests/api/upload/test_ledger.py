"""Every record is counted once, under its own name, and written down where it was found."""

import json
import threading
from pathlib import Path

import pytest

from airflow_provider_mediquo.api.records import Change, LocatedRecord, SourceLocation, ValidRecord
from airflow_provider_mediquo.api.report import Rejection
from airflow_provider_mediquo.api.upload.ledger import Ledger
from airflow_provider_mediquo.api.upload.reject_files import LocalFile
from airflow_provider_mediquo.api.upload.reject_log import RejectLog
from airflow_provider_mediquo.api.visibility.sample import Sample
from tests.support.threads import join, launch
from tests.support.time_limits import TimeLimit


@pytest.fixture
def ledger():
    return Ledger(RejectLog(), Sample("secret"))


def opened(ledger, count, *, has_plan=True, change=None):
    records = []
    for _ in range(count):
        row = ledger.next_row()
        record = ValidRecord(row, f"m-{row}", has_plan, b'{"code":"x"}', change=change)
        ledger.open(record)
        records.append(record)
    return records


def test_a_record_counts_as_rejected_only_if_there_is_a_line(ledger, monkeypatch):
    """A time limit may strike in between."""

    def strike(*_):
        raise TimeLimit

    monkeypatch.setattr(RejectLog, "keep", strike)
    with pytest.raises(TimeLimit):
        ledger.reject(ledger.next_row(), "m-0", "schema", {"email": "email"}, None)
    assert ledger.report.rejected == 0


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file during whose first write a time limit strikes, while the write itself goes on."""
    write, strikes = LocalFile.write, iter([TimeLimit])

    def interrupted(file, lines):
        write(file, lines)
        for strike in strikes:
            raise strike

    monkeypatch.setattr(LocalFile, "write", interrupted)
    return LocalFile(tmp_path / "rejects.jsonl")


def test_a_time_limit_while_a_reject_is_written_counts_it(file):
    ledger = Ledger(RejectLog(file), Sample("secret"))
    with pytest.raises(TimeLimit):
        ledger.reject(ledger.next_row(), "m-0", "schema", {"email": "email"}, None)
    assert ledger.report.rejected == 1


def test_a_time_limit_while_the_unsettled_are_written_writes_none_again(file):
    ledger = Ledger(RejectLog(file), Sample("secret"))
    opened(ledger, 3)
    with pytest.raises(TimeLimit):
        ledger.close(1.0)
    report = ledger.close(1.0)
    assert report.unsettled == 3
    assert [json.loads(line)["row"] for line in file.path.read_text().splitlines()] == [1, 2, 3]


def test_each_outcome_has_a_count_of_its_own():
    """Different numbers of each, so that no two can be swapped."""
    ledger = Ledger(RejectLog(LocalFile(Path("/dev/full"))), Sample("secret"))
    opened(ledger, 6)
    for _ in range(12):
        ledger.next_row()
        ledger.skip()
    for _ in range(13):
        ledger.omit(1, {"code": "m-1"}, {"email": "email"}, None)
    ledger.accept(opened(ledger, 1) + opened(ledger, 2, has_plan=False), None)
    for record in opened(ledger, 4):
        ledger.refuse(record, 422, {"email"})
    for refused_by, count in (("schema", 7), ("duplicate", 8)):
        for _ in range(count):
            ledger.reject(ledger.next_row(), "m-0", refused_by, {"code": "duplicate"}, None)
    ledger.give_up(opened(ledger, 5), 503)
    for _ in range(9):
        ledger.stats.add_request()
    for _ in range(10):
        ledger.stats.add_retry()
    report = ledger.close(11.0)
    assert {name: report.as_dict()[name] for name in report.counts()} == {
        "read": 45,
        "upserted": 3,
        "skipped": 12,
        "rejected": 19,
        "unsettled": 11,
        "invalid": 7,
        "duplicate": 8,
        "refused": 4,
        "without_plan": 2,
        "omitted": 13,
        "unwritten": 43,
        "requests": 9,
        "retries": 10,
        "throttled_seconds": 0.0,
        "seconds": 11.0,
    }
    assert report.as_dict()["rejects_by_rule"] == {
        "code": {"duplicate": 15},
        "email": {"refused": 4},
    }


def test_all_lost_plans_are_counted_and_the_first_20_kept(ledger):
    for row in range(1, 31):
        ledger.lose_plan(Rejection(row, f"m-{row}", "duplicate", {}))
    assert ledger.lost_plan_count == 30
    assert [rejection.row for rejection in ledger.lost_plans] == [*range(1, 21)]


def test_threads_may_tell_it_at_once(ledger):
    moved = Change("changed", 0, None, was_foreign=True)

    def send():
        for _ in range(300):
            ledger.accept(opened(ledger, 2, change=moved), None)
            (record,) = opened(ledger, 1)
            ledger.refuse(record, 400, ())

    threads = [threading.Thread(target=send) for _ in range(8)]
    launch(*threads)
    join(*threads)
    report = ledger.close(1.0)
    assert (report.read, report.upserted, report.refused) == (7200, 4800, 2400)
    assert (report.unsettled, report.changed, report.moved) == (0, 4800, 4800)


@pytest.mark.parametrize("script", [["422"], ["503"] * 9], ids=["refused", "unsettled"])
def test_a_record_that_was_not_accepted_is_written_down_with_its_file_and_line(
    box, client, upload, people, script
):
    box.script("upsert", *script)
    location = SourceLocation("members.csv", 7)
    run = upload(client, [LocatedRecord(person, location) for person in people(1)], chunk_size=1)
    (line,) = run.lines
    assert (line["file"], line["line"]) == ("members.csv", 7)


def test_a_green_run_with_rejects_warns_once_with_the_counts(client, upload, people, caplog):
    records = people(5) + people(2, start=10, email="x") + people(1, start=20, gender="x")
    run = upload(client, records, max_rejects=3)
    assert run.error is None
    (warning,) = [
        record.getMessage()
        for record in caplog.records
        if record.levelname == "WARNING" and "rejected: " in record.getMessage()
    ]
    assert warning == (
        "3 rejected: email must be a plausible e-mail address (2); "
        "gender must be male or female (1)."
    )


@pytest.mark.parametrize(
    ("kinds", "says"), [(5, "5 rejected: "), (6, "6 rejected, most frequent: ")]
)
def test_the_line_says_whether_it_shows_all_kinds_of_problems(
    client, upload, people, caplog, kinds, says
):
    wrong = {
        "email": "x",
        "gender": "x",
        "birth_date": "x",
        "phone": "1",
        "meta": 1,
        "language": "x",
    }
    records = [people(1, start=at, **{name: wrong[name]})[0] for at, name in enumerate(wrong)]
    run = upload(client, records[:kinds], max_rejects=6)
    assert run.error is None
    (line,) = [line for line in caplog.messages if line.startswith(says)]
    assert line.count("(1)") == 5


def test_retries_and_pauses_leave_a_line_without_a_value(box, connect, upload, people, caplog):
    box.script("upsert", "503", "429:1")
    run = upload(connect(box), people(1, first_name="canaryinamine-of-a-name"))
    assert run.error is None
    lines = [record.getMessage() for record in caplog.records]
    assert "PUT patients: attempt 1 failed (503), next in 0.0 s." in lines
    assert "PUT patients: mediQuo answered 429, pausing for 1 s." in lines
    assert "canaryinamine" not in caplog.text
