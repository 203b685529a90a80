"""Files that are made to do harm: each is records, or an error that says what it is."""

import gzip
import io
import json
import os
import random
import socket
import string
import tracemalloc
from itertools import islice

import pytest

from airflow_provider_mediquo.api.errors import InvalidPatientsError, SourceError
from airflow_provider_mediquo.api.records import Unreadable
from airflow_provider_mediquo.sources.columns import ColumnMapping
from airflow_provider_mediquo.sources.files import bounded_gzip as unpacked
from airflow_provider_mediquo.sources.files import csv_reader
from airflow_provider_mediquo.sources.files import parquet_reader as parquet_rows
from airflow_provider_mediquo.sources.files.bounded_lines import MAX_LINE, Lines
from airflow_provider_mediquo.sources.files.csv_line import LineParser
from airflow_provider_mediquo.sources.files.csv_quoted import MAX_DOUBT, QuotedRows
from airflow_provider_mediquo.sources.files.csv_reader import read_csv
from airflow_provider_mediquo.sources.files.discovery import find_files
from airflow_provider_mediquo.sources.files.reader import FileReadOptions, read_files

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

HEADER = "code,first_name,plan"
ROW = "m-1,Ada,basic"
ADA = {"code": "m-1", "first_name": "Ada", "plan": "basic"}


def stream(path, **options):
    return read_files(
        str(path), None, FileReadOptions(ColumnMapping(options.pop("columns", None)), **options)
    )


@pytest.fixture
def read(tmp_path):
    """Read a file of this content."""

    def read(content, name="file", **options):
        content = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(content)
        return [record for record, _ in stream(tmp_path / name, **options)]

    return read


# --- CSV ------------------------------------------------------------------------------------------


class Counted(Lines):
    """Lines that count how often one is read, and how many characters of the file were."""

    def __init__(self, text):
        self.count, self.text = 0, io.StringIO(text)
        super().__init__(self.text)

    def __iter__(self):
        for line in super().__iter__():
            self.count += 1
            yield line


def quoted_rows(lines):
    parser = LineParser(",")
    return QuotedRows(lines, parser, ["code", "first_name", "plan"], 3, may_lose_end=False)


def test_a_row_of_cells_without_end_is_not_read_to_the_end():
    """Each of its cells is short and has a line end in it, so that each line is short too."""
    lines = Counted('"\n' + '","\n' * (MAX_LINE // 2))
    first = next(iter(lines))
    record, taken = quoted_rows(lines).read(first)
    assert isinstance(record, Unreadable)
    assert taken[0] == first
    assert lines.text.tell() < 1.1 * MAX_LINE


def test_a_row_of_cells_without_end_is_tried_once():
    lines = Counted('a","\n' * 1001)
    rows = quoted_rows(lines)
    assert sum(len(rows.read(line)[1]) for line in lines) == 1001
    assert lines.count < 1002 * (MAX_DOUBT + 3)


def test_each_line_of_a_row_of_cells_without_end_is_rejected(tmp_path):
    (tmp_path / "file").write_text(f"{HEADER}\n{ROW}\n" + '"\n",' * 200 + f"\n{ROW}\n{ROW}\n")
    first, *rejected, last = stream(tmp_path / "file")
    assert first.record == Unreadable("lines"), "the quotes may be the end of a cell of it"
    assert [location.line for _, location in rejected] == [*range(3, 205)]
    assert {type(record) for record, _ in rejected} == {Unreadable}
    assert last.record == ADA


@pytest.mark.parametrize("line", ["x,", 'a","', '""a', '"', "x"])
def test_lines_after_a_quote_that_nothing_closes_are_not_read_again_and_again(monkeypatch, line):
    lines = Counted(f'{HEADER},note\n{ROW},"\n' + f"{line}\n" * 2000)
    monkeypatch.setattr(csv_reader, "Lines", lambda text: lines)
    records = [*read_csv(io.StringIO(), "file", ColumnMapping({"note": None}), None)]
    assert len(records) > 1000
    assert lines.count < 2000 * 2 * MAX_DOUBT


def test_lines_that_are_too_long_together_are_no_row(read):
    half = "x" * (MAX_LINE // 2)
    text = f'{HEADER},note\n{ROW},"{half}\n{half}"\n' + f"{ROW},\n" * 2
    records = read(text, columns={"note": None})
    rejected = [Unreadable("cells"), Unreadable("cells"), Unreadable("lines")]
    assert records == [*rejected, ADA | {"note": ""}]


def test_a_row_may_have_as_many_lines_as_a_line_may_have_characters(read):
    note = "\n".join("x" * 50 for _ in range(2000))
    records = read(f'{HEADER},note\n{ROW},"{note}"\n', columns={"note": None})
    assert records == [ADA | {"note": note}]


def test_rows_are_counted_one_by_one(read):
    note = ("x" * 99 + "\n") * 1000
    text = f"{HEADER},note\n" + f'{ROW},"{note}"\n' * 12
    assert len(text) > MAX_LINE
    assert len(read(text, columns={"note": None})) == 12


def test_columns_without_number_are_named_but_not_without_end(read):
    names = ",".join(f"c{n}" for n in range(10_000))
    with pytest.raises(InvalidPatientsError, match=r"and [0-9],[0-9]{3} more\. Map") as caught:
        read(f"{HEADER},{names}\n")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "name",
    ["x" * 100_000, "a\x1b[2Jb", "a\u202eb", "a\u200bb", "a\0b", "a\u2028b", "a\x85b"],
    ids=range(7),
)
def test_a_column_with_a_control_character_is_not_shown(read, name):
    with pytest.raises(InvalidPatientsError, match="unknown columns:\n1, not shown") as caught:
        read(f"{HEADER},{name}\n{ROW},x\n")
    assert caught.value.as_line().isprintable()


@pytest.mark.parametrize("gap", ["\f", "\v", "\x1c", "\u2028", "\u2029", "\x85", "\0"])
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_only_a_line_end_ends_a_line(read, gap, kind):
    record = ADA | {"first_name": f"A{gap}da"}
    lines = [HEADER, f"m-1,A{gap}da,basic"] if kind == "csv" else [json.dumps(record)]
    lines = lines if kind == "csv" else [lines[0].replace(json.dumps(gap)[1:-1], gap)]
    expected = [record] if kind == "csv" or gap > "\x1f" else [Unreadable("record")]
    assert read("\n".join(lines)) == expected


def test_a_byte_order_mark_in_the_middle_is_no_text(read):
    """As where files are put one behind the other."""
    records = read(f"{HEADER}\n{ROW}\n\ufeff{HEADER}\nm-2,Bo,basic\n\ufeffm-3,Cy,basic\n")
    assert records[:2] == [ADA, Unreadable("header")]
    assert [record["code"] for record in records[2:]] == ["m-2", "m-3"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_text_without_a_mark_is_no_header(read, encoding):
    with pytest.raises(InvalidPatientsError, match="check `encoding`"):
        read(f"{HEADER}\n{ROW}\n".encode(encoding))


# --- gzip -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", [f"{HEADER}\n", '{"code": 1}\n', ""], ids=["csv", "json", "head"])
@pytest.mark.parametrize("block", ["\n", "x", f"{ROW}\n", ",", '"\n",'], ids=range(5))
def test_a_bomb_ends_whatever_it_holds(read, monkeypatch, begin, block):
    monkeypatch.setattr(unpacked, "FREE", 1 << 16)
    monkeypatch.setattr(unpacked, "MOST", 10)
    bomb = gzip.compress((begin + block * ((1 << 20) // len(block))).encode())
    if not begin and block in (f"{ROW}\n", '"\n",'):  # the header is wrong, and no more is read
        with pytest.raises(InvalidPatientsError, match=r"no column named|The header of"):
            read(bomb)
    else:
        with pytest.raises(SourceError, match="holds more than 10 times its own size"):
            read(bomb)


@pytest.mark.parametrize("garbage", [b"garbage", b"\0\0x", b"\x1f\x8b\x08garbage"])
def test_what_follows_gzip_and_is_none_is_an_error(tmp_path, garbage):
    (tmp_path / "a.gz").write_bytes(gzip.compress(f"{HEADER}\n{ROW}\n".encode()) + garbage)
    with pytest.raises(SourceError, match=r"cannot be read \(any further\)"):
        list(stream(tmp_path / "a.gz"))


# --- what is no file ------------------------------------------------------------------------------


@pytest.fixture
def special(tmp_path):
    """A folder of things that have no end, and nobody at their other end."""
    folder = tmp_path / "folder"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    os.symlink("/dev/zero", folder / "zero")
    os.symlink(folder / "pipe", folder / "link")
    os.symlink(folder / "nothing", folder / "dangling")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        yield folder


@pytest.mark.parametrize("name", ["pipe", "zero", "link", "socket"])
def test_only_a_file_is_read(special, name):
    with pytest.raises(SourceError, match=f"{name} is neither a file nor a folder"):
        next(stream(special / name))


@pytest.mark.parametrize("name", ["pipe", "zero", "link", "dangling", "socket"])
@pytest.mark.parametrize("pattern", ["", "/*"])
def test_nor_is_anything_else_left_out_of_a_folder_without_a_word(special, name, pattern):
    for other in special.iterdir():
        if other.name not in (name, "pipe" if name == "link" else name):
            other.unlink()
    if name == "link":
        os.rename(special / "pipe", special.parent / "pipe")
        os.unlink(special / "link")
        os.symlink(special.parent / "pipe", special / "link")
    with pytest.raises(SourceError, match=f"{name} is neither a file nor a folder"):
        next(stream(f"{special}{pattern}"))


def test_the_devices_themselves_are_none():
    for name in ("/dev/zero", "/dev/stdin", "/dev/tty"):
        with pytest.raises(SourceError):
            next(stream(name))


# --- a file that changes --------------------------------------------------------------------------


@pytest.fixture
def long(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text(HEADER + "\n" + "".join(f"m-{n},Ada,basic\n" for n in range(50_000)))
    return path


@pytest.mark.no_cover
def test_one_that_is_replaced_is_read_as_it_was(long):
    rows = stream(long)
    next(rows)
    (long.parent / "new").write_text("nothing\n")
    os.replace(long.parent / "new", long)
    assert sum(1 for _ in rows) == 49_999


@pytest.mark.no_cover
def test_one_that_grows_is_read_to_its_end(long):
    rows = stream(long)
    next(rows)
    with long.open("a") as file:
        file.write("m-new,Ada,basic\n")
    assert [record["code"] for record, _ in rows][-1] == "m-new"


def test_one_that_shrinks_ends_where_it_ends(long):
    rows = stream(long)
    next(rows)
    os.truncate(long, 500_000)
    *_, last = (record for record, _ in rows)
    assert last == Unreadable("cells") or last["first_name"] == "Ada"


# --- names ----------------------------------------------------------------------------------------

NAMES = ["a\nb.csv", "a\x1b[2Jb.csv", "a\u202eb.csv", "{{ ds }}.csv", "b\udcff.csv", "x" * 255]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_file_may_have_any_name_and_is_shown_as_one_visible_line(tmp_path, caplog, name):
    caplog.set_level("INFO")
    (tmp_path / name).write_text(f"{HEADER}\n{ROW}\n")
    ((record, location),) = stream(tmp_path)
    assert record == ADA
    assert location.file.isprintable()
    assert all(message.isprintable() for message in caplog.messages)
    (tmp_path / name).write_text("x")
    with pytest.raises(InvalidPatientsError) as caught:
        next(stream(tmp_path))
    first, *others = str(caught.value).split("\n")
    assert first.endswith(" has no column named code or first_name among its 1 column.")
    assert "".join([first, *others]).isprintable()


@pytest.mark.parametrize("path", ["/no/such\n\x1b[2J", "/" + "x" * 10_000, "/a\0b", "/a/" * 5000])
def test_a_path_that_cannot_be_is_an_error_of_printable_lines(path):
    with pytest.raises(SourceError) as caught:
        find_files(path)
    first, *said = str(caught.value).split("\n")
    assert first.isprintable()
    assert "".join(said).isprintable()
    assert len(said) <= 1


def test_a_glob_may_match_many_files(tmp_path):
    for number in range(3000):
        (tmp_path / f"{number:05}.csv").touch()
    assert len(find_files(f"{tmp_path}/*.csv")) == 3000


# --- Parquet --------------------------------------------------------------------------------------


def written_to(path, columns, **options):
    pq.write_table(pa.table(columns), path, **options)
    return path


def peak(rows):
    """Take a row, and return how many bytes Python's own values took at once."""
    from airflow.sdk import ObjectStoragePath

    assert ObjectStoragePath is not None  # what importing it takes is no part of it
    tracemalloc.start()
    try:
        next(rows)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.no_cover
def test_a_row_group_of_any_size_is_read_in_bounded_memory(tmp_path):
    count = 100_000
    words = ["".join(random.choices(string.ascii_letters, k=450)) for _ in range(1000)]
    columns = {"code": [f"m-{n}" for n in range(count)], "first_name": words * (count // 1000)}
    options = {"row_group_size": count, "use_dictionary": False, "compression": "none"}
    path = written_to(tmp_path / "big", columns, **options)
    assert path.stat().st_size > 40 << 20
    del columns
    before = pa.total_allocated_bytes()
    rows = stream(path)
    assert peak(rows) < 25 << 20, "what pyarrow asks of a file is Python's"
    for number, _ in enumerate(rows, 1):
        if number % 1000 == 0:
            assert pa.total_allocated_bytes() - before < 8 << 20
    assert number == count - 1


def test_a_value_that_many_rows_have_is_not_multiplied(tmp_path):
    count = 1200
    text = pa.DictionaryArray.from_arrays(pa.array([0] * count), pa.array(["x" * (1 << 18)]))
    columns = {"code": [str(n) for n in range(count)], "first_name": text}
    path = written_to(tmp_path / "bomb", columns, dictionary_pagesize_limit=1 << 30)
    assert path.stat().st_size < 50_000, "and it is 300 MB"
    rows = stream(path)
    assert peak(rows) < 100 << 20
    assert len(next(rows).record["first_name"]) == 1 << 18


@pytest.mark.no_cover
def test_nor_is_one_inside_of_meta(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_rows, "MAX_UNPACKED_BYTES", 16 << 20)
    count = 150
    inner = pa.DictionaryArray.from_arrays(pa.array([0] * count), pa.array(["x" * (1 << 18)]))
    for meta in (
        pa.StructArray.from_arrays([inner], ["a"]),
        pa.StructArray.from_arrays([inner] * 4, [*"abcd"]),
        pa.ListArray.from_arrays(pa.array(range(count + 1), pa.int32()), inner),
        pa.LargeListArray.from_arrays(pa.array(range(count + 1), pa.int64()), inner),
        pa.FixedSizeListArray.from_arrays(inner, 1),
        pa.MapArray.from_arrays(
            pa.array(range(count + 1), pa.int32()), inner, pa.array(["a"] * count)
        ),
        pa.StructArray.from_arrays(
            [pa.array([b"x" * (1 << 18)] * count, pa.binary(1 << 18))], ["a"]
        ),
    ):
        codes = [str(n) for n in range(count)]
        columns = {"code": codes, "first_name": ["A"] * count, "meta": meta}
        path = written_to(tmp_path / "bomb", columns, dictionary_pagesize_limit=1 << 30)
        rows = stream(path)
        assert peak(rows) < 25 << 20


@pytest.mark.no_cover
def test_a_value_that_begins_as_the_one_before_it_is_not_multiplied_either(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_rows, "MAX_UNPACKED_BYTES", 16 << 20)
    texts = ["x" * (1 << 18) + str(n) for n in range(250)]
    columns = {"code": [str(n) for n in range(250)], "first_name": texts}
    encoding = {"code": "PLAIN", "first_name": "DELTA_BYTE_ARRAY"}
    path = written_to(tmp_path / "bomb", columns, use_dictionary=False, column_encoding=encoding)
    assert path.stat().st_size < 1 << 20
    before = pa.total_allocated_bytes()
    for record, _ in islice(stream(path), 5):
        assert pa.total_allocated_bytes() - before < 50 << 20, "pyarrow keeps it twice"
        assert record["first_name"] == texts[int(record["code"])]


def test_pages_of_values_that_are_all_too_large_are_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_rows, "MAX_UNPACKED_BYTES", 1 << 20)
    columns = {"code": [str(n) for n in range(20)], "first_name": ["x" * 70_000] * 20}
    path = written_to(tmp_path / "bomb", columns, use_dictionary=False, compression="zstd")
    with pytest.raises(SourceError, match="its rows take more than 64 KiB each, unpacked"):
        next(stream(path))
    columns = {"code": ["1"], "first_name": ["A"], "scan": ["x" * 2_000_000]}
    path = written_to(tmp_path / "dropped", columns, use_dictionary=False)
    assert len([*stream(path, columns={"scan": None})]) == 1, "what is dropped may be large"


def test_nor_are_columns_that_are_too_large_together(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_rows, "MAX_UNPACKED_BYTES", 1 << 20)
    columns = {"code": ["1"] * 20, "first_name": ["x" * 40_000] * 20, "plan": ["y" * 40_000] * 20}
    path = written_to(tmp_path / "bomb", columns, use_dictionary=False, compression="zstd")
    with pytest.raises(SourceError, match="its rows take more than 64 KiB each, unpacked"):
        next(stream(path))


def test_a_file_that_holds_far_more_than_its_size_is_not_unpacked(tmp_path):
    count = 8000
    columns = {"code": [str(n) for n in range(count)], "first_name": ["A" * 5000] * count}
    path = written_to(tmp_path / "bomb", columns, use_dictionary=False, compression="zstd")
    before = pa.total_allocated_bytes()
    with pytest.raises(SourceError, match="it holds more than 500 times its own size"):
        next(stream(path))
    assert pa.total_allocated_bytes() - before < 8 << 20


def test_lists_of_any_length_are_not_unpacked(tmp_path):
    count = (1 << 24) + 2
    lists = pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), pa.repeat(7, count))
    columns = {"code": ["1"], "first_name": ["A"], "meta": lists}
    path = written_to(tmp_path / "bomb", columns)
    assert path.stat().st_size < 5000
    before = pa.total_allocated_bytes()
    with pytest.raises(SourceError, match="lists in it hold more than 16 million values"):
        next(stream(path))
    assert pa.total_allocated_bytes() - before < 8 << 20


@pytest.mark.no_cover
def test_a_row_group_of_nothing_takes_no_memory(tmp_path):
    nothing = pa.nulls(200_000, pa.string())
    path = written_to(tmp_path / "nulls", {"code": nothing, "first_name": nothing})
    assert path.stat().st_size < 5000
    before = pa.total_allocated_bytes()
    for record, _ in stream(path):
        assert record["code"] is None
    assert pa.total_allocated_bytes() - before < 8 << 20


def test_levels_without_end_are_an_error(tmp_path):
    kind = pa.string()
    for _ in range(200):
        kind = pa.struct([("a", kind)])
    columns = {"code": ["1"], "first_name": ["A"], "meta": pa.array([None], kind)}
    with pytest.raises(SourceError, match="cannot be read"):
        next(stream(written_to(tmp_path / "deep", columns)))


@pytest.mark.parametrize("at", [-5, -8, -6, 4, 40])
@pytest.mark.parametrize("byte", [0, 0x7F, 0xFF])
def test_a_footer_that_lies_is_an_error_or_records(tmp_path, at, byte):
    path = written_to(tmp_path / "lie", {"code": ["1"] * 9, "first_name": ["A"] * 9})
    content = bytearray(path.read_bytes())
    content[at] = byte
    path.write_bytes(content)
    try:
        assert len([*stream(path)]) <= 9
    except (SourceError, InvalidPatientsError) as error:
        assert error.as_line().isprintable()
