import pytest

from airflow_provider_mediquo.api.upload.options import UploadOptions, is_within


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
        {"columns": ["code"]},
        {"columns": {"a": 7}},
        {"columns": {"a": "code", "b": "code"}},
        {"rejects_path": 7},
        {"transform": "lower"},
        {"min_records": -1},
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
