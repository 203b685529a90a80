"""What is read from a file: every record with its location, and nothing of it in an error."""

import bz2
import csv
import datetime as dt
import gzip
import io
import json
import lzma
import random
import tarfile
import traceback
import zipfile
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_mediquo.api.errors import InvalidPatientsError, SourceError
from airflow_provider_mediquo.api.patients.fields import is_blank
from airflow_provider_mediquo.api.patients.schema import check_patient
from airflow_provider_mediquo.api.records import EmptyPart, Unreadable
from airflow_provider_mediquo.sources.columns import ColumnMapping
from airflow_provider_mediquo.sources.files import bounded_gzip as unpacked
from airflow_provider_mediquo.sources.files import json_lines
from airflow_provider_mediquo.sources.files.bounded_lines import MAX_LINE
from airflow_provider_mediquo.sources.files.reader import FileReadOptions, read_files

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

HEADER = "code,first_name,plan"
SECRET = "Canaryinamine"
CASES = Path(__file__).parent / "data"


class Folder:
    """A folder of files, and what is read from it."""

    def __init__(self, path):
        self.path = path

    def stream(self, name="", *, columns=None, is_transformed=False, **text):
        reading = FileReadOptions(ColumnMapping(columns, is_transformed=is_transformed), **text)
        return read_files(str(self.path / name), None, reading)

    def read(self, content, **options):
        """Return each record, and each line where one was found."""
        content = content if isinstance(content, bytes) else content.encode()
        (self.path / "file").write_bytes(content)
        located = [each for each in self.stream("file", **options) if not is_empty_part(each)]
        assert {location.file for _, location in located} <= {str(self.path / "file")}
        return [record for record, _ in located], [location.line for _, location in located]

    def records(self, content, **options):
        return self.read(content, **options)[0]

    def fails(self, content, kind, **options):
        """Return what is said, after a look that no value of a patient is in it."""
        with pytest.raises(kind) as caught:
            self.read(content, **options)
        error = caught.value
        assert error.__cause__ is error.__context__ is None
        assert SECRET.lower() not in "".join(traceback.format_exception(error)).lower()
        return str(error).replace(f"{self.path}/", "")


def is_empty_part(located):
    return isinstance(located.record, EmptyPart)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return Folder(tmp_path_factory.mktemp("files"))


@pytest.fixture
def files(tmp_path):
    return Folder(tmp_path)


def ada(**fields):
    return {"code": "m-1", "first_name": "Ada", "plan": "basic"} | fields


def parquet(columns, **options):
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, **options)
    return file.getvalue()


# --- CSV ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_a_row_is_its_header_with_its_cells(folder, end, last):
    text = end.join([HEADER, "m-1,Ada,basic", "m-2,Bo,"]) + end * last
    assert folder.read(text) == ([ada(), {"code": "m-2", "first_name": "Bo", "plan": ""}], [2, 3])


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_fits_the_header(folder, delimiter):
    rows = [["plan", '"code"', "first_name"], ["basic", "m-1", f'"Ada{delimiter}Bo"']]
    text = "\n".join(delimiter.join(row) for row in rows)
    assert folder.records(text) == [ada(first_name=f"Ada{delimiter}Bo")]


def test_also_where_the_others_are_in_the_names(folder):
    text = 'member, of;name|first,"last";plan\nm-1;Ada;basic'
    columns = {"member, of": "code", 'name|first,"last"': "first_name"}
    assert folder.records(text, columns=columns) == [
        {"member, of": "m-1", 'name|first,"last"': "Ada", "plan": "basic"}
    ]


def test_another_delimiter_can_be_given(folder):
    assert folder.records(HEADER.replace(",", "~") + "\nm-1~Ada~basic", delimiter="~") == [ada()]


@pytest.mark.parametrize("delimiter", ["", ";;", "\\t", "\n", '"'])
def test_what_cannot_be_a_delimiter(delimiter):
    with pytest.raises(ValueError, match="`delimiter` must be one character"):
        FileReadOptions(ColumnMapping(), delimiter=delimiter)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "iso-8859-15", "utf-16", "utf-16-le"]
)
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_it_is_read_in_its_encoding(folder, encoding, kind):
    record = ada(first_name="Zoë Núñez")
    text = f"{HEADER}\nm-1,Zoë Núñez,basic\n" if kind == "csv" else json.dumps(record) + "\n"
    assert folder.records(text.encode(encoding), encoding=encoding) == [record]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("said", ["utf-8", "cp1252", "utf-16-le"])
def test_a_byte_order_mark_says_what_it_is(folder, encoding, said):
    text = f"{HEADER}\nm-1,Zoë,basic"
    assert folder.records(text.encode(encoding), encoding=said) == [ada(first_name="Zoë")]


@pytest.mark.parametrize("encoding", ["utf-16", "UTF16", "utf-32"])
def test_without_one_these_need_the_order_of_their_bytes(folder, encoding):
    wide = f"utf-{encoding[-2:]}"
    for text in (f"{HEADER}\nm-1,Ada,basic".encode(f"{wide}-le"), b"code,first_name\nm-1,Ada"):
        said = folder.fails(text, InvalidPatientsError, encoding=encoding)
        assert said == (
            f"file has no byte order mark.\nSet `encoding` to {wide}-le or {wide}-be, or to another one "
            f"if it is no {wide}."
        )
    assert folder.records("", encoding=encoding) == []


def test_bytes_of_another_encoding_spoil_their_record_alone(folder):
    text = f"{HEADER}\nm-1,Zo".encode() + b"\xeb" + b",basic\nm-2,Bo,basic"
    first, second = folder.records(text)
    assert check_patient(first)[1] == {"first_name": "text"}
    assert check_patient(second)[1] == {}


def test_but_in_the_header_they_spoil_it_all(folder):
    text = f"{HEADER},teléfono\nm-1,{SECRET},basic,1".encode("latin-1")
    said = folder.fails(text, InvalidPatientsError)
    assert (
        said == "The header of file is in another encoding than it is read with.\nSet `encoding`."
    )


def test_where_broken_bytes_cannot_be_told_apart_the_file_cannot_be_read(folder):
    text = f"{HEADER}\nm-1,{SECRET},basic\n".encode("utf-16")
    said = folder.fails(text + b"\x00\xd8\x00", SourceError)
    assert said == "file cannot be read (any further):\nUnicodeDecodeError."


@pytest.mark.parametrize("delimiter", [5, "", ",,", "\n", '"'])
def test_what_is_no_delimiter(delimiter):
    with pytest.raises(ValueError, match="`delimiter` must be one character"):
        FileReadOptions(ColumnMapping(), delimiter=delimiter)


@pytest.mark.parametrize("encoding", ["utf-9", "base64", "rot13", ""])
def test_what_is_no_encoding(encoding):
    with pytest.raises(ValueError, match="`encoding`: Python knows no"):
        FileReadOptions(ColumnMapping(), encoding=encoding)


def test_quoted_cells_may_hold_anything(folder):
    text = f'{HEADER},meta\nm-1,"A ""B"",;C",basic,"{{\n\r\n}}"\nm-2,Bo,basic,\n'
    records, lines = folder.read(text)
    assert [record["first_name"] for record in records] == ['A "B",;C', "Bo"]
    assert [record["meta"] for record in records] == ["{\n\r\n}", ""]
    assert lines == [2, 5], "not where the row before begins"


def test_rows_between_two_quotes_too_few_are_not_one_patient(folder):
    text = f'{HEADER}\nm-1,"{SECRET},b\nm-2,Bo,b\nm-3,Cy",b\nm-4,Di,b\n'
    records, lines = folder.read(text)
    assert records == [*[Unreadable("lines")] * 3, ada(code="m-4", first_name="Di", plan="b")]
    assert lines == [2, 3, 4, 5], "each of them is rejected"


@pytest.mark.no_cover
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("at", [0, 1, 2, 3])
@pytest.mark.parametrize("between", [0, 1, 3])
@pytest.mark.parametrize("dropped", ["note", "meta"])
def test_nor_are_they_in_a_column_that_may_hold_lines(folder, dropped, between, at, end):
    header = ["code", "first_name", "plan"]
    header.insert(at, dropped)
    rows = [["m-0", "Ada", "basic"] for _ in range(between + 3)]
    for row, note in zip(rows, ['"to do', *["x"] * between, 'done"', "{}"], strict=True):
        row.insert(at, note)
    text = "".join(",".join(row) + end for row in [header, *rows])
    columns = {"note": None} if dropped == "note" else None
    records, lines = folder.read(text, columns=columns)
    assert records[:-1] == [Unreadable("lines")] * (between + 2)
    assert records[-1]["code"] == "m-0"
    assert lines == [*range(2, between + 5)]


def test_a_quote_inside_a_cell_is_one(folder):
    assert folder.records(f'{HEADER}\nm-1,Ada 5" Day,basic') == [ada(first_name='Ada 5" Day')]


def test_blank_lines_are_none(folder):
    assert folder.read(f"\n \n{HEADER}\n\nm-1,Ada,basic\n\n\n") == ([ada()], [5])


@pytest.mark.parametrize("row", [",,", " , ,\u00a0", '"","",""', ",", ",,,,,", " ", "\x1a"])
def test_nor_are_rows_of_blank_cells(folder, row):
    assert folder.read(f"{HEADER}\n{row}\nm-1,Ada,basic\n{row}\n") == ([ada()], [3])


def test_rows_of_invisible_cells_are_skipped(folder):
    text = f"{HEADER}\n\u200b,,\nm-1,Ada,basic\n\u2060, ,\ufeff\n"
    assert folder.read(text) == ([ada()], [3])


def test_rows_that_were_emptied_in_a_spreadsheet_are_skipped(folder):
    records, lines = folder.read((CASES / "words" / "empty-rows.csv").read_bytes())
    assert [record["code"] for record in records] == ["1", "2"]
    assert lines == [2, 3]


@pytest.mark.parametrize("row", ["m-1,Ada", "m-1,Ada,basic,", '"m-1,Ada,basic"'])
def test_a_row_with_other_cells_than_the_header_is_none(folder, row):
    records, lines = folder.read(f"{HEADER}\n{row}\nm-1,Ada,basic\n")
    assert (records, lines) == ([Unreadable("cells"), ada()], [2, 3])


@pytest.mark.parametrize(
    "row", ['m-1,"Ada "Bo" Day",basic', 'm-1,"Ada" ,basic', r'm-1,"Ada \"Bo\"",basic']
)
def test_wrong_quotes_spoil_their_row_alone(folder, row):
    records, lines = folder.read(f"{HEADER}\n{row}\nm-1,Ada,basic\n")
    assert (records, lines) == ([Unreadable("cells"), ada()], [2, 3])


@pytest.mark.parametrize(
    ("rows", "rules"),
    [
        ('m-1,"Ada,basic\nm-2,Bo,basic\nm-3,Cy,basic', ["cells", None, None]),
        ('m-1,"Ada,basic\nm-2,"Bo",basic\nm-3,Cy,basic', ["cells", None, None]),
        ('m-1,"Ada\n" x,basic\nm-3,Cy,basic\nm-4,Di,', ["cells", "lines", "lines", None]),
        ('m-1,"Ada" x,"\nm-2,Bo,basic', ["cells", None]),
    ],
)
def test_a_quote_that_is_not_closed_does_not_end_the_file(folder, rows, rules):
    records, lines = folder.read(f"{HEADER}\n{rows}\n")
    assert [getattr(record, "rule", None) for record in records] == rules
    assert lines == [*range(2, 2 + len(rules))]


@pytest.mark.parametrize(
    "text",
    [
        f"m-1,{SECRET},basic\n",
        f"{SECRET}\n",
        f"code,{SECRET}\n",
        f"first_name;{SECRET},plan\n",
        f'"{SECRET}\n',
        f"{SECRET}" * 200_000,
    ],
)
def test_without_a_header_no_value_is_taken_for_a_name(folder, text):
    folder.fails(text, (InvalidPatientsError, SourceError))


def test_columns_that_are_no_field_are_named(folder):
    said = folder.fails(f"{HEADER},Alter\nm-1,{SECRET},basic,7", InvalidPatientsError)
    assert said.startswith("file has unknown columns:\nAlter.")


def test_names_of_its_own_are_for_the_upload_to_change(folder):
    text = "id;first_name;x\nm-1;Ada;y"
    assert folder.records(text, columns={"id": "code", "x": None}) == [
        {"id": "m-1", "first_name": "Ada", "x": "y"}
    ]


@pytest.mark.parametrize("content", [HEADER, f"{HEADER}\n", f"sep=,\n{HEADER}\r\n \r\n\x1a"])
def test_a_header_alone_has_no_records_and_is_logged(folder, caplog, content):
    assert folder.read(content) == ([], [])
    assert caplog.messages[1:] == [f"{folder.path}/file is empty: it has only a header."]


def test_so_are_the_columns_of_parquet_alone(folder, caplog):
    assert folder.read(parquet({"code": pa.array([], "string"), "first_name": []})) == ([], [])
    assert caplog.messages[1:] == [f"{folder.path}/file is empty: it has only columns."]


@pytest.mark.parametrize(
    "content", [f"{HEADER}\n\nm-1,Ada,basic", parquet({"code": ["m-1"], "first_name": ["Ada"]})]
)
def test_a_file_with_a_record_is_not_called_empty(folder, caplog, content):
    assert len(folder.records(content)) == 1
    assert "empty" not in caplog.text


# --- JSON lines -----------------------------------------------------------------------------------


def test_a_line_is_an_object(folder):
    first, second = ada(meta={"a": [1, None, {"b": "ñ"}]}), {"code": 7, "first_name": None}
    text = f"\n{json.dumps(first)}\r\n \n{json.dumps(second, ensure_ascii=False)}"
    assert folder.read(text) == ([first, second], [2, 4])


@pytest.mark.parametrize(
    "line",
    [
        '{"code": "m-1", "first_na',
        "[1]",
        '"m-1"',
        "null",
        "NaN",
        '{"code": "m-1",}',
        "{'code': 'm-1'}",
        '{"code": "m-1", "code": "m-2"}',
        '{"code": ' + "9" * 10_000 + "}",
        '{"meta": ' + "[" * 100_000,
        "m-1,Ada,basic",
    ],
    ids=range(11),
)
def test_a_line_that_is_no_object_spoils_no_other(folder, line):
    text = f"{json.dumps(ada())}\n{line}\n{json.dumps(ada())}\n"
    assert folder.read(text) == ([ada(), Unreadable("record"), ada()], [1, 2, 3])


@pytest.mark.parametrize("at_once", [100, 130, MAX_LINE])
def test_an_object_inside_one_that_is_broken_is_no_record(folder, monkeypatch, at_once):
    monkeypatch.setattr(json_lines, "MAX_LINE", at_once)
    inner = json.dumps(ada(code="m-9"))
    lines = [f'{{"code": "m-2", "meta": {{…}} {inner}}}', f'{{"note": "{{}} {inner}"}}']
    for line in lines:
        text = f"{json.dumps(ada())}\n{line}\n{json.dumps(ada())}\n"
        assert folder.read(text) == ([ada(), Unreadable("record"), ada()], [1, 2, 3])
    after = "".join(json.dumps(ada(code=f"m-{number}")) for number in range(3))
    found = folder.records(f"{{…}}{after}{lines[0]}{after}\n")
    assert [getattr(each, "rule", None) or each["code"] for each in found] == (
        ["record", "m-0", "m-1", "m-2"] + ["record", "m-0", "m-1", "m-2"]
    )


META_TWICE = '{"a": [{"b": 1, "b": 2}]}'
META_TWICE_CSV = META_TWICE.replace('"', '""')


@pytest.mark.parametrize(
    "content",
    [
        (CASES / "json" / "meta-key-twice.csv").read_bytes(),
        f'code,first_name,meta\nm-1,Ada,"{META_TWICE_CSV}"\n',
        f'{{"code": "m-1", "first_name": "Ada", "meta": {META_TWICE}}}',
        '{"code": "m-1", "first_name": "Ada", "meta": {"a": 1, "a": 1}}{"code": 2}',
        json.dumps({"code": "m-1", "first_name": "Ada", "meta": META_TWICE}),
        parquet({"code": ["m-1"], "first_name": ["Ada"], "meta": [META_TWICE]}),
        parquet({"code": ["m-1"], "first_name": ["Ada"], "meta": [META_TWICE.encode()]}),
    ],
    ids=range(7),
)
def test_a_key_twice_in_meta_spoils_meta_in_each_format(folder, content):
    record, *_ = folder.records(content)
    assert check_patient(record)[1] == {"meta": "object"}
    assert record["code"]


@pytest.mark.parametrize("empty", [{}, {"code": None, "first_name": " "}, {"plan": "\u200b"}])
def test_an_object_without_values_is_skipped(folder, empty):
    text = "".join(f"{json.dumps(each)}\n" for each in (empty, ada(), empty, {"code": 0}))
    assert folder.read(text) == ([ada(), {"code": 0}], [2, 4])


@pytest.mark.parametrize("gap", ["", " ", "\t", "\r", "\ufeff"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_a_line_may_hold_several_objects(folder, gap, end):
    objects = [ada(code=number, meta={"a": "}{"}) for number in range(5)]
    text = gap.join(map(json.dumps, objects)) + end
    assert folder.read(text + json.dumps(ada())) == ([*objects, ada()], [1] * 5 + [1 + bool(end)])
    case = (CASES / "json" / "no-line-ends.jsonl").read_bytes()
    assert [record["code"] for record in folder.records(case)] == ["1", "2"]


@pytest.mark.no_cover
@pytest.mark.parametrize(("length", "count"), [(100, 2000), (1000, 2000), (MAX_LINE, 20_000)])
def test_also_where_they_are_far_longer_than_a_line_may_be(folder, monkeypatch, length, count):
    monkeypatch.setattr(json_lines, "MAX_LINE", length)
    objects = [ada(code=number) for number in range(count)]
    assert folder.records("".join(map(json.dumps, objects))) == objects


@pytest.mark.parametrize("broken", ['{"code": 1, "code": 2}', '{"code": "1" "2"}', '{"code": }'])
@pytest.mark.parametrize("length", [200, MAX_LINE])
def test_one_that_is_broken_spoils_no_other(folder, monkeypatch, broken, length):
    monkeypatch.setattr(json_lines, "MAX_LINE", length)
    objects = [ada(code=number) for number in range(2000)]
    text = [json.dumps(each) for each in objects]
    records = folder.records("".join([*text[:1000], broken, *text[1000:]]))
    assert records == [*objects[:1000], Unreadable("record"), *objects[1000:]]


def test_commas_between_objects_are_an_error_that_says_so(folder):
    text = f'{{"code": "{SECRET}"}},{{"code": "2"}}'
    said = folder.fails(text, InvalidPatientsError)
    assert said.startswith("file has commas between its JSON objects.\nWrite one object per line")


def test_nor_do_bytes_of_another_encoding(folder):
    first, second = folder.records(b'{"code": "m-1", "first_name": "Zo\xeb"}\n{"code": "m-2"}')
    assert check_patient(first)[1] == {"first_name": "text"}
    assert second == {"code": "m-2"}


@pytest.mark.parametrize(
    "text", ['[{"code": "%s"}]', ' [\n{"code": "%s"}\n]', "[]", '[["code"],\n["%s"]]']
)
def test_a_json_array_is_asked_for_as_lines(folder, text):
    said = folder.fails(text.replace("%s", SECRET), InvalidPatientsError)
    assert said.startswith("file is a JSON array.\nWrite one object per line instead: JSON Lines.")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{\n "code": 1,\n "first_name": "%s"\n}\n', "JSON with line breaks in its objects."),
        ('{"members": [\r\n{"code": 1}\r\n]}', "JSON with line breaks in its objects."),
        ('{"members": [{"code": 1, "first_name": "%s"}]}', "a JSON object around a list."),
        (
            '{"n": 1, "code": "x", "data": [ {"first_name": "%s"}]}\n',
            "a JSON object around a list.",
        ),
        ('{"data": [{"first_name": "' + "%s" * 400_000, "a JSON object around a list."),
        ('{"data": {"members": [{"code": "%s"}]}}', "a JSON object around a list."),
        (
            '{"n": 1, "data": {"n": 1, "all": [{"first_name": "' + "%s" * 400_000,
            "a JSON object around a list.",
        ),
        ('{"columns": ["code"], "index": [0], "data": [["%s"]]}', "a JSON object of all records."),
        ('{"code": {"0": 1}, "first_name": {"0": "%s"}}', "a JSON object of all records."),
        ('{"data": {"members": {"edges": [{"code": "%s"}]}}}', "a JSON object of all records."),
    ],
    ids=range(10),
)
def test_all_members_in_one_object_are_an_error_and_no_reject(folder, text, what):
    said = folder.fails(text.replace("%s", SECRET), InvalidPatientsError)
    assert said.replace("\n", " ").startswith(f"file is {what} Write one object per line.")


def test_an_object_may_hold_a_list_of_others(folder):
    record = {"cards": [{"id": 1}], **ada(code=1)}
    assert folder.records(json.dumps(record) * 2, columns={"cards": None}) == [record, record]
    reading = FileReadOptions(ColumnMapping(is_transformed=True))
    for record in (
        {"cards": [{"id": 1}], "member": "x"},
        {"after": {"cards": [{"id": 1}]}},
        {"id": [1]},
    ):
        (folder.path / "file").write_text(json.dumps(record))
        records = read_files(str(folder.path / "file"), None, reading)
        assert [each.record for each in records] == [record]


@pytest.mark.parametrize("first", ["// members", "//\r", "null", "null\n\n// a, b"])
def test_json_lines_may_begin_with_a_line_that_is_no_object(folder, first):
    records = folder.records(f"{first}\n{json.dumps(ada())}\n")
    assert [each for each in records if each != Unreadable("record")] == [ada()]
    assert Unreadable("record") in records


@pytest.mark.parametrize(
    "content", [",Id\nx,1\n", parquet({"": ["x"], "Id": ["1"]})], ids=["csv", "parquet"]
)
def test_with_a_transform_a_column_may_have_no_name(folder, content):
    assert folder.records(content, is_transformed=True) == [{"Id": "1", "": "x"}]


# --- lines that are far too long ------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_line_that_is_far_too_long_is_left_out_of_json_lines(folder, monkeypatch, count):
    monkeypatch.setattr(json_lines, "MAX_LINE", 100)
    long = json.dumps(ada(last_name="x" * (100 * count + 60)))
    records, lines = folder.read(f"{json.dumps(ada())}\n{long}\n{json.dumps(ada())}\n")
    assert (records, lines) == ([ada(), Unreadable("record"), ada()], [1, 2, 3])


def test_the_object_behind_it_on_the_same_line_is_found_wherever_a_piece_ends(folder, monkeypatch):
    monkeypatch.setattr(json_lines, "MAX_LINE", 100)
    for more in range(100):
        long = json.dumps(ada(last_name="x" * (200 + more)))
        records = folder.records(f"{long}  {json.dumps(ada())}\n")
        assert records == [Unreadable("record"), ada()], more


def test_and_ends_a_csv_where_it_may_be_any_number_of_rows(folder):
    text = f"{HEADER}\nm-1,{SECRET}" + "x" * MAX_LINE + "\nm-2,Bo,basic\n"
    assert "line 2 is longer than 1,048,576 characters" in folder.fails(text, SourceError)


@pytest.mark.no_cover
@pytest.mark.parametrize("text", [f"{HEADER}\nm-1,", '{"code": "', f'{HEADER}\nm-1,"'])
def test_a_line_without_an_end_does_not_fill_the_memory(files, monkeypatch, text):
    import tracemalloc

    monkeypatch.setattr(unpacked, "FREE", 1 << 30)
    with gzip.open(files.path / "bomb.gz", "wb", 1) as file:
        file.write(text.encode())
        for _ in range(64):
            file.write(b"x" * (1 << 20))
    tracemalloc.start()
    if text.startswith(HEADER):
        with pytest.raises(SourceError, match="line 2 is longer than 1,048,576 characters"):
            list(files.stream("bomb.gz"))
    else:
        assert [record for record, _ in files.stream("bomb.gz")] == [Unreadable("record")]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 << 20


# --- Parquet --------------------------------------------------------------------------------------


def test_a_row_of_parquet_has_pythons_own_values(folder):
    columns = {
        "code": pa.array([1, 2], pa.int64()),
        "first_name": pa.array(["Ada", None]).dictionary_encode(),
        "birth_date": pa.array([dt.date(1990, 4, 12), None]),
        "tax_id": pa.array([Decimal("12.50"), None]),
        "meta": pa.array([{"a": 1, "b": ["x"]}, None]),
    }
    assert folder.read(parquet(columns)) == (
        [
            {
                "code": 1,
                "first_name": "Ada",
                "birth_date": dt.date(1990, 4, 12),
                "tax_id": Decimal("12.50"),
                "meta": {"a": 1, "b": ["x"]},
            },
            dict.fromkeys(columns) | {"code": 2},
        ],
        [1, 2],
    )


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Europe/Madrid"])
def test_a_time_is_pythons_own_whatever_its_unit(folder, unit, zone):
    when = dt.datetime(1990, 4, 12, 1, 2, 3, tzinfo=dt.UTC if zone else None)
    times = pa.array([when], pa.timestamp(unit, zone))
    if unit == "ns":  # which Python cannot hold
        times = pa.array([times.cast(pa.int64())[0].as_py() + 1], pa.int64()).cast(times.type)
    (record,) = folder.records(parquet({"code": ["1"], "first_name": ["A"], "birth_date": times}))
    assert type(record["birth_date"]) is dt.datetime
    assert record["birth_date"] == when


def test_a_time_of_spark_may_be_far_away(folder):
    when = dt.datetime(9999, 12, 31)
    columns = {"code": ["1"], "first_name": ["A"], "birth_date": pa.array([when])}
    content = parquet(columns, use_deprecated_int96_timestamps=True)
    assert folder.records(content)[0]["birth_date"] == when


def test_a_map_is_an_object(folder):
    maps = pa.array([[("a", "1"), ("b", "2")], None], pa.map_(pa.string(), pa.string()))
    columns = {"code": ["1", "2"], "first_name": ["A", "B"], "meta": maps}
    assert [r["meta"] for r in folder.records(parquet(columns))] == [{"a": "1", "b": "2"}, None]


@pytest.mark.parametrize(
    "broken",
    [
        {"last_name": pa.array([b"Zo\xeb", b"Bo"]).cast(pa.binary()).view(pa.string())},
        {"birth_date": pa.array([2**60, 0], pa.int64()).cast(pa.timestamp("us"))},
        {"meta": pa.array([[("a", 1), ("a", 2)], []], pa.map_(pa.string(), pa.int64()))},
    ],
    ids=["text", "date", "object"],
)
def test_a_value_that_python_cannot_hold_is_rejected_under_its_name(folder, broken):
    records, lines = folder.read(parquet({"code": ["1", "2"], "first_name": ["A", "B"], **broken}))
    rule = {"last_name": "text", "birth_date": "date", "meta": "object"}
    assert records[0]["code"] == "1"
    assert check_patient(records[0])[1] == {name: rule[name] for name in broken}
    assert check_patient(records[1])[1] == {}
    assert lines == [1, 2]


def test_a_row_of_parquet_without_values_is_skipped(folder):
    columns = {
        "code": ["1", None, "", "2"],
        "first_name": ["A", None, " ", None],
        "plan": pa.array([None, float("nan"), None, None], pa.float64()),
        "meta": pa.array([{"a": 1}, None, None, None]),
    }
    records, lines = folder.read(parquet(columns))
    assert ([record["code"] for record in records], lines) == (["1", "2"], [1, 4])


def test_a_column_that_is_dropped_is_not_even_read(folder):
    columns = {"id": ["1"], "first_name": ["A"], "a.b": [b"x" * 1000], "c": [{"d": 1}]}
    renames = {"id": "code", "a.b": None, "c": None}
    assert folder.records(parquet(columns), columns=renames) == [{"id": "1", "first_name": "A"}]


def test_parquet_without_columns_of_patients(folder):
    said = folder.fails(parquet({SECRET: ["1"], "code": ["2"]}), InvalidPatientsError)
    assert "no column named first_name" in said


def test_parquet_that_is_cut_off(folder):
    said = folder.fails(parquet({"code": ["1"], "first_name": [SECRET]})[:-1], SourceError)
    assert said == "file cannot be read (any further):\nArrowInvalid."


def test_parquet_needs_pyarrow(folder, monkeypatch):
    (folder.path / "file").write_bytes(parquet({"code": ["1"], "first_name": ["A"]}))
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(SourceError, match=r"pip install 'airflow-provider-mediquo\[parquet\]'"):
        list(folder.stream("file"))


ENCRYPTED = ["encrypted-column-plain-footer", "encrypted-dropped-column"]


@pytest.mark.parametrize("name", ENCRYPTED)
def test_an_encrypted_column_is_an_error_and_not_the_end_of_the_process(folder, name):
    content = (CASES / "parquet" / f"{name}.parquet").read_bytes()
    said = folder.fails(content, InvalidPatientsError)
    assert said.startswith("file has encrypted columns.\nThey cannot be read:")


def test_one_that_is_dropped_is_not_touched(folder):
    content = (CASES / "parquet" / "encrypted-dropped-column.parquet").read_bytes()
    assert folder.records(content, columns={"plan": None}) == [
        {"code": "1", "first_name": "Ada"},
        {"code": "2", "first_name": "Bo"},
    ]


def test_parquet_with_an_encrypted_footer_is_called_so(folder):
    content = parquet({"code": ["1"], "first_name": [SECRET]})
    for begin, end in ((b"PARE", b"PARE"), (b"PAR1", b"PARE")):
        kind = InvalidPatientsError if begin == b"PARE" else SourceError
        folder.fails(begin + content[4:-4] + end, kind)


@pytest.mark.parametrize("rows", [1, 3000])
def test_lengths_that_are_written_as_differences_are_read(folder, rows):
    names = [f"Ada {number}" for number in range(rows)]
    columns = {"code": [*map(str, range(rows))], "first_name": names, "meta": [{"a": "b"}] * rows}
    encoding = {"first_name": "DELTA_LENGTH_BYTE_ARRAY", "meta.a": "DELTA_LENGTH_BYTE_ARRAY"}
    content = parquet(columns, use_dictionary=["code"], column_encoding=encoding)
    assert [record["first_name"] for record in folder.records(content)] == names
    case = (CASES / "parquet" / "delta-length.parquet").read_bytes()
    assert [record["code"] for record in folder.records(case)] == ["1", "2"]


@pytest.mark.parametrize("kind", [pa.binary(), pa.binary_view()])
def test_bytes_that_are_text_are_text(folder, kind):
    content = (CASES / "parquet" / "binary-strings.parquet").read_bytes()
    assert folder.records(content) == [{"code": "1", "first_name": "Ada", "plan": "gold"}]
    columns = {
        "code": pa.array([b"1", b"2"], pa.large_binary()),
        "first_name": pa.array([b"Zo\xeb", "Zoë".encode()], kind),
        "plan": pa.array([b"gold", None], pa.binary()).dictionary_encode(),
    }
    assert folder.records(parquet(columns)) == [
        {"code": "1", "first_name": ..., "plan": "gold"},
        {"code": "2", "first_name": "Zoë", "plan": None},
    ]


@pytest.mark.parametrize("text", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_also_inside_lists_structs_and_maps(folder, text):
    lists = pa.struct([("a", text), ("b", pa.list_(text)), ("c", pa.large_list(text))])
    good = {"a": "é".encode(), "b": [b"x", None], "c": [b"y"]}
    metas = [
        pa.array([good, None, {"a": b"\xe9"}, {"b": [b"\xe9"]}], lists),
        pa.array([[(b"a", b"x")], None, [(b"a", b"\xe9")], [(b"\xe9", b"")]], pa.map_(text, text)),
    ]
    read = []
    for meta in metas:
        columns = {"code": [*"1234"], "first_name": ["A"] * 4, "meta": meta}
        first, second, *others = folder.records(parquet(columns))
        assert check_patient(first)[1] == check_patient(second)[1] == {}
        assert [check_patient(each)[1] for each in others] == [{"meta": "object"}] * 2
        read.append(first["meta"])
    assert read == [{"a": "é", "b": ["x", None], "c": ["y"]}, {"a": "x"}]


@pytest.mark.parametrize("kind", [pa.binary(1), pa.list_(pa.binary(), 1)])
def test_bytes_that_may_be_numbers_are_rejected(folder, kind):
    value = [b"x"] if pa.types.is_fixed_size_list(kind) else b"x"
    meta = pa.array([{"a": value}], pa.struct([("a", kind)]))
    (record,) = folder.records(parquet({"code": ["1"], "first_name": ["A"], "meta": meta}))
    assert check_patient(record)[1] == {"meta": "object"}


def test_a_page_whose_checksum_is_wrong_is_not_read(folder):
    content = (CASES / "parquet" / "page-checksum-wrong.parquet").read_bytes()
    assert folder.fails(content, SourceError) == "file cannot be read (any further):\nOSError."


def test_a_row_group_that_lacks_rows_is_not_the_end_of_the_file(folder):
    """pyarrow reads up to the end of the shortest column, without an error."""
    codes = [str(number) for number in range(50)]
    content = parquet({"code": codes, "first_name": ["Ada"] * 50})
    at = content.rindex(b"\x16\x64")  # 50: what the row group says, after its columns
    content = content[:at] + b"\x16\x66" + content[at + 2 :]
    said = folder.fails(content, SourceError)
    assert said.endswith("it is damaged. A row group has 51 rows, and 50 can be read.")


def test_a_time_of_int96_is_what_it_is(folder):
    (record,) = folder.records((CASES / "dates" / "int96.parquet").read_bytes())
    assert record["birth_date"] == dt.datetime(1979, 12, 31, 23)


# --- what a file is -------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [f"{HEADER}\nm-1,Ada,basic\n", json.dumps(ada())])
def test_gzip_is_seen_through(folder, text):
    assert folder.records(gzip.compress(text.encode())) == [ada()]


def test_gzip_may_have_members(folder):
    parts = [f"{HEADER}\nm-", "1,Ada,basic\n"]
    assert folder.records(b"".join(gzip.compress(part.encode()) for part in parts)) == [ada()]


@pytest.mark.no_cover
@pytest.mark.parametrize("cut", [1, 4, 8, 9, 20, 2000])
def test_gzip_that_is_cut_off_is_not_its_end(folder, cut):
    rows = "".join(f"m-{number},{SECRET},basic\n" for number in range(10_000))
    content = gzip.compress(f"{HEADER}\n{rows}".encode())[:-cut]
    said = folder.fails(content, SourceError)
    assert said == "file cannot be read (any further):\nEOFError."


def test_gzip_that_is_broken(folder):
    rows = "".join(f"m-{number},{random.random()},basic\n" for number in range(10_000))
    content = bytearray(gzip.compress(f"{HEADER}\n{rows}".encode()))
    content[-8] ^= 1
    assert folder.fails(bytes(content), SourceError).endswith("BadGzipFile.")
    content[len(content) // 2] ^= 255
    folder.fails(bytes(content), SourceError)


def tarred(text):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("members.csv")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text.encode()))
    return file.getvalue()


def feather(compression):
    file = io.BytesIO()
    __import__("pyarrow.feather").feather.write_feather(
        pa.table({"code": ["1"]}), file, compression=compression
    )
    return file.getvalue()


def zipped(text):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("members.csv", text)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (zipped("code"), "a ZIP archive or an Excel workbook"),
        (bz2.compress(b"code"), "compressed with bzip2"),
        (lzma.compress(b"code"), "compressed with xz"),
        ((CASES / "formats" / "avro.csv").read_bytes(), "an Avro file"),
        (feather("uncompressed"), "an Arrow (Feather) file"),
        (b"FEA1\0", "an Arrow (Feather) file"),
        (b"ORC\x08\x03", "an ORC file"),
        (b"<!DOCTYPE html>", "HTML or XML"),
        ("\r\n <HTML>".encode("utf-16"), "HTML or XML"),
        (b"<?xml version='1.0'?>", "HTML or XML"),
        (b"%PDF-1.7", "a PDF document"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"7z\xbc\xaf\x27\x1c\0", "a 7z archive"),
        (b"\x04\x22\x4d\x18\x64", "compressed with LZ4"),
        (b"-----BEGIN PGP MESSAGE-----", "encrypted or signed, as by PGP"),
        (b"\x85\x02\x0c\x03\0", "encrypted with PGP"),
        (tarred("code"), "a tar archive"),
        (gzip.compress(tarred("code")), "a tar archive"),
        (b"\x28\xb5\x2f\xfd\x00", "compressed with Zstandard"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook"),
        (gzip.compress(zipped("code")), "a ZIP archive or an Excel workbook"),
        (gzip.compress(gzip.compress(b"code")), "compressed twice"),
        (gzip.compress(parquet({"code": ["1"]})), "compressed twice"),
    ],
    ids=range(23),  # not the bytes, in which is the time
)
def test_what_cannot_be_read_is_called_by_its_name(folder, content, what):
    said = folder.fails(content, InvalidPatientsError)
    assert said.startswith(f"file is {what}")
    assert said.endswith("Supported: CSV and JSON Lines (plain or gzip), and Parquet.")


@pytest.mark.parametrize(
    "content",
    [b"", gzip.compress(b""), b"\n", b"\r\n", b" \n \n", b"\xef\xbb\xbf", b"\x1a", b"sep=;\n"],
    ids=range(8),
)
def test_an_empty_file_has_no_records_and_is_logged(folder, caplog, content):
    assert folder.read(content) == ([], [])
    assert f"{folder.path}/file is empty." in caplog.messages


@pytest.mark.parametrize("place", ["", "plan=basic"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        gzip.compress(b""),
        b"\xef\xbb\xbf",
        b"\n \n",
        b"code,first_name",
        gzip.compress(b"code,first_name\n"),
        b"code,first_name\n,\n ,\n",
        b"{}\n",
        b'{"code": null}',
    ],
    ids=range(9),
)
def test_a_file_of_text_without_a_record_is_told_among_the_others(files, place, content):
    (files.path / place).mkdir(exist_ok=True)
    for name, text in {"a": b"code,first_name\n1,Ada", "b": content, "c": b'{"code": 2}'}.items():
        (files.path / place / name).write_bytes(text)
    found = list(files.stream())
    assert [type(record) for record, _ in found] == [dict, EmptyPart, dict]
    name = str(files.path / place.replace("basic", "*") / "b")
    name += " (file 2 of 3)" if "*" in name else ""
    assert found[1] == (EmptyPart(name), (name, 1))


@pytest.mark.parametrize(
    "content",
    [
        parquet({"code": pa.array([], "string"), "first_name": []}),
        parquet({"code": pa.array([None], "string"), "first_name": pa.array([None], "string")}),
        f"{HEADER}\nm-1\n",
        "{no object}\n",
        "{" + " " * 5000,
    ],
    ids=range(5),
)
def test_other_files_are_not_told_to_be_without_one(files, content):
    """Parquet without rows is complete: it has a footer. What cannot be read is rejected."""
    content = content if isinstance(content, bytes) else content.encode()
    (files.path / "file").write_bytes(content)
    assert not any(map(is_empty_part, files.stream()))


@pytest.mark.parametrize(
    "header",
    ["ORCID,code,first_name", "ORCÉ,code,first_name", "SEQ,code,first_name", "PK,code,first_name"]
    + ["ORCID\x01code\x01first_name", "PARENT\x01code\x01first_name"]
    + ["PARENTESCO,code,first_name", "PARENT_ID,code,first_name", "Rar!,code,first_name"],
)
def test_a_column_may_be_named_as_a_format(folder, header):
    delimiter = header[-len("_first_name")]
    row = delimiter.join(["x", "1", "Ada"])
    (record,) = folder.records(
        f"{header}\n{row}\n", columns={header.split(delimiter)[0]: None}, delimiter=delimiter
    )
    assert record["code"] == "1"


@pytest.mark.parametrize("end", ["\v", "\f", "\x1c", "\x1e", "\x85", "\u2028", "\u2029"])
@pytest.mark.parametrize("is_transformed", [False, True])
def test_other_ends_of_lines_are_named(folder, end, is_transformed):
    """With `transform`, it was a header without rows: nobody was sent, and the task was green."""
    for lines in ([HEADER, "m-1,Canaryinamine,basic", ""], ["member", "m-1", ""]):
        said = folder.fails(end.join(lines), InvalidPatientsError, is_transformed=is_transformed)
        assert said.startswith("file is a single line.\nIt contains a character that ends lines")


@pytest.mark.parametrize("name", ["Full\u2028name", "Ã\x85lder"])
def test_but_not_in_a_name_with_rows_below_it(folder, name):
    (record,) = folder.records(f"code,{name},first_name\n1,3,Ada\n", columns={name: None})
    assert record["code"] == "1"


def test_half_an_emoji_spoils_its_record_alone(folder):
    records = folder.records((CASES / "formats" / "half-an-emoji-utf16.csv").read_bytes())
    problems = [check_patient(record)[1] for record in records]
    assert problems == [{}, {"first_name": "text"}, {}]


@pytest.mark.parametrize("end", ["\r\n\x1a", "\x1a", "\n\x1a\x1a\x1a", "\n\x1a\n"])
def test_the_end_of_a_file_of_dos_is_no_record(folder, end):
    assert folder.records(f"{HEADER}\nm-1,Ada,basic{end}") == [ada()]
    assert folder.records(f'{HEADER}\n"m-1","Ada","basic"{end}') == [ada()]
    assert folder.records(json.dumps(ada()) + end) == [ada()]


def test_one_of_nul_has_no_header(folder):
    assert "columns" in folder.fails(b"\x00" * 5000, InvalidPatientsError)


def test_files_of_all_kinds_may_lie_in_one_folder(files):
    (files.path / "a.parquet").write_text(f"{HEADER}\nm-1,Ada,basic\n")
    (files.path / "b.csv").write_text(json.dumps(ada(code="m-2")))
    (files.path / "sub").mkdir()
    (files.path / "sub" / "c.json").write_bytes(
        parquet({"code": ["m-3"], "first_name": ["Cy"], "plan": ["b"]})
    )
    locations = [
        (record["code"], location.file.removeprefix(f"{files.path}/"), location.line)
        for record, location in files.stream()
    ]
    assert locations == [("m-1", "a.parquet", 2), ("m-2", "b.csv", 1), ("m-3", "sub/c.json", 1)]


def test_each_file_has_a_header_of_its_own(files):
    (files.path / "a.csv").write_text(f"{HEADER}\nm-1,Ada,basic\n")
    (files.path / "b.csv").write_text("plan;first_name;code\nb;Bo;m-2\n")
    (files.path / "c.csv").write_text(f"m-3,{SECRET},basic\n")
    rows = files.stream()
    assert [next(rows).record["code"] for _ in range(2)] == ["m-1", "m-2"]
    with pytest.raises(
        InvalidPatientsError, match=r"c\.csv has no column named code or first_name"
    ):
        next(rows)


@pytest.mark.parametrize("kind", ["a.csv", "a.csv.gz", "a.jsonl", "a.parquet"])
def test_the_file_is_closed_when_nobody_reads_on(files, kind, monkeypatch):
    from fsspec.implementations.local import LocalFileOpener

    opened = []
    monkeypatch.setattr(LocalFileOpener, "__enter__", lambda self: opened.append(self) or self)
    text = "".join(f"{json.dumps(ada(code=number))}\n" for number in range(5000))
    if "csv" in kind:
        text = HEADER + "\nm-1,Ada,basic" * 5000
    content = gzip.compress(text.encode()) if kind.endswith("gz") else text.encode()
    if kind == "a.parquet":
        content = parquet({"code": ["1"] * 5000, "first_name": ["A"] * 5000})
    (files.path / kind).write_bytes(content)
    rows = files.stream()
    next(rows)
    assert not opened[0].closed
    rows.close()
    assert opened[0].closed


# --- whatever is written is read back -------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
CELL = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\x1a\ufeff"), max_size=20
)
COLUMNS = ["code", "first_name", "plan"]
many = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@many
@given(
    rows=st.lists(
        st.tuples(CELL, CELL, CELL).filter(lambda row: "".join(row).strip()), max_size=20
    ),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    pack=st.booleans(),
)
def test_csv(folder, rows, delimiter, encoding, end, quoting, pack):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerows([COLUMNS, *rows])
    content = text.getvalue().encode(encoding)
    records = folder.records(gzip.compress(content) if pack else content, encoding=encoding)
    assert [tuple(record.values()) for record in records] == rows


def has_value(values):
    return not all(
        value is None or (isinstance(value, str) and is_blank(value)) for value in values
    )


@many
@given(
    records=st.lists(
        st.dictionaries(TEXT, st.none() | st.booleans() | st.integers() | TEXT, max_size=5),
        min_size=1,
    ),
    ascii=st.booleans(),
)
def test_json_lines(folder, records, ascii):
    text = "\n".join(json.dumps(record, ensure_ascii=ascii) for record in records)
    filled = [(each, at) for at, each in enumerate(records, 1) if has_value(each.values())]
    assert folder.read(text) == ([each for each, _ in filled], [at for _, at in filled])


@many
@given(rows=st.lists(st.tuples(TEXT, TEXT | st.none(), st.dates() | st.none()), max_size=20))
def test_parquet(folder, rows):
    codes, names, days = zip(*rows, strict=True) if rows else ((), (), ())
    columns = {
        "code": pa.array(codes, pa.string()),
        "first_name": pa.array(names, pa.string()),
        "birth_date": pa.array(days, pa.date32()),
    }
    records = folder.records(parquet(columns))
    assert [tuple(record.values()) for record in records] == [*filter(has_value, rows)]


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    content=st.binary(max_size=200)
    | st.builds(lambda rest: f"{HEADER}\n".encode() + rest, st.binary(max_size=200))
    | st.builds(lambda rest: b'{"code": 1}\n' + rest, st.binary(max_size=200))
    | st.builds(lambda text: f"{HEADER}\n{text}".encode(), st.text('a,"\n\r;', max_size=60)),
)
def test_any_bytes_are_records_or_an_error_that_says_so(folder, content):
    try:
        located = folder.read(content)
    except (InvalidPatientsError, SourceError) as error:
        assert error.__cause__ is error.__context__ is None
    else:
        records, lines = located
        assert all(isinstance(record, dict | Unreadable) for record in records)
        assert lines == sorted(set(lines))
