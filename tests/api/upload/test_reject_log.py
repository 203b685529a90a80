import json
import logging
import os
import re
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from upath import UPath

from airflow_provider_mediquo.api.errors import MediquoError
from airflow_provider_mediquo.api.patients.rules import RULES
from airflow_provider_mediquo.api.records import SourceLocation
from airflow_provider_mediquo.api.report import Rejection
from airflow_provider_mediquo.api.upload import reject_files
from airflow_provider_mediquo.api.upload.reject_files import LocalFile, StoredParts, as_name
from airflow_provider_mediquo.api.upload.reject_log import SHOWN, RejectLog
from tests.support.threads import launch
from tests.support.time_limits import TimeLimit


def rejection(row: int, by: str = "schema") -> Rejection:
    return Rejection(row, f"m-{row}", by, {"email": "email"} if by == "schema" else {})


def test_each_is_a_line_that_is_there_at_once(tmp_path):
    path = tmp_path / "new" / "folder" / "rejects.jsonl"
    with RejectLog(LocalFile(path)) as rejects:
        rejects.add(rejection(7))
        rejects.add(Rejection(8, None, "mediquo", {}, 422))
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [
        {"row": 7, "code": "m-7", "refused_by": "schema", "problems": {"email": "email"}},
        {"row": 8, "code": None, "refused_by": "mediquo", "problems": {}, "status": 422},
    ]
    assert rejects.written_to == str(path)


def test_a_file_is_appended_to_and_left_out_where_there_is_nothing_in_it(tmp_path):
    path = tmp_path / "rejects.jsonl"
    with RejectLog(LocalFile(path)) as rejects:
        pass
    assert not path.exists()
    assert rejects.written_to is None
    for row in (1, 2):
        with RejectLog(LocalFile(path)) as rejects:
            rejects.add(rejection(row))
    with RejectLog(LocalFile(path)) as rejects:
        pass
    assert len(path.read_text().splitlines()) == 2


def test_without_a_file_the_first_ones_are_logged(caplog):
    caplog.set_level(logging.INFO)
    with RejectLog() as rejects:
        for row in range(1, 101):
            rejects.add(rejection(row))
    shown = [json.loads(r.getMessage().partition(": ")[2]) for r in caplog.records[:SHOWN]]
    assert SHOWN == 20
    assert [line["row"] for line in shown] == list(range(1, 21))
    assert len(caplog.records) == 21, "and one line says that there are more"
    assert rejects.kinds == {f"email {RULES['email']}": 100}
    assert rejects.written_to is None


def test_without_a_file_every_unsettled_code_is_logged(caplog):
    with RejectLog() as rejects:
        rejects.add(*(rejection(row) for row in range(30)))
        rejects.add(*(rejection(row, "unsettled") for row in range(1000, 1100)))
    assert all(f'"m-{row}"' in caplog.text for row in range(1000, 1100))


def test_nothing_is_logged_where_there_is_a_file(tmp_path, caplog):
    with RejectLog(LocalFile(tmp_path / "x.jsonl")) as rejects:
        rejects.add(rejection(1), rejection(2, "unsettled"))
    assert caplog.records == []


def test_kinds_of_problems_are_counted_but_not_without_end():
    rejects = RejectLog()
    for number in range(2000):
        rejects.add(Rejection(number, None, "schema", {f"column_{number}": "unknown"}))
    assert len(rejects.kinds) <= 1000


def test_rejects_are_counted_by_field_and_rule_and_never_under_a_name_of_the_source():
    rejects = RejectLog()
    rejects.add(
        Rejection(1, "m-1", "schema", {"phone": "prefix", "email": "email"}),
        Rejection(2, "m-2", "schema", {"phone": "prefix", "Ada Lovelace": "unknown"}),
        Rejection(3, "m-3", "mediquo", {}, 422),
        rejection(4, "unsettled"),
        Rejection(5, "m-5", "omitted", {"phone": "phone"}),
    )
    assert rejects.by_rule == {
        "phone": {"prefix": 2},
        "email": {"email": 1},
        "other": {"unknown": 1},
        "record": {"refused": 1},
    }


def test_what_a_full_disk_does_not_take_is_logged_all_of_it(caplog):
    with RejectLog(LocalFile(Path("/dev/full"))) as rejects:
        rejects.add(*(rejection(row) for row in range(30)))
        rejects.add(rejection(31))
    rows = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Rejected")]
    assert len(rows) == 31
    assert caplog.messages[0] == (
        "Cannot write /dev/full (disk full: No space left on device): its lines are logged instead."
    )
    assert rejects.written_to is None
    assert rejects.unwritten == 31


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Have the system take only so many bytes of a file, as a disk that gets full does."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


def test_a_disk_that_gets_full_holds_whole_lines_and_the_others_are_logged(tmp_path, caplog):
    path = tmp_path / "rejects.jsonl"
    with files_of_at_most(4000), RejectLog(LocalFile(path)) as rejects:
        for row in range(1, 101):
            rejects.add(rejection(row))
    text = path.read_text()
    assert text.endswith("\n")
    written = [json.loads(line)["row"] for line in text.splitlines()]
    logged = [json.loads(m.partition(": ")[2])["row"] for m in caplog.messages[1:]]
    assert written + logged == [*range(1, 101)]
    assert 40 < len(written) < 60
    assert rejects.unwritten == len(logged)
    assert rejects.written_to == str(path)
    assert caplog.messages[0] == (
        f"Cannot write {path} (disk full: File too large): its lines are logged instead."
    )


def test_so_does_a_part_in_a_store_that_gets_full(tmp_path, caplog):
    folder = UPath(f"file://{tmp_path}/rejects.jsonl")
    folder.mkdir()
    with RejectLog(StoredParts(folder)) as rejects:
        rejects.add(rejection(1))
        rejects.flush()
        with files_of_at_most(4000):
            rejects.add(*(rejection(row) for row in range(2, 102)))
            rejects.flush()
    assert parts(folder) == [[1]]
    assert rejects.unwritten == len(caplog.messages[1:]) == 100


def test_a_folder_that_cannot_be_is_an_error_before_anything_is_read(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MediquoError, match="`rejects_path`"):
        RejectLog(LocalFile(tmp_path / "file" / "x.jsonl")).check()


def test_so_is_a_folder_below_one_that_may_not_be_searched(tmp_path, monkeypatch):
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refuse)
    folder = tmp_path / "other" / "rejects"
    with pytest.raises(
        MediquoError, match=rf"to {folder}\.\n.* \(PermissionError: Permission denied\)"
    ) as raised:
        RejectLog(LocalFile(folder / "x.jsonl")).check()
    assert raised.value.__context__ is None


def test_without_rejects_there_is_no_folder_either(tmp_path):
    with RejectLog(LocalFile(tmp_path / "dag" / "run" / "x.jsonl")):
        pass
    assert list(tmp_path.iterdir()) == []


# --- an object store, here fsspec's own in memory; the real one is in tests/transfers ------------


@pytest.fixture
def store() -> Iterator[UPath]:
    folder = UPath("memory://rejects/dag/run/task-0-1.jsonl")
    yield folder
    folder.fs.store.clear()


def parts(folder: UPath) -> list[list[int]]:
    """The rows in each part."""
    return sorted(
        [json.loads(line)["row"] for line in part.read_text().splitlines()]
        for part in folder.iterdir()
    )


@pytest.mark.no_cover
def test_in_a_store_a_part_is_closed_every_1000_lines_and_at_the_end(store):
    with RejectLog(StoredParts(store)) as rejects:
        for row in range(1, 2501):
            rejects.add(rejection(row))
            assert len([*store.iterdir()] if store.exists() else ()) == row // 1000
    assert parts(store) == [[*range(1, 1001)], [*range(1001, 2001)], [*range(2001, 2501)]]
    names = sorted(part.name for part in store.iterdir())
    assert all(re.fullmatch(r"part-[0-9a-f]{8}-0000[123]\.jsonl", name) for name in names)
    assert rejects.written_to == str(store)


def test_in_a_store_a_part_is_closed_when_time_is_up(store):
    with RejectLog(StoredParts(store)) as rejects:
        rejects.flush()
        assert not store.exists(), "there is no part without a line"
        rejects.add(rejection(1))
        rejects.flush()
        assert parts(store) == [[1]]


def test_in_a_store_nothing_is_overwritten(store):
    for row in (1, 2):
        with RejectLog(StoredParts(store)) as rejects:
            rejects.add(rejection(row))
    assert parts(store) == [[1], [2]]


def test_what_a_store_does_not_take_is_logged_all_of_it(store, caplog, monkeypatch):
    with RejectLog(StoredParts(store)) as rejects:
        rejects.add(*(rejection(row) for row in range(30)))
        monkeypatch.setattr(type(store.fs), "_open", lambda *args, **options: 1 / 0)
        rejects.flush()
        rejects.add(rejection(31))
    rows = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Rejected")]
    assert len(rows) == 31
    assert "(ZeroDivisionError): its lines are logged instead" in caplog.text
    assert rejects.written_to is None


@pytest.mark.parametrize(
    ("problem", "is_fatal"), [(PermissionError, False), (OSError("no such host"), True)]
)
def test_a_store_that_does_not_answer_is_an_error_before_anything_is_read(
    store, monkeypatch, problem, is_fatal
):
    def fail(*args: object) -> None:
        raise problem

    monkeypatch.setattr(type(store), "exists", fail)
    if is_fatal:
        with pytest.raises(MediquoError, match=r"`rejects_path`.*\n.*no such host"):
            RejectLog(StoredParts(store)).check()
    else:
        RejectLog(StoredParts(store)).check()


def test_what_a_store_says_is_shown_as_one_short_line(store, monkeypatch):
    def fail(*args: object) -> None:
        raise OSError("<html>\n\x1b[31m" + "x" * 1000)

    monkeypatch.setattr(type(store), "exists", fail)
    with pytest.raises(MediquoError, match=r"<html>\\n\\u001b\[31mx") as raised:
        RejectLog(StoredParts(store)).check()
    assert "\x1b" not in str(raised.value)
    assert len(str(raised.value)) < 500


def test_a_line_has_its_place():
    rejection = Rejection(
        7, "m-7", "mediquo", {"tax_id": "refused"}, 422, SourceLocation("a.csv", 9)
    )
    assert rejection.as_dict() == {
        "row": 7,
        "file": "a.csv",
        "line": 9,
        "code": "m-7",
        "refused_by": "mediquo",
        "problems": {"tax_id": "refused"},
        "status": 422,
    }


def test_where_nothing_may_be_looked_at_it_is_written_all_the_same(store, monkeypatch):
    def refuse(*args: object) -> None:
        raise PermissionError

    monkeypatch.setattr(type(store), "exists", refuse)
    with RejectLog(StoredParts(store)) as rejects:
        rejects.add(rejection(1))
    assert rejects.written_to == str(store)
    assert parts(store) == [[1]]


def test_what_was_written_before_a_store_failed_is_told(store, monkeypatch):
    with RejectLog(StoredParts(store)) as rejects:
        rejects.add(rejection(1))
        rejects.flush()
        monkeypatch.setattr(type(store.fs), "_open", lambda *args, **options: 1 / 0)
        rejects.add(rejection(2))
    assert rejects.written_to == str(store)


class Hanging(StoredParts):
    """A store that does not answer."""

    def __init__(self) -> None:
        super().__init__(UPath("memory://rejects"))
        self.is_asked, self.answers = threading.Event(), threading.Event()

    def write(self, lines: str) -> None:
        self._bounded(self._hang)

    def _hang(self) -> None:
        self.is_asked.set()
        self.answers.wait(60)


def test_a_store_that_hangs_holds_up_none_that_adds_and_no_kill(caplog):
    file = Hanging()
    rejects = RejectLog(file)
    rejects.add(rejection(1))
    flushing = threading.Thread(target=rejects.flush)
    launch(flushing)
    assert file.is_asked.wait(10)
    rejects.add(rejection(2))  # would wait for a minute
    assert flushing.is_alive()
    started = time.monotonic()
    rejects.hurry()
    flushing.join(20)
    assert not flushing.is_alive()
    assert time.monotonic() - started < 20
    file.answers.set()
    rejects.flush()
    assert "(NoAnswerError): its lines are logged instead" in caplog.text
    assert '"m-1"' in caplog.text
    assert '"m-2"' in caplog.text


def test_a_kill_hurries_the_list_of_the_unsubscribed_too():
    file, unsubscribed = Hanging(), Hanging()
    rejects = RejectLog(file, unsubscribed)
    flushing = threading.Thread(target=rejects._unsubscribed.flush)
    rejects.add_left(["m-1"])
    launch(flushing)
    assert unsubscribed.is_asked.wait(10)
    rejects.hurry()
    try:
        flushing.join(20)  # Airflow kills a task 5 seconds after SIGTERM; a store may take 60
        assert not flushing.is_alive()
    finally:
        unsubscribed.answers.set()


@pytest.fixture
def stuck(tmp_path):
    """A file that hangs as one on a storage that is gone does: a pipe that nobody reads."""
    path = tmp_path / "rejects.jsonl"
    os.mkfifo(path)
    yield path
    with suppress(OSError):  # let go of whoever waits
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))


def test_so_does_a_file_of_the_workers_own(stuck, caplog, monkeypatch):
    monkeypatch.setattr(reject_files, "_STORE_TIMEOUT", 0.3)
    with RejectLog(LocalFile(stuck)) as rejects:
        rejects.add(rejection(1))
        rejects.add(rejection(2))
    assert "(NoAnswerError): its lines are logged instead" in caplog.text
    assert '"m-1"' in caplog.text
    assert '"m-2"' in caplog.text


def test_a_time_limit_while_lines_are_written_loses_none(tmp_path, caplog, monkeypatch):
    def strike(file, lines):
        raise TimeLimit

    monkeypatch.setattr(LocalFile, "write", strike)
    rejects = RejectLog(LocalFile(tmp_path / "rejects.jsonl"))
    with pytest.raises(TimeLimit):
        rejects.add(rejection(1))
        rejects.flush()
    assert '"m-1"' in caplog.text
    assert rejects.unwritten == 1


def test_nor_does_one_just_before(tmp_path, caplog):
    class Lock:
        def __enter__(self):
            pass

        def __exit__(self, *failure):
            if not rejects._rejects._waiting:
                raise TimeLimit

    rejects = RejectLog(LocalFile(tmp_path / "rejects.jsonl"))
    rejects._rejects._lock = Lock()  # type: ignore[assignment]  # it has all that is called
    with pytest.raises(TimeLimit):
        rejects.add(rejection(1))
        rejects.flush()
    assert '"m-1"' in caplog.text
    assert rejects.unwritten == 1


def test_a_folder_that_does_not_answer_is_known_before_anything_is_sent(tmp_path, monkeypatch):
    monkeypatch.setattr(reject_files, "_STORE_TIMEOUT", 0.3)
    over = threading.Event()
    monkeypatch.setattr(LocalFile, "_look", lambda file: over.wait(30))
    with pytest.raises(MediquoError, match=r"cannot write to .*\n.* \(no answer\)"):
        RejectLog(LocalFile(tmp_path / "rejects.jsonl")).check()
    over.set()


# --- whatever is in it ----------------------------------------------------------------------------

TEXT = st.text(st.characters() | st.sampled_from('\n\r\u2028\x85\x1b\u202e\ud800=,"/.'), min_size=1)
ANY = settings(deadline=None, database=None, derandomize=True, max_examples=200)


@ANY
@given(code=TEXT, file=TEXT, column=TEXT)
@example("=cmd|' /C calc'!A0", "a\nb.csv", "\u2028")
def test_a_record_is_one_line_of_ascii_that_reads_back_as_it_was(code, file, column):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rejects.jsonl"
        with RejectLog(LocalFile(path)) as rejects:
            rejects.add(
                Rejection(1, code, "schema", {column: "unknown"}, location=SourceLocation(file, 2))
            )
            rejects.add(rejection(2))
        first, second = path.read_bytes().splitlines()
        assert first.isascii()
        assert first.decode().isprintable()
        read = json.loads(first)
        paired = json.loads(json.dumps([code, file, column]))  # two halves of a pair become one
        assert [read["code"], read["file"], *read["problems"]] == paired
        assert json.loads(second)["row"] == 2


@ANY
@given(TEXT | st.text("./\\", min_size=1) | st.text(min_size=150, max_size=400))
@example("..")
@example(".")
@example("../../etc")
@example("x" * 10_000)
@example("\U0001f600" * 100)
@example("\ud800")
def test_a_name_is_that_of_one_file_in_its_folder(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / as_name(text)
        assert path.resolve().parent == Path(folder).resolve()
        Path(f"{os.fsencode(path).decode(errors='replace')}-12345-99.jsonl").touch()


def test_a_name_that_can_be_one_stays_as_it_is():
    for name in ("clinic", "scheduled__2026-01-02T00:00:00+00:00", "group.task", "café", "..."):
        assert as_name(name) == name


def test_names_that_are_cut_stay_apart():
    assert as_name("x" * 300) != as_name("x" * 301)
    assert as_name("a/b") == "a%2Fb"
