import re
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from upath import UPath

from airflow_provider_mediquo.api.client.stats import RequestStats
from airflow_provider_mediquo.api.report import UploadReport
from airflow_provider_mediquo.api.upload import progress as progress_module
from airflow_provider_mediquo.api.upload.options import UploadOptions
from airflow_provider_mediquo.api.upload.progress import (
    PROGRESS_SECONDS,
    Progress,
    run_periodically,
)
from airflow_provider_mediquo.api.upload.reject_files import StoredParts
from airflow_provider_mediquo.api.upload.reject_log import RejectLog
from airflow_provider_mediquo.api.upload.runner import Upload
from tests.support.threads import join
from tests.support.time_limits import TimeLimit


def test_something_is_done_again_and_again_and_then_no_more():
    beats, enough = [], threading.Event()

    def beat():
        beats.append(threading.current_thread().name)
        if len(beats) == 3:
            enough.set()

    with run_periodically(0.01, beat):
        assert enough.wait(60)
    count = len(beats)
    time.sleep(0.05)
    assert len(beats) == count
    assert {*beats} == {"mediquo-progress"}


def progress(total: int, seconds: float = 10.0, **counts: int) -> str:
    with patch.object(progress_module, "time") as clock:
        clock.monotonic.side_effect = [0.0, seconds]
        return str(Progress(UploadReport(**counts), RequestStats(requests=12), total))


def test_it_has_ended_once_it_is_left():
    begun = threading.Event()

    def act() -> None:
        begun.set()
        threading.Event().wait(0.3)

    with run_periodically(0.001, act):
        assert begun.wait(60)
    assert "mediquo-progress" not in {thread.name for thread in threading.enumerate()}


def test_it_has_ended_if_a_time_limit_strikes_while_it_starts(monkeypatch: pytest.MonkeyPatch):
    start = threading.Thread.start

    def start_late(thread: threading.Thread) -> None:
        start(thread)
        raise TimeLimit

    monkeypatch.setattr(threading.Thread, "start", start_late)
    with pytest.raises(TimeLimit), run_periodically(60, lambda: None):
        pass
    assert "mediquo-progress" not in {thread.name for thread in threading.enumerate()}


def test_a_time_limit_before_it_has_started_is_what_is_raised(monkeypatch: pytest.MonkeyPatch):
    def fail(thread: threading.Thread) -> None:
        raise TimeLimit

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(TimeLimit), run_periodically(60, lambda: None):
        pass


def test_it_ends_if_a_time_limit_strikes_while_it_is_left(
    monkeypatch: pytest.MonkeyPatch, strike: Callable[[], None]
):
    class Event(threading.Event):
        def set(self) -> None:
            strike()
            super().set()

    own = SimpleNamespace(Event=Event, Thread=threading.Thread)
    monkeypatch.setattr(progress_module, "threading", own)
    with pytest.raises(TimeLimit), run_periodically(0.01, lambda: None):
        pass
    join(*(each for each in threading.enumerate() if each.name == "mediquo-progress"))


def test_it_says_what_was_done_and_how_fast():
    assert progress(0, read=20_000, upserted=19_000, invalid=7) == (
        "20,000 read (2,000 a second), 19,000 upserted, 7 rejected, 12 requests, 0 s paused"
    )


def test_it_says_how_long_it_will_take_where_the_total_is_known():
    assert progress(40_000, read=20_000).endswith(", about 10 s left")
    assert progress(2_020_000, read=20_000).endswith(", about 17 min left")
    assert progress(10, read=20_000).endswith(", about 0 s left"), "the total was a guess"
    assert "left" not in progress(40_000)


def test_a_pause_counts_while_it_lasts():
    stats = RequestStats()
    with stats.waiting():
        stats._since -= 7
        assert 7 <= stats.throttled_seconds() < 60
    assert 7 <= stats.throttled_seconds() < 60


def test_a_pause_that_several_wait_for_counts_once_and_from_its_beginning():
    stats = RequestStats()
    with stats.waiting():
        stats._since -= 7
        with stats.waiting():
            assert 7 <= stats.throttled_seconds() < 14
    assert 7 <= stats.throttled_seconds() < 14


def test_an_upload_logs_its_progress_every_30_seconds(box, client, upload, people, caplog):
    assert PROGRESS_SECONDS == 30
    caplog.set_level("INFO")

    def until_told(records):
        deadline = time.monotonic() + 60
        for record in records:
            yield record
            while time.monotonic() < deadline and "1 read (" not in caplog.text:
                time.sleep(0.01)

    run = upload(client, until_told(people(300)), progress_interval=0.05)
    assert run.error is None
    # One before the first record says "0 read".
    line = next(line for line in caplog.messages if line.startswith("1 read ("))
    assert "about" not in line, "a generator knows no total"


def test_the_end_is_a_block_that_can_be_read(box, client, upload, people, caplog):
    caplog.set_level("INFO")
    upload(client, [*people(1200), "no patient"])
    (block,) = [line for line in caplog.messages if line.startswith("Ledger\n")]
    assert "  read                         1,201\n" in block
    assert "  upserted                     1,200\n" in block
    assert "  rejects_path         /" in block
    assert "sample" not in block


def test_a_dry_run_says_that_nothing_was_sent(box, client, upload, people, caplog):
    caplog.set_level("INFO")
    upload(client, people(2), dry_run=True)
    (block,) = [line for line in caplog.messages if line.startswith("Ledger")]
    assert block.startswith("Ledger of a dry run: nothing was sent\n")
    assert not box.patients


def test_a_list_knows_how_long_it_will_take(box, client, people, caplog):
    caplog.set_level("INFO")
    box.settings.latency = 0.1
    options = UploadOptions(max_in_flight=1)
    Upload(client, options, RejectLog(), progress_interval=0.02).run(people(1500))
    assert any(re.search(r"about \d+ s left", line) for line in caplog.messages)


@pytest.fixture
def folder():
    """A place in a store that is empty before and after the test."""
    folder = UPath("memory://progress/rejects.jsonl")
    yield folder
    folder.fs.store.clear()


def test_what_was_rejected_reaches_a_store_while_the_upload_goes_on(client, people, folder):
    def source():
        yield {"code": "bad"}
        deadline = time.monotonic() + 60
        while not folder.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert folder.exists()
        yield from people(1)

    rejects = RejectLog(StoredParts(folder))
    report = Upload(client, UploadOptions(max_rejects=1), rejects, progress_interval=0.05).run(
        source()
    )
    assert report.rejects_path == str(folder)


def test_rejects_that_could_not_be_written_have_no_path(client, people, monkeypatch, folder):
    rejects = RejectLog(StoredParts(folder))
    monkeypatch.setattr(type(folder.fs), "_open", lambda *args, **options: 1 / 0)
    records = [*people(1), {"code": "bad"}]
    report = Upload(client, UploadOptions(max_rejects=1), rejects).run(records)
    assert (report.rejected, report.rejects_path) == (1, None)
