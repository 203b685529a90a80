"""Files from outside, with made-up people: what is sent of each, and which rules the others break."""

from pathlib import Path

import pytest

from airflow_provider_mediquo.api.errors import InvalidPatientsError
from airflow_provider_mediquo.api.patients.schema import check_patient
from airflow_provider_mediquo.api.records import Unreadable
from airflow_provider_mediquo.sources.columns import ColumnMapping
from airflow_provider_mediquo.sources.files.reader import FileReadOptions, read_files

CASES = Path(__file__).parent / "data"


def look(name):
    """Return the line of each record -> its code, or the rules that it breaks."""
    found: dict[int, object] = {}
    for record, place in read_files(str(CASES / name), None, FileReadOptions(ColumnMapping())):
        if isinstance(record, Unreadable):
            found[place.line] = record.rule
        else:
            patient, problems = check_patient(record)
            found[place.line] = problems or patient["code"]
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "words/dump.tsv",
            [{"last_name": "null"}, {"plan": "null"}, {"first_name": "null"}, {"code": "null"}],
        ),
        ("words/invisible.csv", [{"first_name": "required"}, "2"]),
        ("words/lookup-errors.csv", [{"plan": "null"}] * 3),
        ("words/spreadsheet-codes.csv", [{"code": "spreadsheet"}] * 3),
        ("dates/times.csv", ["1", "2", "3", {"birth_date": "zone"}]),
        ("dates/zero-dates.csv", [{"birth_date": "date"}, {"birth_date": "date"}, "3"]),
        ("phones.csv", [*"1234567", {"phone": "prefix"}, *[{"phone": "phone"}] * 3]),
        ("header/again-otherwise.csv", ["1", "header", "2"]),
        ("json/meta-key-twice.csv", [{"meta": "object"}]),
    ],
)
def test_each_row_is_a_patient_or_says_what_is_wrong(name, expected):
    assert look(name) == dict(enumerate(expected, 2))


def test_rows_of_nothing_are_skipped():
    assert look("words/rows-of-nothing.csv") == {2: "1", 6: "2"}


@pytest.mark.parametrize("name", ["envelope", "pretty"])
def test_all_members_are_not_one_reject(name):
    with pytest.raises(InvalidPatientsError, match="Write one object per line"):
        look(f"json/{name}.json")
