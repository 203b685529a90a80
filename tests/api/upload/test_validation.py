import tracemalloc
from typing import Any

import pytest

from airflow_provider_mediquo.api.errors import InvalidPatientsError
from airflow_provider_mediquo.api.upload import validation
from airflow_provider_mediquo.api.upload.ledger import Ledger
from airflow_provider_mediquo.api.upload.options import UploadOptions
from airflow_provider_mediquo.api.upload.reject_log import RejectLog
from airflow_provider_mediquo.api.upload.source_reader import iterate_records
from airflow_provider_mediquo.api.upload.validation import RecordValidator
from airflow_provider_mediquo.api.visibility.sample import Sample


def validator(**options: Any) -> tuple[RecordValidator, Ledger]:
    ledger = Ledger(RejectLog(), Sample("secret"))
    return RecordValidator(UploadOptions(**options), ledger), ledger


@pytest.mark.parametrize("patients", ["m-1", b"m-1", {"code": "m-1"}, 7, None, object()])
def test_what_cannot_be_a_list_of_patients_is_refused(patients):
    with pytest.raises(
        InvalidPatientsError, match=f"This is (a )?{type(patients).__name__.removesuffix('Type')}"
    ):
        iterate_records(patients)


@pytest.mark.parametrize(
    ("patients", "advice"),
    [
        (None, "This is None: a function must return or yield them."),
        ({"code": "m-1"}, "This is a dict: put a single patient into a list."),
    ],
)
def test_and_it_says_what_to_do(patients, advice):
    with pytest.raises(InvalidPatientsError) as caught:
        iterate_records(patients)
    assert str(caught.value).splitlines()[1] == advice


@pytest.mark.parametrize("attribute", ["__arrow_c_stream__", "__dataframe__"])
def test_a_dataframe_is_refused_because_its_columns_are_no_patients(attribute):
    names = ["code", "first_name"]
    arrow = {attribute: None}
    frame = type("DataFrame", (list,), arrow | {"columns": names})(names)
    with pytest.raises(InvalidPatientsError, match=r"to_dict\("):
        iterate_records(frame)
    assert list(iterate_records(type("Series", (list,), arrow)([{"code": "m-1"}])))


@pytest.mark.no_cover
def test_a_code_costs_at_most_100_bytes_whatever_its_length(monkeypatch):
    # Checking so many under tracemalloc takes long, and keeps nothing.
    monkeypatch.setattr(validation, "check_patient", lambda record: (record, {}))
    checked, ledger = validator()
    # The set of the codes grows in between, to four times its size: it takes more for each code
    # than it does of a million.
    looks = 4_000, 9_000

    def source() -> Any:
        for number in range(looks[-1]):
            yield {"code": f"{number:0>80}", "first_name": "Ada"}

    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number, item in enumerate(checked.accept(source()), 1):
            del ledger._unsettled[item.row]  # as its answer would
            if number in looks:
                after, _ = tracemalloc.get_traced_memory()
                assert after - before < 100 * number
    finally:
        tracemalloc.stop()
    assert number == looks[-1]


def test_what_may_be_sent_is_known_as_unsettled_until_it_is_answered():
    checked, ledger = validator()
    records = [{"code": 1, "first_name": "Ada"}, {"code": 2}, {"code": "3", "first_name": "Bo"}]
    assert [item.row for item in checked.accept(records)] == [1, 3]
    assert (ledger.report.unsettled, ledger.report.invalid) == (2, 1)


def test_codes_whose_hashes_share_32_bits_are_no_duplicates():
    """There are a dozen of such pairs in 300,000 codes, and two million are a usual night."""
    first: dict[int, str] = {}
    alike: set[str] = set()
    for number in range(300_000):
        code = f"m-{number}"
        if (other := first.setdefault(hash(code) & 0xFFFFFFFF, code)) is not code:
            alike |= {code, other}
    records = [{"code": code, "first_name": "Ada"} for code in alike]
    assert {item.code for item in validator()[0].accept(records)} == alike
