"""Files to mediQuo, run through Airflow's own task runner against a mediQuo on a socket."""

import gzip
import io
import json
from contextlib import closing

import pytest

from airflow_provider_mediquo.transfers.file_to_mediquo import FileToMediquoOperator

pytestmark = pytest.mark.usefixtures("dag")

HEADER = "member_id;first_name;product\n"
COLUMNS = {"member_id": "code", "product": "plan"}


def upsert(path, **options):
    options = {"columns": COLUMNS} | options
    return FileToMediquoOperator(task_id="upsert", path=str(path), **options)


def rows(start, stop):
    return "".join(f"m-{number};Ada;basic\n" for number in range(start, stop))


@pytest.fixture
def members(tmp_path):
    """A folder of two files: 250 members, two bad ones among them."""
    folder = tmp_path / "members"
    folder.mkdir()
    (folder / "a.csv").write_text(
        f"{HEADER}{rows(0, 150)}m-x;Canaryinamine\n", encoding="utf-8-sig"
    )
    text = f"{HEADER}m-y; ;basic\n{rows(150, 250)}"
    (folder / "b.csv.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "_SUCCESS").touch()
    return folder


def test_a_folder_of_files_is_upserted(box, run_task, members):
    run = run_task(upsert(members, max_rejects=2))
    assert run.state == "success"
    counts = [run.result[name] for name in ("read", "upserted", "rejected", "unsettled")]
    assert counts == [252, 250, 2, 0]
    assert set(box.patients) == {f"m-{number}" for number in range(250)}


def test_each_rejected_record_is_written_down_with_its_file_and_line(
    box, run_task, members, tmp_path
):
    run = run_task(upsert(members, rejects_path=str(tmp_path / "rejects")))
    assert run.state == "failed"
    with open(run.result["rejects_path"] if run.result else one_below(tmp_path / "rejects")) as f:
        first, second = map(json.loads, f)
    assert first == {
        "row": 151,
        "file": str(members / "a.csv"),
        "line": 152,
        "code": None,
        "refused_by": "schema",
        "problems": {"record": "cells"},
    }
    assert (second["file"], second["line"]) == (str(members / "b.csv.gz"), 2)
    assert (second["code"], second["problems"]) == ("m-y", {"first_name": "required"})
    assert "Canaryinamine" not in run.everything


def test_a_transform_makes_patients_of_rows_with_any_columns(box, run_task, tmp_path):
    def patient(row):
        return {"code": row["number"], "first_name": row["called"]}

    (tmp_path / "members.csv").write_text("number,called\n7,Ada\n")
    run = run_task(upsert(tmp_path / "members.csv", columns=None, transform=patient))
    assert run.state == "success", run.error
    assert box.patients["7"]["first_name"] == "Ada"


def test_a_file_without_a_record_is_no_record_of_the_folder(box, run_task, members):
    def patient(row):
        return {"code": row["member_id"], "first_name": row["first_name"], "plan": row["product"]}

    (members / "a0.csv").touch()
    run = run_task(upsert(members, columns=None, transform=patient, max_rejects=2))
    assert run.state == "success", run.error
    assert (run.result["read"], run.result["upserted"]) == (252, 250)
    assert f"{members}/a0.csv is empty." in run.log


def one_below(folder):
    (path,) = (path for path in folder.rglob("*") if path.is_file())
    return path


def test_without_a_rejects_path_they_are_logged_in_the_same_way(box, run_task, members):
    run = run_task(upsert(members))
    assert "b.csv.gz" in run.log
    assert "Canaryinamine" not in run.everything


def test_its_path_is_a_template(box, run_task, tmp_path):
    (tmp_path / "2026-01-02.csv").write_text(HEADER + rows(0, 2))
    run = run_task(upsert(tmp_path / "{{ ds }}.csv"))
    assert run.state == "success"
    assert run.rendered["path"] == f"{tmp_path}/2026-01-02.csv"
    assert len(box.patients) == 2


@pytest.mark.parametrize("native", [False, True])
def test_a_path_that_renders_to_none_fails_for_good(box, run_task, native):
    task = upsert("{{ params.path }}", params={"path": None})
    task.dag.render_template_as_native_obj = native
    run = run_task(task)
    assert run.state == "failed"
    assert "`path` is empty" in str(run.error)


def test_a_list_of_paths_fails_for_good_and_names_the_way(box, run_task, tmp_path):
    task = FileToMediquoOperator(task_id="upsert", path=[f"{tmp_path}/a.csv", f"{tmp_path}/b.csv"])
    run = run_task(task)
    assert run.state == "failed"
    assert "For a list, map the task: expand(path=...)." in str(run.error)


def test_a_file_that_is_not_there_yet_is_looked_for_again(box, run_task, tmp_path):
    run = run_task(upsert(tmp_path / "members.csv"))
    assert run.state == "up_for_retry"
    assert f"There is no file at {tmp_path}/members.csv yet." in str(run.error)
    assert box.counters.total == 0


def test_one_without_a_header_fails_for_good_and_shows_nothing(box, run_task, tmp_path):
    (tmp_path / "members.csv").write_text(
        "m-1;Canaryinaminefirst;canaryinamine-plan\nm-2;Canaryinamineother;b\n"
    )
    run = run_task(upsert(tmp_path / "members.csv"))
    assert run.state == "failed"
    assert "has no column member_id" in str(run.error)
    assert "canaryinamine" not in run.everything.lower()
    assert box.counters.total == 0


@pytest.mark.no_cover
def test_what_was_read_before_a_file_broke_is_in_the_ledger(box, run_task, tmp_path):
    whole = gzip.compress((HEADER + rows(0, 20_000)).encode())
    (tmp_path / "members.csv.gz").write_bytes(whole[: len(whole) // 2])
    run = run_task(upsert(tmp_path / "members.csv.gz"))
    assert run.state == "up_for_retry"
    assert "EOFError" in str(run.error)
    assert "upserted" in run.log
    assert len(box.patients) > 5_000


@pytest.mark.parametrize(
    "wrong", [{"encoding": "utf-9"}, {"delimiter": "\\t"}, {"columns": {"a": "b"}}]
)
def test_an_option_that_makes_no_sense_fails_for_good(box, run_task, tmp_path, wrong):
    run = run_task(upsert(tmp_path, **wrong))
    assert run.state == "failed"
    assert f"`{next(iter(wrong))}`" in str(run.error)


def test_it_is_read_in_the_encoding_that_is_given(box, run_task, tmp_path):
    (tmp_path / "members.csv").write_bytes(f"{HEADER}m-1;Zoë;basic".encode("cp1252"))
    assert run_task(upsert(tmp_path, encoding="cp1252")).state == "success"
    assert box.patients["m-1"]["first_name"] == "Zoë"


@pytest.mark.parametrize(
    ("path", "namespace", "name"),
    [
        ("/data/members.csv", "file", "/data/members.csv"),
        ("file:///data/*.csv", "file", "/data/*.csv"),
        ("s3://bucket/in/2026?.csv", "s3://bucket", "in/2026?.csv"),
        ("s3://aws_default@bucket/in/", "s3://bucket", "in/"),
    ],
)
def test_its_path_is_what_openlineage_is_told(path, namespace, name):
    (dataset,) = upsert(path).lineage_inputs()
    assert (dataset.namespace, dataset.name) == (namespace, name)


# --- from a store ---------------------------------------------------------------------------------


@pytest.fixture
def put(s3_bucket, monkeypatch):
    """Put an object into a bucket that the connection `clinic_files` leads to; return its URL."""
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC_FILES", s3_bucket.json())

    def put(key, content):
        with closing(s3_bucket.client()) as client:
            client.put_object(Bucket=s3_bucket.bucket, Key=key, Body=content)
        return f"s3://{s3_bucket.bucket}/{key}"

    return put


@pytest.fixture
def fetched(monkeypatch):
    """How many bytes of objects were asked for so far, range by range."""
    from s3fs.core import S3File

    ranges = []
    usual = S3File._fetch_range

    def fetch(self, start, end):
        ranges.append(end - start)
        return usual(self, start, end)

    monkeypatch.setattr(S3File, "_fetch_range", fetch)
    return ranges


def parquet():
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    codes = [f"m-{number}" for number in range(200, 250)]
    pq.write_table(
        pa.table({"member_id": codes, "first_name": ["Bo"] * 50, "product": ["a"] * 50}), file
    )
    return file.getvalue()


@pytest.mark.no_cover
@pytest.mark.parametrize(("path", "count"), [("in", 250), ("in/[ab]*", 200), ("in/sub", 50)])
def test_objects_are_upserted_in_the_same_way(box, run_task, put, path, count):
    put("in/a.csv", HEADER + rows(0, 100))
    put("in/b", gzip.compress((HEADER + rows(100, 200)).encode()))
    root = put("in/sub/c.parquet", parquet()).removesuffix("in/sub/c.parquet")
    run = run_task(upsert(root + path, path_conn_id="clinic_files"))
    assert run.state == "success"
    assert run.result["upserted"] == len(box.patients) == count


def test_a_rejected_record_of_an_object_has_its_url(box, run_task, put, tmp_path):
    url = put("in/a.csv", f"{HEADER}m-1;Ada;basic\nm-2;Bo\n")
    run_task(upsert(url, path_conn_id="clinic_files", rejects_path=str(tmp_path)))
    line = json.loads(one_below(tmp_path).read_text())
    assert (line["file"], line["line"]) == (url, 3)


@pytest.mark.no_cover
@pytest.mark.parametrize("pack", [False, True])
def test_an_object_is_read_as_a_stream(put, fetched, pack):
    from airflow_provider_mediquo.sources.columns import ColumnMapping
    from airflow_provider_mediquo.sources.files.reader import FileReadOptions, read_files

    long = f"Ada;{'basic' * 100}"
    text = (HEADER + "".join(f"m-{number};{long}\n" for number in range(20_000))).encode()
    url = put("in/big", gzip.compress(text, 0) if pack else text)
    placed = read_files(url, "clinic_files", FileReadOptions(ColumnMapping(COLUMNS)))
    assert next(placed).record["member_id"] == "m-0"
    assert sum(fetched) <= 3 << 20
    assert sum(1 for _ in placed) == 19_999
    assert max(fetched) <= 3 << 20
    assert sum(fetched) < len(text) * 1.1


def test_a_connection_that_may_not_read_says_what_it_got(
    run_task, box, put, monkeypatch, s3_bucket
):
    url = put("in/a.csv", HEADER)
    connection = s3_bucket.json(extra={"endpoint_url": "http://127.0.0.1:1"})
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC_GONE", connection)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    run = run_task(upsert(url, path_conn_id="clinic_gone"))
    assert run.state == "up_for_retry"
    assert f"Cannot list {url}: " in str(run.error)


def test_nothing_is_sent_of_what_follows_a_second_header(box, run_task, tmp_path):
    second = "member_id;product;first_name\nm-x;basic;Canaryinamine\n"
    (tmp_path / "members.csv").write_text(f"{HEADER}{rows(0, 1500)}{second}")
    run = run_task(upsert(tmp_path / "members.csv", retries=1))
    assert run.state == "failed"
    assert "members.csv cannot be read any further:\nline 1,502 is a second header" in str(
        run.error
    )
    assert run.error.report.upserted == len(box.patients) == 1500
    assert "m-x" not in box.patients
    assert "Canaryinamine" not in run.everything


# --- with a state ---------------------------------------------------------------------------------


@pytest.fixture
def upsert_folder(box, tmp_path, monkeypatch, run_task):
    """Write files into a folder, and run a sync of it in which whoever left loses the plan."""
    state = json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "state.db")})
    monkeypatch.setenv("AIRFLOW_CONN_STATE", state)
    folder = tmp_path / "members"
    folder.mkdir()
    options = {
        "state_conn_id": "state",
        "sync_name": "members",
        "on_missing": "unsubscribe",
        "max_unsubscribed": 5,
    }

    def run(number, **files):
        for name, content in files.items():
            content = content if isinstance(content, bytes) else content.encode()
            (folder / name).write_bytes(content)
        task = FileToMediquoOperator(
            task_id=f"upsert_{number}", path=str(folder), columns=COLUMNS, **options
        )
        return run_task(task)

    return run


@pytest.mark.no_cover
@pytest.mark.parametrize("failed", [b"", HEADER, gzip.compress(b"")], ids=range(3))
def test_whoever_was_in_a_file_whose_export_failed_keeps_the_plan(box, upsert_folder, failed):
    files = {"a.csv": HEADER + rows(0, 3), "b.csv": HEADER + rows(3, 5), "c": HEADER + rows(5, 8)}
    assert upsert_folder(1, **files).state == "success"
    run = upsert_folder(2, **{"b.csv": failed})
    assert run.state == "success", run.error
    counts = ("read", "unchanged", "missing", "missing_withheld", "unsubscribed")
    assert [run.result[name] for name in counts] == [6, 6, 2, 2, 0]
    assert "2 members missing from the source." in run.log
    assert "because of 1 file without a record" in run.log
    assert all(shown["plan"] for shown in box.patients.values())
    run = upsert_folder(3, **{"b.csv": HEADER + rows(3, 4)})
    assert run.result["missing_unsubscribed"] == 1
    assert [code for code, shown in box.patients.items() if not shown["plan"]] == ["m-4"]


def test_but_not_whoever_left_where_a_part_of_parquet_has_no_rows(box, upsert_folder):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    part = io.BytesIO()
    names = ["member_id", "first_name", "product"]
    pq.write_table(pa.table({name: pa.array([], "string") for name in names}), part)
    assert upsert_folder(1, a=HEADER + rows(0, 3)).state == "success"
    run = upsert_folder(2, a=HEADER + rows(0, 2), b=part.getvalue())
    assert run.state == "success", run.error
    assert run.result["missing_unsubscribed"] == 1
    assert not box.patients["m-2"]["plan"]
