import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mediquo.api.errors import InvalidPatientsError
from airflow_provider_mediquo.api.patients.schema import PATIENT_FIELDS
from airflow_provider_mediquo.sources.columns import ColumnMapping


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
    ColumnMapping(columns).check(names, "a.csv")


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
        ColumnMapping(columns).check(names, "a.csv")
    assert says in str(caught.value)
    assert str(caught.value).startswith("a.csv has")


@pytest.mark.parametrize(
    "value",
    ["ada@example.com", "1", "+44 7700 900123", "12/31/1980", "born 1980-01-31", "a\nb", "a\x85b"]
    + ["a\u2028b", "plan1", "planm-1", "x" * 65, '"note', "12345678Z", " "],
)
def test_no_column_is_named_where_one_may_be_a_value(value):
    with pytest.raises(InvalidPatientsError) as caught:
        ColumnMapping({"Tarif": "plan"}).check(
            ["code", "first_name", "Tarif", "Canary", value], "a"
        )
    assert "no field of a patient: 2, not named because a column may hold a value" in str(
        caught.value
    )
    with pytest.raises(InvalidPatientsError) as caught:
        ColumnMapping().check(["code", "first_name", "Canary", "Canary", value], "a")
    assert "more than one column for 1, not named" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["Alter", "Fecha de alta", "plan_name", "metadata", "2024 total", ""]
)
def test_what_looks_like_a_name_is_shown(name):
    with pytest.raises(InvalidPatientsError, match=f"patient: {name or '.no name.'}[.] Map each"):
        ColumnMapping().check(["code", "first_name", name], "a")


def test_a_dropped_column_need_not_be_there():
    ColumnMapping({"note": None, "plan": None}).check(["code", "first_name"], "a.csv")


@given(st.lists(st.text(min_size=1).map(lambda text: f"canary{text}"), max_size=9))
def test_names_that_may_be_values_are_not_shown(names):
    for least in ([], ["code"], ["first_name"]):
        with pytest.raises(InvalidPatientsError) as caught:
            ColumnMapping().check([*names, *least], "a.csv")
        assert "canary" not in str(caught.value)


@pytest.mark.parametrize("plan_is_first", [True, False])
def test_of_several_files_all_have_a_plan_or_none_or_some_would_be_unsubscribed(plan_is_first):
    names = ["code", "first_name", "plan"]
    first, later = (names, names[:2]) if plan_is_first else (names[:2], names)
    header = ColumnMapping()
    header.check(first, "a.csv")
    header.check(first, "b.csv")
    says = rf"c\.csv has {'no' if plan_is_first else 'a'} column for the plan, and what"
    with pytest.raises(InvalidPatientsError, match=says):
        header.check(later, "c.csv")


def test_a_plan_that_has_another_name_and_is_not_there_is_told_by_that():
    header = ColumnMapping({"product": "plan"})
    header.check(["code", "first_name", "product"], "a.csv")
    with pytest.raises(InvalidPatientsError, match=r"b\.csv has no column product"):
        header.check(["code", "first_name"], "b.csv")


def test_columns_that_come_twice_are_shown_as_names_are():
    with pytest.raises(InvalidPatientsError) as caught:
        ColumnMapping().check(["code", "first_name", *["x\n\u202ey" + "z" * 1000] * 2], "a.csv")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
