"""What the first lines of a CSV are, and what is said of them without a word of what they hold."""

import io
from pathlib import Path

import pytest

from airflow_provider_mediquo.api.errors import InvalidPatientsError
from airflow_provider_mediquo.api.records import Unreadable
from airflow_provider_mediquo.sources.columns import ColumnMapping
from airflow_provider_mediquo.sources.files.csv_reader import read_csv

CASES = Path(__file__).parent / "data" / "header"


def read(text, columns=None, delimiter=None):
    """Return the line of each record or reject -> its code or rule."""
    located = read_csv(io.StringIO(text, newline=""), "file", ColumnMapping(columns), delimiter)
    return {
        location.line: getattr(each, "rule", None) or each["code"] for each, location in located
    }


def case(name, encoding="utf-8-sig", **options):
    return read((CASES / name).read_bytes().decode(encoding), **options)


@pytest.mark.parametrize(
    ("name", "encoding", "columns"),
    [
        ("line-end-lost.csv", "utf-8", None),
        ("nel-cp037.txt", "cp037", None),
        ("quote-not-closed.csv", "utf-8", {"note": None}),
        ("quote-not-closed.csv", "utf-8", None),
    ],
)
def test_a_header_that_holds_data_is_not_quoted(name, encoding, columns):
    with pytest.raises(InvalidPatientsError) as caught:
        case(name, encoding, columns=columns)
    assert not any(word in str(caught.value) for word in ("Ada", "example", "Sekret", "gold", "40"))


def test_a_row_that_is_the_header_again_is_rejected():
    assert case("again.csv") == {2: "1", 3: "header", 4: "2"}
    assert read('code,first_name,plan\n"code","first_name","plan"\n') == {2: "header"}
    assert read("code,first_name,plan\n code,First_Name,PLAN \n") == {2: "header"}
    assert read("code,first_name,plan\ncode,Code,plan\n") == {2: "code"}


def test_a_byte_order_mark_in_front_of_a_row_is_none_of_it():
    assert case("bom-again.csv") == {2: "1", 3: "2"}


@pytest.mark.parametrize("header", ["\ufeff{}", '\ufeff"{}"', '"\ufeff{}"', "\ufeff\ufeff{}"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_nor_of_the_first_name_wherever_it_stands(header, delimiter):
    """Some programs write two, or one in the quotes of the first name."""
    names = delimiter.join([header.format("code"), "first_name"])
    assert read(f"{names}\n1{delimiter}Ada\n") == {2: "1"}


def test_a_blank_between_a_quote_and_a_delimiter_is_an_error_that_says_so():
    with pytest.raises(InvalidPatientsError, match="does not stand next to a delimiter"):
        case("blank-behind-quote.csv")


@pytest.mark.parametrize("line", ["sep=;", "SEP=;", '"sep=;"', "\nsep=;"])
def test_the_delimiter_may_be_said_in_the_first_line(line):
    assert case("sep-line.csv") == {3: "1"}
    header = f"{line}\r\ncode;first_name;plan"
    assert [*read(f"{header}\r\n1;Ada;gold\r\n").values()] == ["1"]


def test_an_option_beats_it():
    assert read("sep=;\ncode|first_name\n1|Ada\n", delimiter="|") == {3: "1"}


HEADER = "code,first_name,plan"


def test_a_delimiter_at_the_end_of_each_row_is_no_cell():
    assert case("trailing-delimiter.csv") == {2: "1"}


@pytest.mark.parametrize("header", [HEADER, f"{HEADER},", f"{HEADER},,, "])
@pytest.mark.parametrize("end", ["", ",", ",,,", ", ,"])
def test_nor_are_blank_columns_without_a_name(header, end):
    rows = "".join(f"{number},Ada,gold{end}\n" for number in range(30))
    assert [*read(f"{header}\n{rows}").values()] == [*map(str, range(30))]


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize(
    ("header", "row", "transform"),
    [
        ("code,first_name,plan,notes", "M-{0}{1},Ada,gold,", False),
        ("code,first_name,plan,notes", "M-{0}{1},Ada,gold,", True),
        ("first_name,code,plan,notes", "Ada,M-{0}{1},gold,", False),
        ("plan,first_name,code,notes", "gold,Ada,M-{0}{1},", False),
    ],
)
def test_row_numbers_without_a_name_are_an_error(header, row, quote, start, transform):
    """`DataFrame.to_csv(index_label=False)`, R's `write.table`: with a last column that is empty."""
    names = ",".join(f"{quote}{name}{quote}" for name in header.split(","))
    rows = "".join(f"{quote}{n}{quote},{row.format(n, 7)}\n" for n in range(start, start + 12))
    mapping = ColumnMapping({"notes": None}, is_transformed=transform)
    with pytest.raises(InvalidPatientsError, match=r"row numbers\.\nThe header does not name them"):
        [*read_csv(io.StringIO(f"{names}\n{rows}", newline=""), "file", mapping, None)]


@pytest.mark.parametrize("columns", [None, {"codeid": None}])
def test_but_a_blank_in_quotes_is_a_cell_of_a_column_whose_name_is_lost(columns):
    """Here a delimiter of the header is lost; each value would go to the column before its own."""
    text = '"codeid","first_name","plan"\n"1","x","Ada",""\n"2","y","Bo",""\n'
    header = ColumnMapping(columns, is_transformed=True)
    found = [*read_csv(io.StringIO(text, newline=""), "file", header, None)]
    assert [record for record, _ in found] == [Unreadable("cells")] * 2
    text = '"code","first_name","plan",""\n"1","Ada","gold",""\n'
    assert read(text) == {2: "1"}, "here it has no name"


@pytest.mark.parametrize("blank", ["", "  ", "\t"])
def test_a_blank_line_among_the_first_is_no_row_of_another_width(blank):
    assert read(f"{HEADER}\n1,Ada,gold,\n{blank}\n2,Bo,gold,\n") == {2: "1", 4: "2"}


def test_but_what_is_in_them_is_not_ignored():
    rows = "1,Ada,gold,\n" * 20 + "2,Bo,gold,x\n" + "3,Cy,gold\n"
    assert [*read(f"{HEADER}\n{rows}").values()][20:] == ["cells", "cells"]
    assert [*read(f"{HEADER},\n{rows}").values()][20:] == ["cells", "cells"]
    assert [*read(f"{HEADER}\n1,Ada,gold,\n2,Bo,gold\n").values()] == ["cells", "2"]


def test_a_name_may_have_several_lines():
    text = 'code,"first\nname","birth\n\ndate"\n1,Ada,1980-01-01\n'
    columns = {"first\nname": "first_name", "birth\n\ndate": "birth_date"}
    assert read(text, columns) == {5: "1"}
    text = '"first\nname";"birth\n\ndate";code\nAda;1980-01-01;1\n'
    assert read(text, columns) == {5: "1"}, "the delimiter need not be on the first line"


def transformed(text, columns=None, delimiter=None):
    header = ColumnMapping(columns, is_transformed=True)
    return [record for record, _ in read_csv(io.StringIO(text), "file", header, delimiter)]


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [("id;nombre\n1;Ada\n", ","), ("id^nombre\n1^Ada\n", None), ("id\x01nombre\n1\x01Ada\n", None)],
)
def test_a_wrong_delimiter_is_said_before_a_transform_fails(text, delimiter):
    with pytest.raises(InvalidPatientsError, match=r"single column.\n.*set `delimiter`"):
        transformed(text, delimiter=delimiter)


@pytest.mark.parametrize(
    "text",
    [
        "S-1;Ada;ada@example.com\nS-2;Bo;\n",
        "10000001;Ada;gold\n10000002;Bo;basic\n",
        "S-1;Ada;600 12 34 56\n",
        "S-1;Ada;31/12/1980\n",
        "S-1;Ada;gold\nS-2;Bo;basic\nS-3;Cy;gold\n",  # what is a plan again is no name
        'S-1;"Ada";gold\r\nS-2;"Ada";basic\r\n',
        "S-1;Ada;\ufffd\0\n",
    ],
)
def test_the_first_member_of_a_file_without_a_header_is_not_lost(text):
    with pytest.raises(InvalidPatientsError, match="must be a header") as caught:
        transformed(text)
    assert "Ada" not in str(caught.value)


@pytest.mark.parametrize("again", ["id;producto;nombre", "id;nombre;alta;producto", "id;;nombre"])
def test_a_second_header_is_not_said_to_be_data(again):
    """It is one, with other columns."""
    with pytest.raises(InvalidPatientsError, match="line 3 is a second header"):
        transformed(f"id;nombre;producto\n1;Ada;gold\n{again}\n2;gold;Bo\n")


def test_names_that_look_like_data_are_read_where_one_is_mapped():
    text = "ID;31/12/2025\n1;12,50\nID;31/12/2025\n"
    with pytest.raises(InvalidPatientsError, match="must be a header"):
        transformed(text)
    assert transformed(text, {"ID": None})[0] == {"ID": "1", "31/12/2025": "12,50"}


@pytest.mark.parametrize(
    "header",
    [
        "ID;ID_2;;",
        "nombre",
        "ID;2019;2020",
        '"Fecha de\nnacimiento";ID',
        f"ID;{'x ' * 99}",
        "ID;1;2",
    ],
)
def test_names_of_any_kind_are_read_with_a_transform(header):
    rows = ";".join("x" * (header.count(";") + 1))
    assert len(transformed(f"{header}\n{rows}\n{rows}\n")) == 2
    if "\n" not in header:
        assert len(transformed(f"{header}\n{header}\n{rows}\n")) == 2
