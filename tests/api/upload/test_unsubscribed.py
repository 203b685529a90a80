"""The list of those who were upserted without a plan, which unsubscribes them."""

import json
from pathlib import Path

import pytest
from upath import UPath

from airflow_provider_mediquo.api.records import LocatedRecord, SourceLocation, ValidRecord
from airflow_provider_mediquo.api.upload.options import UploadOptions
from airflow_provider_mediquo.api.upload.reject_files import LocalFile, StoredParts
from airflow_provider_mediquo.api.upload.reject_log import RejectLog
from airflow_provider_mediquo.api.upload.runner import Upload


@pytest.fixture
def files(tmp_path):
    return [LocalFile(tmp_path / "x.jsonl"), LocalFile(tmp_path / "x.unsubscribed.jsonl")]


@pytest.fixture
def run(client, files):
    """Send records; return the ledger, and the lines of the list."""

    def run(records, max_rejects=0, chunk_size=100, max_without_plan=None):
        options = UploadOptions(
            max_rejects=max_rejects, chunk_size=chunk_size, max_without_plan=max_without_plan
        )
        report = Upload(client, options, RejectLog(*files)).run(records)
        path = files[1].path
        return report, [json.loads(line) for line in path.read_text().splitlines()]

    return run


def without_plan(people, *numbers):
    return [patient for number in numbers for patient in people(1, start=number, plan=None)]


def test_it_lists_those_that_mediquo_accepted_and_nobody_else(box, run, people):
    box.settings.refuse_tax_id = "REFUSED"
    records = [
        *people(2),
        *without_plan(people, 3, 4),
        *people(1, start=5, plan=" "),
        {"code": "m-6", "first_name": "Ada", "tax_id": "REFUSED"},
        {"code": "m-7"},
        *without_plan(people, 3),
        *people(1, start=8),
    ]
    report, lines = run(records, max_rejects=3)
    assert lines == [
        {"row": 3, "code": "m-3", "reason": "no plan"},
        {"row": 4, "code": "m-4", "reason": "no plan"},
        {"row": 5, "code": "m-5", "reason": "no plan"},
    ]
    assert report.without_plan == len(lines)
    assert all(box.patients[line["code"]]["unsubscribed_at"] for line in lines)


def test_nobody_is_listed_before_mediquo_has_accepted_them(box, client, files, people):
    box.script("upsert", *["401"] * 50)
    upload = Upload(client, UploadOptions(max_without_plan=None), RejectLog(*files))
    with pytest.raises(PermissionError):
        upload.run(without_plan(people, *range(1, 1001)))
    assert upload.report.unsettled == 1000
    assert not files[1].path.exists()
    assert upload.report.unsubscribed_path is None


def test_each_has_its_place(run, people):
    records = [LocatedRecord(people(1, plan=None)[0], SourceLocation("members.csv", 7))]
    _, lines = run(records)
    (line,) = lines
    assert list(line.items())[:3] == [("row", 1), ("file", "members.csv"), ("line", 7)]
    assert line["code"] == "m-1"


def test_the_ledger_says_where_it_is(run, people, files):
    report, _ = run(without_plan(people, 1))
    assert report.as_dict()["unsubscribed_path"] == str(files[1].path)
    assert f"unsubscribed_path    {files[1].path}" in report.as_text()
    assert report.rejects_path is None


def test_where_all_have_a_plan_there_is_none(client, people, files):
    report = Upload(client, UploadOptions(), RejectLog(*files)).run(people(3))
    assert report.unsubscribed_path is None
    assert not files[1].path.exists()


@pytest.mark.no_cover
def test_in_a_store_no_more_than_a_part_is_kept():
    folder = UPath("memory://unsubscribed/x.unsubscribed.jsonl")
    rejects = RejectLog(StoredParts(UPath("memory://unsubscribed/x.jsonl")), StoredParts(folder))
    try:
        for row in range(1, 2501):
            rejects.add_unsubscribed([ValidRecord(row, f"m-{row}", False, b"{}")])
            parts = list(folder.iterdir()) if folder.exists() else []
            assert len(parts) == row // 1000
        rejects.flush()
        lines = [line for part in folder.iterdir() for line in part.read_text().splitlines()]
        assert {json.loads(line)["code"] for line in lines} == {f"m-{n}" for n in range(1, 2501)}
    finally:
        folder.fs.store.clear()


def test_who_cannot_be_written_is_logged(client, people, files, caplog):
    rejects = RejectLog(files[0], LocalFile(Path("/dev/full")))
    options = UploadOptions(max_without_plan=None, max_rejects=1)
    report = Upload(client, options, rejects).run([*without_plan(people, 1, 2), {"code": "bad"}])
    assert 'Unsubscribed: ["m-1", "m-2"]' in caplog.text
    assert (report.unwritten, report.unsubscribed_path) == (2, None)
    assert report.rejects_path == str(files[0].path), "the other one is complete"
    assert json.loads(files[0].path.read_text())["code"] == "bad"


@pytest.mark.parametrize("folder", [None, ""])
def test_it_needs_a_folder(folder):
    with pytest.raises(ValueError, match="`unsubscribed_report` needs `rejects_path`"):
        UploadOptions(unsubscribed_report=True, rejects_path=folder)
