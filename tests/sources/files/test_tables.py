"""Files that are more than they hold: tables with a log, values in the names of folders."""

import json
import os
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_mediquo.api.errors import InvalidPatientsError, SourceError
from airflow_provider_mediquo.api.patients.schema import check_patient
from airflow_provider_mediquo.api.records import Unreadable
from airflow_provider_mediquo.sources.columns import ColumnMapping
from airflow_provider_mediquo.sources.files.discovery import find_files
from airflow_provider_mediquo.sources.files.reader import FileReadOptions, read_files

CASES = Path(__file__).parent / "data" / "tables"
CSV = "code,first_name\n1,Ada\n"


def read(path, columns=None):
    return [
        record for record, _ in read_files(str(path), None, FileReadOptions(ColumnMapping(columns)))
    ]


@pytest.fixture
def make(tmp_path):
    """Make a file with a patient below `tmp_path`."""

    def make(name, content=CSV):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)

    return make


@pytest.mark.parametrize("path", ["", "/", "/*.parquet", "/part-0.parquet", "/**"])
def test_a_table_with_a_log_is_refused_by_name(path):
    with pytest.raises(InvalidPatientsError) as caught:
        find_files(f"{CASES}/delta{path}")
    assert str(caught.value).startswith(f"{CASES}/delta is a table in Delta format")
    assert "Read it with SQL" in str(caught.value)


@pytest.mark.parametrize(
    ("log", "kind"),
    [
        ("_delta_log/0.json", "Delta"),
        (".hoodie/hoodie.properties", "Hudi"),
        ("metadata/00000-a.metadata.json", "Iceberg"),
        ("metadata/v1.metadata.json", "Iceberg"),
        ("metadata/v1.metadata.json.gz", "Iceberg"),
    ],
)
@pytest.mark.parametrize(
    "path", ["", "t", "t/data", "t/data/day=1", "t/data/day=1/a.csv", "t/*/*/*.csv"]
)
def test_also_where_the_path_is_above_or_below_it(make, tmp_path, log, kind, path):
    make("t/data/day=1/a.csv")
    make(f"t/{log}", "{}")
    with pytest.raises(InvalidPatientsError, match=f"/t is a table in {kind} format"):
        find_files(f"{tmp_path}/{path}")


@pytest.mark.parametrize("path", ["", "t", "t/base_0000002/000000_0", "t/*/*", "t/delta*/0*"])
def test_so_is_a_transactional_table_of_hive(make, tmp_path, path):
    """A later `base` replaces all before it, which stays there for a while."""
    for folder in ("delta_0000001_0000001_0000", "base_0000002", "delta_0000003_0000003"):
        make(f"t/{folder}/000000_0")
    with pytest.raises(InvalidPatientsError, match="/t is a table in Hive ACID format"):
        find_files(f"{tmp_path}/{path}")


@pytest.mark.parametrize("name", ["base_20261129", "delta_20261128_20261129", "base_1", "delta_x"])
def test_but_a_folder_with_a_date_is_none(make, tmp_path, name):
    make(f"{name}/a.csv")
    assert len(find_files(str(tmp_path))) == len(find_files(f"{tmp_path}/*/*")) == 1


def test_other_folders_of_such_names_are_none(make, tmp_path):
    make("in/metadata/a.csv")
    make("other/_delta_log/0.json")
    assert len(find_files(f"{tmp_path}/in")) == 1


def test_a_table_in_a_store_is_refused(s3_bucket, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC_FILES", s3_bucket.json())
    client = s3_bucket.client()
    for key in ("t/data/a.csv", "t/metadata/v1.metadata.json", "plain/a.csv"):
        client.put_object(Bucket=s3_bucket.bucket, Key=key, Body=b"")
    client.close()
    for path in ("t", "t/data", "t/data/*.csv", ""):
        with pytest.raises(InvalidPatientsError, match="in Iceberg format"):
            find_files(f"s3://{s3_bucket.bucket}/{path}", "clinic_files")
    assert len(find_files(f"s3://{s3_bucket.bucket}/plain", "clinic_files")) == 1


# --- values in the names of folders ---------------------------------------------------------------


@pytest.mark.parametrize("path", ["hive", "hive/plan=gold/p.csv", "hive/*/*.csv"])
def test_a_value_in_a_folders_name_is_a_column(path):
    assert read(CASES / path) == [{"code": "1", "first_name": "Ada", "plan": "gold"}]


def test_it_is_mapped_and_dropped_as_others_are(make, tmp_path):
    make("Tarif=oro%20y%20m%C3%A1s/dt=2026-11-22/a.csv")
    columns = {"Tarif": "plan", "dt": None}
    (record,) = read(tmp_path, columns)
    assert record == {"code": "1", "first_name": "Ada", "Tarif": "oro y más", "dt": "2026-11-22"}
    with pytest.raises(InvalidPatientsError, match="unknown columns:\nTarif, dt"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("folder", "plan"),
    [
        ("Exporte\u00a02026/plan=Básico", "Básico"),
        ("plan=Básico\u00a0Plus", "Básico\u00a0Plus"),
        ('plan=5" x\\y', '5" x\\y'),
        ("plan=so\u00adft", "so\u00adft"),
        ("plan=a\nb", "a\nb"),
    ],
)
def test_it_is_the_folders_own_text_whatever_characters_the_path_has(make, tmp_path, folder, plan):
    make(f"{folder}/a.csv")
    assert read(tmp_path) == [{"code": "1", "first_name": "Ada", "plan": plan}]


def test_bytes_in_it_that_are_no_text_are_rejected(make, tmp_path):
    make("plan=a%FF/a.csv")
    (record,) = read(tmp_path)
    assert check_patient(record)[1] == {"plan": "text"}


def test_the_null_of_hive_is_none(make, tmp_path):
    make("plan=__HIVE_DEFAULT_PARTITION__/a.csv")
    assert read(tmp_path) == [{"code": "1", "first_name": "Ada", "plan": None}]


def test_one_that_is_in_the_file_too_is_an_error(make, tmp_path):
    make("plan=gold/a.csv", "code,first_name,plan\n1,Ada,\n")
    with pytest.raises(InvalidPatientsError, match="more than one column for plan"):
        read(tmp_path)


def test_json_lines_have_it_too(make, tmp_path):
    same, other = {"code": "1", "plan": "gold"}, {"code": "2", "plan": ""}
    make("plan=gold/a.jsonl", f'{{"code": "0"}}\n{json.dumps(same)}\n{json.dumps(other)}\n3\n')
    found = read(tmp_path)
    assert found == [{"code": "0", "plan": "gold"}, same, *[Unreadable("record")] * 2]


def test_a_number_is_the_text_that_a_folder_can_have(make, tmp_path):
    make("tax_id=2024/meta=true/a.jsonl", '{"code": "1", "tax_id": 2024, "meta": true}\n')
    make("tax_id=2024/meta=true/b.jsonl", '{"code": "2", "tax_id": 2025, "meta": true}\n')
    assert read(tmp_path) == [{"code": "1", "tax_id": 2024, "meta": True}, Unreadable("record")]


def test_a_column_that_is_dropped_may_say_anything(make, tmp_path):
    """As Kafka Connect writes: the folder has the text of a time, the record its number."""
    make("day=2024-05-01/a.jsonl", '{"code": "1", "day": 1714521600}\n{"code": "2"}\n')
    assert [record["code"] for record in read(tmp_path, {"day": None})] == ["1", "2"]


def test_a_plan_in_some_folders_names_alone_is_an_error(make, tmp_path):
    make("a.csv")
    make("plan=gold/b.csv")
    with pytest.raises(InvalidPatientsError, match="a plan column, unlike the files before"):
        read(tmp_path)


def test_what_they_say_of_a_patient_is_in_no_message(make, tmp_path, caplog):
    caplog.set_level("INFO")
    make("day=1/plan=%67old/birth_date=1980-02-03/m.csv", "code,first_name\n1,Ada\n2,Bo,x\n")
    make("day=1/plan=basic/birth_date=null/n.csv", "code,name\n1,Ada")
    reading = FileReadOptions(ColumnMapping({"day": None}))
    located = read_files(str(tmp_path), None, reading)
    first, second = next(located), next(located)
    name = f"{tmp_path}/day=1/plan=*/birth_date=*"
    assert first.record["plan"] == "gold"
    assert first.location.file == second.location.file == f"{name}/m.csv (file 1 of 2)"
    with pytest.raises(InvalidPatientsError, match="first_name") as caught:
        next(located)
    assert str(caught.value).startswith(f"{name}/n.csv (file 2 of 2) has ")
    read = [line for line in caplog.messages if line.startswith("Reading")]
    assert read == [f"Reading {name}/m.csv (file 1 of 2)", f"Reading {name}/n.csv (file 2 of 2)"]


@pytest.mark.parametrize("end", ["m.csv.tmp", "m.csv.8fE2dAbC", "_delta_log/0.json"])
def test_nor_is_it_where_a_file_is_skipped_or_refused(make, tmp_path, caplog, end):
    caplog.set_level("INFO")
    folder = "plan=Canaryplan/birth_date=1980-02-03"
    for name in ("_SUCCESS", ".m.csv.crc", "m.csv.md5", "m.csv.bak"):
        make(f"{folder}/{name}")
    with pytest.raises(SourceError, match="There is no file"):
        find_files(str(tmp_path))
    with pytest.raises(SourceError, match="There is no file"):
        find_files(f"{tmp_path}/**/m*")
    make(f"{folder}/{end}")
    with pytest.raises((SourceError, InvalidPatientsError)) as caught:
        find_files(str(tmp_path))
    for text in (caplog.text, str(caught.value)):
        assert "/plan=*/birth_date=*" in text
        assert "Canaryplan" not in text
        assert "1980" not in text


def test_but_what_is_dropped_says_which_file_it_is(make, tmp_path):
    for day in (1, 2):
        make(f"plan=gold/day={day}/m.csv")
    make("plan=gold/day=2/export_day=2.csv.tmp")
    problem = rf"^{tmp_path}/plan=\*/day=2/export_day=2\.csv\.tmp seems to be an upload"
    with pytest.raises(SourceError, match=problem):
        next(read_files(str(tmp_path), None, FileReadOptions(ColumnMapping({"day": None}))))


def test_a_transform_reads_what_is_dropped(make, tmp_path, caplog):
    caplog.set_level("INFO")
    make("dni=12345678Z/m.csv", "code,first_name\n1,Ada\n")
    header = ColumnMapping({"dni": None}, is_transformed=True)
    (located,) = read_files(str(tmp_path), None, FileReadOptions(header))
    assert located.record["dni"] == "12345678Z"
    assert located.location.file == f"{tmp_path}/dni=*/m.csv (file 1 of 1)"
    assert "12345678Z" not in caplog.text


def _refused(path):
    return PermissionError(13, "Permission denied", path)


def _translated(path):
    error = PermissionError("Access Denied")
    error.__cause__ = _refused(path)
    error.add_note(path)
    return error


@pytest.mark.parametrize(
    ("say", "said"),
    [
        (_refused, "nothing that can be shown"),
        (lambda path: OSError(quote(path, safe="")), "nothing that can be shown"),
        (lambda path: OSError(path.replace("=", "\\u003d")), "nothing that can be shown"),
        (_translated, "Access Denied"),
        (lambda path: ExceptionGroup("many", [_refused(path)]), "many"),
    ],
    ids=["its path", "a URL", "JSON", "another error", "errors"],
)
def test_nor_is_it_in_what_a_storage_says(make, tmp_path, monkeypatch, say, said):
    make("plan=Canaryplan/m.csv")
    ls = LocalFileSystem.ls

    def refuse(storage, path, **options):
        if "plan=" in path:
            raise say(path)
        return ls(storage, path, **options)

    monkeypatch.setattr(LocalFileSystem, "ls", refuse)
    problem = rf"^Cannot list {tmp_path}/plan=\*: \w+\.\nThe storage says: {said}"
    with pytest.raises(SourceError, match=problem) as caught:
        find_files(str(tmp_path))
    assert "Canaryplan" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


def test_nor_where_a_pipe_is_refused(tmp_path):
    (tmp_path / "plan=Canaryplan").mkdir()
    os.mkfifo(tmp_path / "plan=Canaryplan" / "m.csv")
    with pytest.raises(SourceError) as caught:
        find_files(str(tmp_path))
    assert str(caught.value) == f"{tmp_path}/plan=*/m.csv is neither a file nor a folder."


def test_a_link_to_a_folder_is_no_upload_in_progress(make, tmp_path):
    make("2.1a2b3c4d/m.csv")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "run.1a2b3c4d").symlink_to(tmp_path / "2.1a2b3c4d")
    assert len(find_files(f"{tmp_path}/in")) == 1


# --- neighbours -----------------------------------------------------------------------------------


def test_what_never_holds_data_is_passed_over_with_a_line_in_the_log(make, tmp_path, caplog):
    caplog.set_level("INFO")
    names = [
        "m.csv.md5",
        "m.csv.metadata",
        "m.csv.SHA256",
        "SHA256SUMS",
        "m.csv.asc",
        "m.csv.SIG",
        "Thumbs.db",
        "m_$folder$",
    ]
    for name in ["m.csv", "~$m.xlsx", *names]:
        make(name)
    for path in (tmp_path, f"{tmp_path}/*"):
        assert len(find_files(str(path))) == 1
    assert f"Skipped {tmp_path}/~$m.xlsx: it holds no records." in caplog.messages
    assert len([line for line in caplog.messages if line.startswith("Skipped ")]) == 2 * 9


@pytest.mark.parametrize("name", ["south.asc", "m.csv.asc"])
def test_a_signature_of_no_file_may_be_data(make, tmp_path, name):
    make("north.csv")
    make(name)
    for path in (tmp_path, f"{tmp_path}/*", f"{tmp_path}/{name}"):
        assert f"{tmp_path}/{name}" in [file.key for file in find_files(str(path))]


def test_nor_is_a_backup_read(make, tmp_path, caplog):
    caplog.set_level("INFO")
    names = [f"m.csv{end}" for end in [".bak", "~", ".swp"]]
    for name in ["m.csv", "part.csv", *names]:
        make(name)
    for path in (tmp_path, f"{tmp_path}/*"):
        assert len(find_files(str(path))) == 2
    skipped = {f"Skipped {tmp_path}/{name}: it is a backup." for name in names}
    assert skipped <= {*caplog.messages}
    assert len(find_files(f"{tmp_path}/*.bak")) == len(find_files(f"{tmp_path}/m.csv~")) == 1


@pytest.mark.parametrize(
    "name",
    [
        ".m.csv.part",
        "_m.csv.tmp",
        ".m.csv._COPYING_",
        ".m.csv.Xk3aQz",
        ".~tmp~/m.csv",
        ".in.m.csv.",
        ".in.m.csv",
        ".pureftpd-upload.65a.15.1c.0",
        ".sftpgo-upload.x1.m.csv",
        ".azDownload-0b-m.csv",
        ".distcp.tmp.attempt_1",
        ".part-0-0.inprogress.1a-2b",
        "_temporary/0/_temporary/attempt_0/m.csv",
        "day=1/_temporary/m.csv",
    ],
)
def test_also_under_a_hidden_name(make, tmp_path, name):
    """As rsync, FTP servers, AzCopy, Hadoop, Flink and Spark write."""
    make("a.csv")
    make(name)
    for path in (tmp_path, f"{tmp_path}/*", f"{tmp_path}/**/*"):
        if path != f"{tmp_path}/*" or "=" not in name:
            with pytest.raises(SourceError, match="seems to be an upload in progress"):
                find_files(str(path))
    assert len(find_files(f"{tmp_path}/a*")) == 1


@pytest.mark.parametrize(
    "end",
    [".tmp", ".part", ".partial", ".filepart", ".crdownload", "._COPYING_", ".inprogress"]
    + [
        ".part.minio",
        ".temp",
        ".download",
        ".opdownload",
        ".uploading",
        ".incomplete",
        ".aria2",
        "_.gstmp",
    ]
    + [".8fE2dAbC", ".deadbeef", ".0000000a"],
)
def test_half_an_upload_is_an_error(make, tmp_path, end):
    """Its members would be missing, and may lose their plan."""
    make("a.csv")
    make(f"m.csv{end}")
    for path in (tmp_path, f"{tmp_path}/*"):
        with pytest.raises(SourceError, match=rf"m.csv{end} seems to be an upload in progress"):
            find_files(str(path))
    for path in (f"*.csv{end}", f"m.csv{end}", "*.csv"):
        assert len(find_files(f"{tmp_path}/{path}")) == 1


def test_the_name_of_a_folder_is_no_file_that_is_signed(make, tmp_path):
    make("south/m.csv", "code,first_name\n1,Ada\n")
    make("south.asc", "code,first_name\n2,Bo\n")
    for path in (tmp_path, f"{tmp_path}/*"):
        assert len(find_files(str(path))) == 2


@pytest.mark.parametrize("name", ["part_01.8fE2dAbC", "000000_0.8fE2dAbC", "a.1a2b3c4d/b.8fE2dAbC"])
def test_so_is_half_a_download_of_a_file_without_an_extension(make, tmp_path, name):
    make("part_00")
    make(name)
    for path in (tmp_path, f"{tmp_path}/**"):
        with pytest.raises(SourceError, match=rf"{name} seems to be an upload in progress"):
            find_files(str(path))


@pytest.mark.parametrize(
    "name",
    ["m.csv.20261129", "m.20261129", "m-8fE2dAbC.csv", "deadbeef", "m.csv.8fE2dAb"]
    + ["run.1a2b3c4d/m.csv", "1.1a2b3c4d/2.1a2b3c4d/m.csv"],
)
def test_a_day_or_a_hash_in_a_name_is_no_upload_in_progress(make, tmp_path, name):
    make(name)
    assert len(find_files(str(tmp_path))) == 1


def test_a_hidden_file_is_passed_over_with_a_line_in_the_log(make, tmp_path, caplog):
    caplog.set_level("INFO")
    make("a.csv")
    make(".m.csv")
    make("_SUCCESS")
    assert len(find_files(str(tmp_path))) == 1
    assert {f"Skipped {tmp_path}/{name}: it is hidden." for name in (".m.csv", "_SUCCESS")} == {
        *caplog.messages
    }


def test_but_not_where_it_is_asked_for(make, tmp_path):
    make("m.csv.md5")
    assert len(find_files(f"{tmp_path}/m.csv.md5")) == len(find_files(f"{tmp_path}/*.md5")) == 1
    with pytest.raises(SourceError, match="There is no file"):
        find_files(str(tmp_path))


@pytest.mark.parametrize("path", ["", "/*", "/README*"])
def test_of_others_the_error_names_the_file_and_a_glob_without_it(path):
    with pytest.raises(InvalidPatientsError) as caught:
        read(f"{CASES}/neighbours{path}")
    assert str(caught.value).startswith(f"{CASES}/neighbours/README.md has ")
    glob = f"{CASES}/neighbours/**/*.csv"
    if path != "/README*":
        assert str(caught.value).endswith(
            f"\nIf it holds no members, leave it out with a glob: {glob}"
        )
        assert len(read(glob)) == 1
