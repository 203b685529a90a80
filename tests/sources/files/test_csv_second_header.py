"""A second header inside a CSV file: it must not give the values after it to other fields."""

import csv
import gzip
import io

import pytest

from airflow_provider_mediquo.api.errors import InvalidPatientsError
from airflow_provider_mediquo.sources.columns import ColumnMapping
from airflow_provider_mediquo.sources.files.csv_reader import read_csv
from airflow_provider_mediquo.sources.files.reader import FileReadOptions, read_files

NUMBERED = {"num": "code", "nombre": "first_name", "apellidos": "last_name", "producto": "plan"}


def read(*lines, columns=None, is_transformed=False, end="\n"):
    """Return the line of each record or reject -> its first value or rule."""
    header = ColumnMapping(columns, is_transformed=is_transformed)
    located = read_csv(io.StringIO(end.join(lines), newline=""), "file", header, None)
    return {
        at.line: getattr(each, "rule", None) or next(iter(each.values())) for each, at in located
    }


def stops(*lines, **options):
    """Return the line where the file stops, after a look that the message has no value."""
    header = ColumnMapping(options.get("columns"), is_transformed="columns" not in options)
    located = read_csv(io.StringIO("\n".join(lines), newline=""), "file", header, None)
    with pytest.raises(InvalidPatientsError) as caught:
        list(located)
    said = str(caught.value)
    start, _, rest = said.partition(" is a second header with other columns. Split the file")
    assert rest, said
    assert not any(word in said for word in ("Ada", "gold", "Day", "num", "tax"))
    return int(start.removeprefix("file cannot be read any further:\nline "))


@pytest.mark.parametrize("options", [{"columns": NUMBERED}, {}])
@pytest.mark.parametrize(
    "second",
    [
        "num;nombre;apellidos;producto",  # another order
        "producto;num;nombre;apellidos",  # also of the first
        " NUM ; Nombre ; Apellidos ; PRODUCTO ",
        "ALTA;NUM;NOMBRE;APELLIDOS",
        '"num";"nombre";"apellidos";"producto"',
        "\ufeffnum;nombre;apellidos;producto",
        "num;nombre;producto",  # fewer
        "num;nombre;producto;apellidos;alta",  # more
        "alta;num;nombre;apellidos",  # another of them
        "alta1;num;nombre;apellidos",
        "num;nombre;tarifa;alta1",
        "\ufeffnum;name;family;tariff",
        "num;name;family;tariff",  # only the first is known
        "code;first_name;last_name;plan",  # fields of a patient
        "A-1;Ada;gold;Daynum;nombre;apellidos;producto",  # the line end before it is missing
        '"A-1";"Ada";"gold";"Day""num";"nombre";"apellidos";"producto"',
        '"A-1";"Ada";"gold";"Day"num;nombre;apellidos;producto',
    ],
)
def test_a_file_stops_at_another_header(options, second):
    rows = ["1;Ada;gold;Day"] * 10
    assert stops("num;nombre;producto;apellidos", *rows, second, "3;Cy;Poe;gold", **options) == 12


def test_a_name_that_only_columns_has_counts():
    columns = {"alta": None, "baja": None}
    rows = ["1;Ada;gold", "alta;baja;x1", "2024;2025;2"]
    assert stops("code;first_name;plan", *rows, columns=columns) == 3


def test_a_second_header_of_another_last_column_clears_no_plan():
    assert stops("code;first_name;plan", "1;Ada;gold", "code;first_name;tax_id", "2;Bo;") == 3


def test_it_is_found_where_rows_end_with_a_delimiter_and_headers_do_not():
    rows = ["1;Ada;gold;"] * 12
    assert stops("code;first_name;plan", *rows, "code;plan;first_name", "2;gold;Bo;") == 14


def test_it_is_found_among_lines_that_a_stray_quote_rejects():
    lines = ['1;"Ada;gold', "code;plan;first_name", '2;gold;Bo"', "3;gold;Cy"]
    assert stops("code;first_name;plan", *lines) == 3


def test_the_records_before_it_are_read(tmp_path):
    parts = ["code,first_name,plan\n1,Ada,gold\n", "code,plan,first_name\n2,gold,Bo\n"]
    path = tmp_path / "members.csv.gz"
    path.write_bytes(b"".join(gzip.compress(part.encode()) for part in parts))
    records = read_files(str(path), None, FileReadOptions(ColumnMapping()))
    assert next(records).record == {"code": "1", "first_name": "Ada", "plan": "gold"}
    with pytest.raises(InvalidPatientsError, match=r"members\.csv\.gz cannot be .*\nline 3 is"):
        next(records)


@pytest.mark.parametrize(
    "again",
    [
        "num;nombre;producto",
        "NUM; Nombre ;Producto",
        "1;Ada;goldnum;nombre;producto",
        "num;nombre;producto;;",
    ],
)
def test_reading_goes_on_after_the_same_header(again):
    found = read("num;nombre;producto", "1;Ada;gold", again, "2;Bo;gold", is_transformed=True)
    assert found == {2: "1", 3: found[3], 4: "2"}
    assert found[3] in ("header", "cells")


def test_also_if_its_names_have_several_lines():
    header = 'code;"first\nname";plan'
    columns = {"first\nname": "first_name"}
    found = read(header, "1;Ada;gold", header, "2;Bo;gold", columns=columns)
    assert (found[3], found[6]) == ("1", "2")


@pytest.mark.parametrize(
    "row",
    [
        "1;Ada;Plan;Day;",  # a last name
        "Plan;Ada;Day;gold;x",
        "Code;Ada;Day;gold;2",  # begins as the header does
        "1;Ada;Email;Phone;",  # how to reach them
        "Email;Phone;Ada;gold;A-1",
        "code;Code;Day;gold;x",  # no name comes twice
        "1;Plan;Code;gold;x",
        ";Plan;Code;gold;",
    ],
)
def test_a_record_may_have_a_name_as_its_value(row):
    assert read("code;name;family;plan;note", row, is_transformed=True) == {2: row.split(";")[0]}


def test_a_reject_may_have_one_too():
    found = read("plan;code;first_name", "gold;1", "plan", "", "gold;2;Bo", "gold;3;Cy")
    assert found == {2: "cells", 3: "cells", 5: "lines", 6: "gold"}


def test_each_order_of_the_columns_is_read_rightly_or_not_at_all():
    from itertools import permutations

    names = ["code", "first_name", "last_name", "plan"]
    values = {"code": "M-2", "first_name": "Bo", "last_name": "Roe", "plan": "gold"}
    for order in permutations(names):
        text = io.StringIO(newline="")
        rows = [names, ["M-1", "Ada", "Day", "gold"], order, [values[name] for name in order]]
        csv.writer(text).writerows(rows)
        text.seek(0)
        records = []
        try:
            for record, _ in read_csv(text, "file", ColumnMapping(), None):
                records.append(record)
        except InvalidPatientsError:
            assert [*order] != names
        assert all(
            record in (dict(zip(names, rows[1], strict=True)), values)
            for record in records
            if isinstance(record, dict)
        )
        assert len(records) == (3 if [*order] == names else 1)
