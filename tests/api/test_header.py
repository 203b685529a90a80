import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mediquo.api.errors import InvalidPatientsError
from airflow_provider_mediquo.api.header import Header
from airflow_provider_mediquo.api.schema import PATIENT_FIELDS


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
    Header(columns).check(names, "a.csv")


@pytest.mark.parametrize(
    ("names", "columns", "says"),
    [
        ([], None, "a.csv has 0 columns, and none of them is code or first_name,"),
        (["code"], None, "a.csv has 1 columns, and none of them is first_name,"),
        (["code", "name"], {"code": None, "name": "first_name"}, "none of them is code,"),
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
        Header(columns).check(names, "a.csv")
    assert says in str(caught.value)
    assert str(caught.value).startswith("a.csv has")


@given(st.lists(st.text(min_size=1).map(lambda text: f"canary{text}"), max_size=9))
def test_names_that_may_be_values_are_not_shown(names):
    for least in ([], ["code"], ["first_name"]):
        with pytest.raises(InvalidPatientsError) as caught:
            Header().check([*names, *least], "a.csv")
        assert "canary" not in str(caught.value)


def test_a_file_without_a_plan_after_one_that_had_it_would_unsubscribe_all():
    header = Header({"product": "plan"})
    header.check(["code", "first_name", "product"], "a.csv")
    with pytest.raises(InvalidPatientsError, match=r"b\.csv has no column product"):
        header.check(["code", "first_name"], "b.csv")
    header = Header()
    header.check(["code", "first_name"], "a.csv")
    header.check(["code", "first_name", "plan"], "b.csv")
    with pytest.raises(InvalidPatientsError, match=r"c\.csv has no column for the plan, unlike"):
        header.check(["code", "first_name"], "c.csv")
