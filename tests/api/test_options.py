import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mediquo.api.errors import InvalidPatientsError
from airflow_provider_mediquo.api.options import UploadOptions, is_within
from airflow_provider_mediquo.api.schema import PATIENT_FIELDS


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_rejects": -1},
        {"max_rejects": 1.0},
        {"max_rejects": -0.1},
        {"max_rejects": True},
        {"max_rejects": "0"},
        {"max_rejects": None},
        {"max_rejects": float("nan")},
        {"max_without_plan": -1},
        {"max_without_plan": 1.5},
        {"max_without_plan": "all"},
        {"max_without_plan": False},
        {"chunk_size": 0},
        {"chunk_size": 101},
        {"chunk_size": 1.0},
        {"chunk_size": True},
        {"max_in_flight": 0},
        {"max_in_flight": 1000},
        {"columns": {"a": "member_id"}},
    ],
)
def test_an_option_that_makes_no_sense_is_refused_by_name(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        UploadOptions(**wrong)


def test_limits_are_numbers_or_shares():
    assert is_within(0, 0, 100)
    assert not is_within(0, 1, 100)
    assert is_within(5, 5, 1)
    assert is_within(0.1, 10, 100)
    assert not is_within(0.1, 11, 100)
    assert is_within(0.0, 0, 0)
    assert is_within(None, 100, 100)


def test_columns_rename_and_drop():
    options = UploadOptions(columns={"member_id": "code", "born": "birthdate", "internal": None})
    record = {"member_id": 1, "born": "1980-01-01", "internal": object(), "plan": "x"}
    assert options.rename(record) == ({"code": 1, "birthdate": "1980-01-01", "plan": "x"}, {})


def test_columns_may_swap_names():
    options = UploadOptions(columns={"first_name": "last_name", "last_name": "first_name"})
    record = {"first_name": "Lovelace", "last_name": "Ada"}
    assert options.rename(record) == ({"first_name": "Ada", "last_name": "Lovelace"}, {})


def test_two_columns_that_become_one_are_a_problem():
    options = UploadOptions(columns={"member_id": "code"})
    assert options.rename({"member_id": 1, "code": 2})[1] == {"code": "twice"}
    assert options.rename({"code": 2, "member_id": 1})[1] == {"code": "twice"}


def test_what_is_no_mapping_is_left_to_the_schema():
    assert UploadOptions(columns={"a": "code"}).rename([1]) == ([1], {})


# --- the header of a source ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (["code", "first_name"], None),
        ([*PATIENT_FIELDS], None),
        (["first_name", "birthdate", "code"], {}),
        (["id", "name", "x"], {"id": "code", "name": "first_name", "x": None}),
        (["code", "code2", "first_name"], {"code": None, "code2": "code"}),
    ],
)
def test_columns_of_patients(names, columns):
    UploadOptions(columns=columns).check_header(names, "a.csv")


@pytest.mark.parametrize(
    ("names", "columns", "says"),
    [
        ([], None, "a.csv has 0 columns, and none of them is code or first_name."),
        (["code"], None, "a.csv has 1 columns, and none of them is first_name."),
        (["code", "name"], {"code": None, "name": "first_name"}, "none of them is code"),
        (["code", "first_name", "x", "y"], None, "no field of a patient: x, y. Map each"),
        (["code", "first_name", ""], None, "no field of a patient: (no name). Map each"),
        (["code", "first_name", "code"], None, "more than one column for code:"),
        (["code", "first_name", "x"], {"x": "code"}, "more than one column for code:"),
        (["code", "first_name", "x", "x"], {"x": "plan"}, "more than one column for plan:"),
        (["code", "first_name", "birthdate", "birth_date"], None, "one column for birth_date:"),
        (["code", "first_name"], {"product": "plan"}, "no column product, which `columns` maps"),
    ],
)
def test_columns_that_are_not_those_of_patients(names, columns, says):
    with pytest.raises(InvalidPatientsError) as caught:
        UploadOptions(columns=columns).check_header(names, "a.csv")
    assert says in str(caught.value)
    assert str(caught.value).startswith("a.csv has")


@given(st.lists(st.text(min_size=1).map(lambda text: f"canary{text}"), max_size=9))
def test_names_that_may_be_values_are_not_shown(names):
    for least in ([], ["code"], ["first_name"]):
        with pytest.raises(InvalidPatientsError) as caught:
            UploadOptions().check_header([*names, *least], "a.csv")
        assert "canary" not in str(caught.value)
