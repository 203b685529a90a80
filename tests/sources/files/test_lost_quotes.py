"""Quotes that are lost or too many: no line is lost with them, and nobody gets another's values."""

import io
import random
import re
from itertools import pairwise
from pathlib import Path

import pytest

from airflow_provider_mediquo.api.patients.schema import check_patient
from airflow_provider_mediquo.api.records import Unreadable
from airflow_provider_mediquo.sources.columns import ColumnMapping
from airflow_provider_mediquo.sources.files.csv_quoted import MAX_DOUBT
from airflow_provider_mediquo.sources.files.csv_reader import read_csv

CASES = Path(__file__).parent / "data" / "quotes"
DROPPED = {"note": None, "memo": None}


def read(text, columns=DROPPED):
    """Return the line of each record, or of each reject -> what it is."""
    located = [*read_csv(io.StringIO(text, newline=""), "file", ColumnMapping(columns), None)]
    found = {location.line: record for record, location in located}
    assert len(found) == len(located), "a line is given once"
    return found


def case(name):
    return read((CASES / f"{name}.csv").read_bytes().decode())


def codes(found):
    return {line: getattr(record, "rule", None) or record["code"] for line, record in found.items()}


# --- cases from outside ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dropped-column-blank-after-comma", "names", "meta"])
def test_rows_between_two_lost_quotes_are_rejected_line_by_line(name):
    assert codes(case(name)) == {2: "lines", 3: "lines", 4: "lines", 5: "4"}


def test_also_where_empty_cells_are_quoted():
    found = codes(case("dropped-column-empty-quotes"))
    assert found == {2: "lines", 3: "lines", 4: "lines", 5: "4"}


def test_a_thousand_rows_behind_one_lost_quote_are_read():
    found = codes(case("thousand-behind-one"))
    assert {line for line, code in found.items() if code in ("cells", "lines")} == {2, 1001}
    assert [*found] == [*range(2, 1003)]


def test_a_list_in_a_note_is_no_patient():
    assert codes(case("list-in-a-note")) == {2: "lines", 3: "lines"}


@pytest.mark.parametrize("name", ["shifted", "blank-before-quote"])
def test_quotes_that_quote_nothing_are_no_text(name):
    assert codes(case(name)) == {2: "cells"}


def test_a_quote_escaped_with_a_backslash_spoils_its_row_alone():
    assert codes(case("backslash-escape")) == {2: "cells", 3: "2"}


# --- more of their kinds --------------------------------------------------------------------------

HEADER = "code,first_name,plan,note"


def rows(*lines, header=HEADER, columns=DROPPED):
    return codes(read("\n".join([header, *lines, ""]), columns))


@pytest.mark.parametrize("between", [MAX_DOUBT - 1, MAX_DOUBT, 400])
def test_only_so_many_lines_are_in_doubt(between):
    lines = ['m-1,Ada,gold,"call', *["m-2,Bo,gold,x"] * between, 'm-3,Cy,gold,done"']
    found = rows(*lines)
    assert len(found) == between + 2
    sent = [code for code in found.values() if code == "m-2"]
    assert len(sent) == (0 if between < MAX_DOUBT else between)


def test_lines_after_a_lost_quote_that_nothing_closes_are_rows():
    assert rows('1,Ada,gold,"call', "2,Bo,gold,x", "3,Cy,gold,x") == {2: "cells", 3: "2", 4: "3"}


def test_nor_are_they_in_doubt_where_quotes_are_right_again():
    found = rows('1,Ada,gold,"call', "2,Bo,gold,x", '3,"Cy, Jr",gold,x', '4,Di,gold,done"')
    assert found == {2: "cells", 3: "2", 4: "3", 5: "4"}


@pytest.mark.parametrize(
    "lines",
    [
        ['1,Ada,gold,"allergic:', "penicillin,latex,nuts,eggs", 'milk"'],
        ['1,Ada,gold,"allergic:', 'penicillin,latex,nuts,eggs" (bad)'],
        ['1,Ada,gold,"allergic:', "penicillin,latex,nuts,eggs", 'milk" (bad)'],
        ['1,Ada,gold, "allergic:', 'penicillin,latex,nuts,eggs"'],
        ['1,Ada,gold,""allergic:', "penicillin,latex,nuts,eggs", 'milk"'],
        ['1,Ada,gold,"to "x",', "penicillin,latex,nuts,eggs", 'milk"'],
    ],
)
def test_a_line_of_a_note_whose_quotes_are_wrong_is_no_patient(lines):
    found = rows(*lines)
    assert {*found.values()} <= {"lines", "cells"}
    assert [*found] == [*range(2, 2 + len(lines))]


@pytest.mark.parametrize("note", ["a\nb", "a,\r\n,b", "\n\n", "x" * 60_000 + "\n" + "y" * 60_000])
def test_a_dropped_cell_may_have_lines_that_cannot_be_rows(note):
    found = read(f'{HEADER}\n1,Ada,gold,"{note}"\n2,Bo,gold,\n')
    assert [record["code"] for record in found.values()] == ["1", "2"]


def test_ends_and_beginnings_of_two_rows_are_not_taken_for_one():
    header = "code,note,first_name,plan"
    assert "1" not in rows('1,"a', 'b"",Ada,gold', '2,""c', 'd",Bo,gold', header=header).values()
    assert "1" not in rows('1,"a,Ada,gold', '2,""b', 'c",Bo,gold', header=header).values()
    assert "1" not in rows('1,"a', "b,Ada,gold", "2,c", 'd",Bo,gold', header=header).values()


def test_a_row_that_may_be_the_rest_of_another_is_rejected():
    header = "last_name,note,code,first_name"
    assert rows('Day,"', "a, b,1,Ada", "Roe,,2,Bo", header=header) == {
        2: "cells",
        3: "lines",
        4: "2",
    }


def test_nor_is_one_read_whose_quote_is_closed_too_early():
    header = "code,first_name,note,last_name"
    found = rows('1,Ada,"kind",', "well, so", '",Day', "2,Bo,,Roe", "3,Cy,,Poe", header=header)
    assert found == {2: "lines", 3: "cells", 4: "cells", 5: "lines", 6: "3"}


@pytest.mark.parametrize(
    "lines",
    [
        ["1,Ada,kind,", "well, so", '",Day'],  # the quote before `kind` is lost
        ["1,Ada,kind,", "", '",Day "Jr"'],
        ['1,Ada,"kind",', ',well"",Day'],
        ['1,Ada,"kind",', "well, so", '",L"Day"'],
    ],
)
def test_nor_is_one_read_that_ends_where_a_line_of_its_note_does(lines):
    lines = [*lines, "2,Bo,,Roe", "3,Cy,,Poe"]
    found = rows(*lines, header="code,first_name,note,last_name")
    assert {"1", "3"} & {*found.values()} == {"3"}
    assert [*found] == [number for number, line in enumerate(lines, 2) if line]


@pytest.mark.parametrize(
    ("lines", "rules"),
    [
        (["+1,a,b,c", 'd","2","Bo"', '"+3","x","3","Cy"'], ["lines", "cells"]),
        (["+1,a,b,c", '","2","Bo, Jr"', '"+3","x","3","Cy"'], ["lines", "cells"]),
        (["+1,a,b,c", "d", 'e, f","2","Bo"', '"+3","x","3","Cy"'], ["lines", "cells", "lines"]),
        (["+1,a,b,c", "d, e", 'f","2","Bo, Jr"', ",x,3,Cy"], ["lines", "cells", "cells"]),
    ],
)
def test_nor_is_the_first_line_of_a_note_that_has_as_many_cells_as_a_row(lines, rules):
    """Its first quote is lost; the last one is still there."""
    found = rows(*lines, header="tel,note,code,first_name", columns=DROPPED | {"tel": None})
    assert [*found.values()] == [*rules, "3"]


def test_also_where_it_is_the_first_column():
    lines = ["a,b,c", 'd","Bo","2"', '"tv 40""","Cy","3"']
    assert rows(*lines, header="note,first_name,code") == {2: "lines", 3: "cells", 4: "3"}


def test_nor_is_its_last_line_read_with_the_end_of_the_next_note():
    """A quote is lost in the first row, and one is too many in the second: it ends the note early."""
    lines = ["Di,", '",6', 'Ada,"kind,', 'well," so', "", '",1', "Bo,x,2", "Cy,x,3"]
    found = rows(*lines, header="first_name,note,code")
    assert [*found] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert [code for code in found.values() if code not in ("lines", "cells")] == ["2", "3"]


@pytest.mark.parametrize(
    "lines",
    [
        ['1,"x",Ada', '2,"', 'a",Bo', '3,"y",Cy'],  # a note that begins with a line end
        ['1,"x",Ada', '2,"a', '",Bo', '3,"y",Cy'],
        ['1,"x",Ada', '2,"a', "", '",Bo', '3,"",Cy'],
        ["1,x,Ada", '"2","', 'a","Bo"', '3,"y",Cy'],
    ],
)
def test_the_lines_of_the_next_row_are_no_rest_of_the_one_before(lines):
    found = rows(*lines, header="code,note,first_name")
    assert [*found.values()] == ["1", "2", "3"]


def test_nor_is_a_row_that_begins_with_a_quote_and_has_a_cell_too_many():
    lines = ["1,Ada,gold", "a, b", '"2",B"o",gold,x', "3,Cy,gold"]
    found = rows(*lines, header="code,first_name,plan")
    assert found == {2: "1", 3: "cells", 4: "cells", 5: "3"}


def test_nor_is_the_rest_of_a_note_read_as_a_row():
    found = rows(",", 'a, b",1,Ada', "x,,2,Bo", header="plan,note,code,first_name")
    assert found == {3: "cells", 4: "2"}
    lines = ['1,,Ada,"', "a, b", '2,"', 'a, b",Bo,x', "3,,Cy,"]
    found = rows(*lines, header="code,memo,first_name,note")
    assert found == {2: "1", 5: "cells", 6: "3"}


def test_a_rejected_row_over_several_lines_spoils_none_after_it():
    lines = [line for n in range(50) for line in (f'{n},"kind', f'",N{n}')]
    found = rows('a,"b, c', '",Ada', *lines, header="code,note,first_name")
    assert [*found.values()][-50:] == [str(n) for n in range(50)]


@pytest.mark.parametrize(
    ("meta", "is_read"),
    [('{\n""a"": 1,\n""b"": [1]\n}', True), ("{}\n", True), ("{\n", False), ("[\n]", False)],
)
def test_a_cell_of_meta_may_have_lines_where_it_is_an_object(meta, is_read):
    found = rows(f'1,Ada,gold,"{meta}"', header="code,first_name,plan,meta")
    assert ({*found.values()} == {"1"}) == is_read
    assert is_read or len(found) == meta.count("\n") + 1


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ('1,Ada 5" Day,gold,x', None),
        ('1,Ada "Bo" Day,gold,x', None),
        ('="1",="Ada",gold,x', None),
        ('1,Ada,gold,tv 40"', None),
        ('1,"Ada ""Bo"" Day",gold,x', None),
        ('1,"""Bo""",gold,x', None),
        ('1,Ada",gold,x', "cells"),
        ('1,A"da,gold,5"', "cells"),
        ('1,A"da,g"o"ld,x', "cells"),
        ('1,\t"Ada",gold,x', "cells"),
        ('1,Ada,gold,\u00a0"x"', "cells"),
        ('1,"Ada" ,gold,x', "cells"),
        ('1,"Ada "Bo" Day",gold,x', "cells"),
        ('1,"Ada \\"Bo\\"",gold,x', "cells"),
        ("1,Ada\\, Jr,gold,x", "cells"),
        ('1,"Ada\\"",gold",x', "cells"),
    ],
)
def test_quotes_in_a_cell_are_text_where_they_can_be_nothing_else(row, rule):
    (found,) = read(f"{HEADER}\n{row}\n").values()
    assert getattr(found, "rule", None) == rule


# --- whatever is damaged --------------------------------------------------------------------------

STYLES = ("minimal", "all", "none", "doubled", "backslash", "empty")
COLUMNS = ["code", "first_name", "last_name", "plan", "email", "note", "memo", "meta"]
NOTES = ["", "", "x", "call back", "done, thanks", "a, b, c, d, e", 'tv 40"', 'he said ""yes""']
LINES = ["first{end}second", "{end}a, b", "one,{end},two", "kind,{end}well, so{end}{end}"]


class File:
    """A file with damaged quotes, made of a seed: at so many places, from and to.

    The values of each member hold its number, so that those of another are seen.
    """

    def __init__(self, seed, damages=(2, 4)):
        self.seed, self.damages = seed, damages
        self.random = random.Random(seed)
        pick = self.random.choice
        self.style, self.end, self.delimiter = (
            pick(STYLES),
            pick(["\n", "\r\n", "\r"]),
            pick(",;\t|"),
        )
        self.has_lines = self.random.random() < 0.3 and self.style != "none"
        dropped = self.random.sample(COLUMNS[2:], self.random.randint(0, 4))
        self.columns = [name for name in COLUMNS if name not in dropped]
        self.random.shuffle(self.columns)
        self.members = [self._member(number) for number in range(self.random.randint(3, 40))]
        self.starts = {}
        self.text = self._damaged()

    def _member(self, number):
        pick = self.random.choice
        notes = NOTES + (LINES * 2 if self.has_lines else [])
        joined = f"Day{self.delimiter} Jr" if self.style != "none" else "Day"
        return {
            "code": f"k{number}k",
            "first_name": f"N{number}n",
            "last_name": pick(["", "", f"L{number}l", f"{joined} L{number}l"]),
            "plan": pick(["", f"P{number}p"]),
            "email": pick(["", f"e{number}e@example.com"]),
            "note": pick(notes).replace("{end}", self.end),
            "memo": pick(notes).replace("{end}", self.end),
            "meta": pick(["", "{}", '{"a": 1}']),
        }

    def _cell(self, value):
        special = any(c in value for c in f'"{self.delimiter}\r\n')
        if self.style == "none":
            return value.replace('"', "").replace(self.delimiter, "")
        if self.style == "backslash":
            return '"' + value.replace('"', '\\"') + '"' if special else value
        always = self.style in ("all", "doubled") or (self.style == "empty" and not value)
        return '"' + value.replace('"', '""') + '"' if special or always else value

    def _damaged(self):
        lines = [
            self.delimiter.join(self._cell(member[c]) for c in self.columns)
            for member in self.members
        ]
        body = [f"{line}{self.end}" for line in lines]
        number = 2
        for member, line in zip(self.members, body, strict=True):
            self.starts[number] = member
            number += len(re.findall(r"\r\n?|\n", line))
        self.stop = number
        text = "".join(body)
        for _ in range(self.random.randint(*self.damages)):
            at = self._place(text)
            if self.random.random() < 0.2 and '"' in text:
                at = self.random.choice([m.start() for m in re.finditer('"', text)])
                text = text[:at] + text[at + 1 :]
            else:
                text = text[:at] + '"' + text[at:]
        return self.delimiter.join(self.columns) + self.end + text

    def _place(self, text):
        """Anywhere, or where a quote is most often: at the edge of a cell, or by another."""
        edges = [m.start() for m in re.finditer(rf'[{re.escape(self.delimiter)}"\r\n]', text)]
        at = self.random.randrange(len(text))
        if self.random.random() < 0.5:
            at = self.random.choice(edges) + self.random.randint(0, 1)
        # A line end of two characters stays one.
        return at + 1 if text[at - 1 : at + 1] == "\r\n" else at

    def look(self):
        """Return how many members were read and rejected; fails where one is lost or mixed up."""
        found = read(self.text)
        problem = f"seed {self.seed}: {self.style}, {self.columns}, {self.text!r}"
        sent = [each for each in found.values() if self._is_sent(each)]
        codes = [record["code"].replace('"', "") for record in sent]
        for start, stop in pairwise([*self.starts, self.stop]):
            # The end of a note that was rejected may be read as the beginning of the next one.
            is_there = {*range(start, stop)} & {*found} or self.starts[start]["code"] in codes
            assert is_there, f"line {start} is lost; {problem}"
        assert {*found} <= {*range(2, self.stop + 1)}, problem
        members = {member["code"]: member for member in self.members}
        assert {*codes} <= {*members}, f"a code that nobody has; {problem}"
        assert len(codes) == len({*codes}), f"a member twice; {problem}"
        for code, record in zip(codes, sent, strict=True):
            self._compare(record, members[code], problem)
        return len(sent), len(found) - len(sent)

    def _is_sent(self, record):
        if isinstance(record, Unreadable):
            return False
        return not check_patient({k: v for k, v in record.items() if k not in DROPPED})[1]

    def _compare(self, record, member, problem):
        for name in {*self.columns} - {*DROPPED, "meta"}:
            given, expected = record[name].replace('"', ""), self._plain(member[name])
            assert given == expected, f"{name} of {member['code']} is {record[name]}; {problem}"

    def _plain(self, value):
        return value.replace(self.delimiter, "") if self.style == "none" else value


def test_no_line_is_lost_and_no_value_is_anothers_wherever_quotes_are_lost():
    counts = [File(seed).look() for seed in range(500)]
    read, rejected = map(sum, zip(*counts, strict=True))
    assert rejected < read, "most lines have nothing to do with it"


@pytest.mark.no_cover
def test_a_file_in_order_is_read_but_for_lines_that_could_be_rows():
    """Of a row with two cells of several lines, the lines between could be one."""
    files = [File(seed, damages=(0, 0)) for seed in range(300)]
    files = [file for file in files if file.style not in ("none", "backslash")]
    count = 0
    for file in files:
        found = read(file.text)
        lines = re.split(r"(?<=\r)(?!\n)|(?<=\n)", file.text)
        for start, stop in pairwise([*file.starts, file.stop]):
            own = lines[start - 1 : stop - 1]
            are_rows = [line.count(file.delimiter) >= len(file.columns) - 1 for line in own]
            member = file.starts[start]
            is_clear = len(own) == 1 or not any([*are_rows, member["note"] and member["memo"]])
            if is_clear:
                assert file._is_sent(found[start]), f"line {start} of {file.text!r}"
                count += 1
    assert count > 3000


# --- line breaks without quotes -------------------------------------------------------------------

BREAKS = {"\n": ["\r", "\n", "\r\n"], "\r\n": ["\r", "\n"], "\r": ["\n"], "\r\r\n": ["\n", "\r"]}
PAIRS = [(end, each) for end, breaks in BREAKS.items() for each in breaks]


def broken(*lines, end, header="code;first_name;plan", columns=None):
    text = end.join([header, "1;Ada;gold", *lines, "9;Zoe;gold", ""])
    return codes(read(text, columns))


@pytest.mark.parametrize(("end", "inside"), PAIRS)
@pytest.mark.parametrize(
    "row",
    ["2;Bo;{}premium", "2;Bo;pre{}mium", '2;Bo;{}"premium"', '2;Bo;{}"pre', "2;B{}o;gold"]
    + ['2;Bo;{}"gold; plus"', '"co;de"{}2;Bo;gold']
    + ["co{}de2;Bo;gold", "2;{}Bo;{}gold", "co{}d{}e2;Bo;go{}l{}d", "2{};Bo;gold"],
)
def test_a_line_break_without_quotes_gives_nobody_less_or_another_name(row, end, inside):
    """Neither a plan that is cut off, nor a patient named as the rest of a code."""
    row = row.replace("{}", inside)
    found = broken(row, end=end)
    assert {*found.values()} <= {"1", "9", "lines", "cells"}
    before = len(end.join(["header", "1", ""]).splitlines())
    numbers = [before + at for at, line in enumerate(row.splitlines(), 1) if line.strip()]
    assert {*numbers} <= {*found}, "each line is accounted for"


@pytest.mark.parametrize("row", ["2;Bo;gold\r3;Cy;gold", "2;Bo;\r\rgold", ";;\r3;Cy;gold"])
def test_a_cr_that_ends_no_other_line_is_in_doubt_whatever_is_next_to_it(row):
    found = broken(row, end="\n")
    assert [code for code in found.values() if code not in ("lines", "cells")] in (
        ["1", "9"],
        ["1"],
    )
    assert "1" in found.values()


def test_files_of_one_line_end_each_are_read_and_so_are_blank_lines_between():
    for end in ("\n", "\r\n", "\r", "\r\r\n", "\n\n", "\r\n\n"):
        assert {*broken("2;Bo;gold", end=end).values()} == {"1", "2", "9"}


@pytest.mark.parametrize("blank", ["", " ", "\n\n"])
def test_nor_does_one_that_an_empty_line_follows(blank):
    assert [*broken("2;Bo;basi", blank, "c", end="\n").values()] == ["1", "lines", "cells", "lines"]
    assert [*broken("2;Bo", blank, "c;gold", end="\n").values()] == ["1", "cells", "cells", "9"]
    found = broken("co", blank, "de2;Bo;gold", "3;Cy;gold", end="\n")
    assert [*found.values()] == ["lines", "cells", "lines", "3", "9"]


def test_but_a_trailer_after_an_empty_line_spoils_no_row():
    text = "code;first_name;plan\n1;Ada;gold\n2;Bo;gold\n\n2 rows\n\nEND\n\n"
    assert codes(read(text)) == {2: "1", 3: "2", 5: "cells", 7: "lines"}


def test_a_stub_next_to_a_dropped_end_does_not_spoil_the_row_before():
    header, columns = "code;first_name;note", {"note": None}
    assert [*broken("back", end="\n", header=header, columns=columns).values()] == [
        "1",
        "cells",
        "lines",
    ]
    header += ";"  # but what stands in a column without a name is no note
    text = f"{header}\n1;Ada;x;\nback\n9;Zoe;x;\n"
    assert [*codes(read(text, columns)).values()] == ["lines", "cells", "lines"]


def test_with_a_transform_nothing_is_dropped_yet():
    header = ColumnMapping({"baja": None}, is_transformed=True)
    text = io.StringIO("code;first_name;baja\n1;Ada;\n31/12/2025\n2;Bo;\n", newline="")
    assert [getattr(each, "rule", "") for each, _ in read_csv(text, "file", header, None)] == [
        "lines",
        "cells",
        "lines",
    ]


def test_a_first_cell_of_several_lines_in_quotes_does_not_spoil_the_row_before():
    text = 'note;code;first_name;plan\nx;1;Ada;gold\n"a\nb";2;Bo;gold\nx;3;Cy;gold\n'
    assert codes(read(text)) == {2: "1", 3: "lines", 4: "lines", 5: "3"}


def test_the_last_line_of_a_rejected_cell_may_begin_the_next_row():
    lines = [
        'a@example.com;"',
        'b";1;"{\\"a\\": 1}";Ada',
        'b@example.c"o',
        'm;"x";2;{};Bo',
        "c;x;3;;Cy",
    ]
    found = rows(*lines, header="email;note;code;meta;first_name")
    assert {2, 3, 4} <= {*found}
    assert [code for code in found.values() if code not in ("cells", "lines")] == ["3"]


def test_a_cell_whose_quotes_are_wrong_may_be_the_end_of_the_row_before():
    found = rows(
        "1,gold,Ada,", '"Day," Jr L1l"', "2,gold,Bo,Roe", header="code,plan,first_name,last_name"
    )
    assert found == {2: "lines", 3: "cells", 4: "lines"}, "and the beginning of the row after"


def test_a_cell_of_several_lines_that_a_bare_line_break_cuts_off_gives_the_next_row_no_blank():
    lines = ['"1;{};Ada', '"{', '""a"": 1', '}"', ";2;Bo", ";3;Cy"]
    found = rows(*lines, header="meta;code;first_name")
    assert [*found] == [2, 3, 4, 5, 6, 7]
    assert [code for code in found.values() if code not in ("lines", "cells")] == ["3"]


def test_a_quote_in_a_dropped_cell_is_no_text_before_half_a_row():
    header = "first_name,note,code"
    found = rows('Ada, Jr",first', "second,1", "Bo,x,2", header=header)
    assert found == {2: "cells", 3: "cells", 4: "2"}
    assert rows('Ada, Jr",first', "", "second,1", "Bo,x,2", header=header) == {
        2: "cells",
        4: "cells",
        5: "2",
    }
    assert rows('Bo,40",2', "Cy,x,3", header=header) == {2: "2", 3: "3"}


@pytest.mark.parametrize("end", ["", "\n", "\n \n", "\x1a", "\n2 rows\n"])
def test_but_it_is_text_where_only_blank_lines_or_a_trailer_follow(end):
    found = codes(read(f'{HEADER}\n1,Ada 5" Day,gold,x\n{end}'))
    assert found[2] == "1"
    assert rows('1,Ada 5" Day,gold,x', "", "2,Bo,gold,x") == {2: "1", 4: "2"}


def test_the_line_after_one_that_lacks_cells_by_any_reading_is_its_rest():
    """The second quote of a note that begins with a line break is lost."""
    lines = ['"Ada, Jr","', 'a, b,"1"', '"Bo","x","2"']
    assert rows(*lines, header="first_name,note,code") == {2: "cells", 3: "lines", 4: "2"}
