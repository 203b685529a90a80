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
def test_columns_that_fit_a_patient(names, columns):
    ColumnMapping(columns).check(names, "a.csv")


@pytest.mark.parametrize(
    ("names", "columns", "says"),
    [
        (
            [],
            None,
            "no column named code or first_name among its 0 columns.\nMap it: columns={'its_name': 'code'}",
        ),
        (["code"], None, "no column named first_name among its 1 column."),
        (["code", "name"], {"code": None, "name": "first_name"}, "no column named code among"),
        (["code", "first_name", "x", "y"], None, "unknown columns:\nx, y. Map each"),
        (["code", "first_name", ""], None, "unknown columns:\n(no name). Map each"),
        (["code", "first_name", "code"], None, "more than one column for code."),
        (["code", "first_name", "x"], {"x": "code"}, "more than one column for code."),
        (["code", "first_name", "x", "x"], {"x": "plan"}, "more than one column for plan."),
        (
            ["code", "first_name", "birthdate", "birth_date"],
            None,
            "more than one column for birth_date.",
        ),
        (["code", "first_name"], {"product": "plan"}, "no column product, which `columns` maps"),
    ],
)
def test_columns_that_cannot_be_those_of_patients(names, columns, says):
    with pytest.raises(InvalidPatientsError) as caught:
        ColumnMapping(columns).check(names, "a.csv")
    assert str(caught.value).startswith(f"a.csv has {says}")


def test_a_missing_column_may_be_a_wrong_encoding():
    """cp1252 that is read as UTF-8, say."""
    with pytest.raises(InvalidPatientsError, match="check `encoding`"):
        ColumnMapping().check(["c\ufffddigo", "first_name"], "a.csv", is_text=True)


@pytest.mark.parametrize(
    "value",
    ["ada@example.com", "12345", "1980-01-31", "31/12/1980", "31.12.80", "+44 7700 900123", "7"]
    + ["x\n1", "gold\x851", "a\u2028b", "\u202ex", "x" * 65, "A1980-01-31"],
)
@pytest.mark.parametrize("columns", [None, {"x": "plan"}])
def test_a_header_that_may_hold_data_is_not_shown(value, columns):
    names = ["code", "first_name", "plan1", "Sekret", value, "x"]
    with pytest.raises(InvalidPatientsError) as caught:
        ColumnMapping(columns).check(names, "a.csv")
    assert "not shown because the header may hold patient data" in str(caught.value)
    assert "Sekret" not in str(caught.value)
    assert value not in str(caught.value)


def test_a_field_that_comes_twice_is_always_named():
    names = ["code", "first_name", "ada@example.com", "plan", "plan"]
    with pytest.raises(InvalidPatientsError, match="more than one column for plan"):
        ColumnMapping({"ada@example.com": None}).check(names, "a.csv")


@pytest.mark.parametrize(
    "value",
    ["ada@example.com", "1", "+44 7700 900123", "12/31/1980", "born 1980-01-31", "a\nb", "a\x85b"]
    + ["a\u2028b", "plan1", "planm-1", "x" * 65, '"note', "12345678Z", " "],
)
def test_no_column_is_named_where_one_may_be_a_value(value):
    with pytest.raises(InvalidPatientsError) as caught:
        ColumnMapping({"Tarif": "plan"}).check(
            ["code", "first_name", "Tarif", "Canaryinamine", value], "a"
        )
    assert "unknown columns:\n2, not shown because the header may hold patient data" in str(
        caught.value
    )
    with pytest.raises(InvalidPatientsError) as caught:
        ColumnMapping().check(["code", "first_name", "Canaryinamine", "Canaryinamine", value], "a")
    assert "more than one column for 1, not shown" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["Alter", "Fecha de alta", "plan_name", "metadata", "2024 total", ""]
)
def test_what_looks_like_a_name_is_shown(name):
    with pytest.raises(
        InvalidPatientsError, match=f"unknown columns:\n{name or '.no name.'}[.] Map each"
    ):
        ColumnMapping().check(["code", "first_name", name], "a")


def test_a_dropped_column_need_not_be_there():
    ColumnMapping({"note": None, "plan": None}).check(["code", "first_name"], "a.csv")


@given(st.lists(st.text(min_size=1).map(lambda text: f"canaryinamine{text}"), max_size=9))
def test_no_name_is_shown_if_the_header_may_be_missing(names):
    for least in ([], ["code"], ["first_name"]):
        with pytest.raises(InvalidPatientsError) as caught:
            ColumnMapping().check([*names, *least], "a.csv")
        assert "canaryinamine" not in str(caught.value)


@pytest.mark.parametrize("plan_is_first", [True, False])
def test_all_files_or_none_must_have_a_plan_column(plan_is_first):
    names = ["code", "first_name", "plan"]
    first, later = (names, names[:2]) if plan_is_first else (names[:2], names)
    mapping = ColumnMapping()
    mapping.check(first, "a.csv")
    mapping.check(first, "b.csv")
    says = rf"c\.csv has {'no' if plan_is_first else 'a'} plan column, unlike the files before"
    with pytest.raises(InvalidPatientsError, match=says):
        mapping.check(later, "c.csv")


def test_a_missing_plan_column_is_named_as_in_the_source():
    mapping = ColumnMapping({"product": "plan"})
    mapping.check(["code", "first_name", "product"], "a.csv")
    with pytest.raises(InvalidPatientsError, match=r"b\.csv has no column product"):
        mapping.check(["code", "first_name"], "b.csv")


@pytest.mark.parametrize("name", ["CODE", " code", "Code\u00a0", "code\u200b"])
def test_a_name_that_looks_like_another_is_said_to(name):
    with pytest.raises(InvalidPatientsError, match=r" One looks like code, and differs in case, "):
        ColumnMapping().check([name, "first_name"], "file")
    with pytest.raises(InvalidPatientsError, match=r"maps[^$]* One looks like e\u0301, and "):
        ColumnMapping({"e\u0301": "code"}).check(["\u00e9", "first_name"], "file")
    with pytest.raises(InvalidPatientsError, match=r"not shown[^$]* One looks like plan, and "):
        ColumnMapping().check(["code", "first_name", "plan\u200b"], "file")
    with pytest.raises(InvalidPatientsError, match=r"columns=\{'its_name': 'code'\}\.$"):
        ColumnMapping({"code": None}).check(["code", "first_name", "id"], "file")
    with pytest.raises(
        InvalidPatientsError,
        match=r"check `encoding`, `delimiter` and the first line, which must be a header\.$",
    ):
        ColumnMapping().check(["id", "first_name"], "file", is_text=True)


def test_a_statement_has_no_encoding_to_check():
    with pytest.raises(InvalidPatientsError, match=r"columns=\{'its_name': 'code'\}\.$"):
        ColumnMapping().check(["id", "first_name"], "The statement")


def test_a_column_twice_is_an_error_with_a_transform_too():
    """A record has one value for a name, and which one would be a guess."""
    columns = ColumnMapping(is_transformed=True)
    columns.check(["ID", "telefono", "NOMBRE"], "members.csv")
    with pytest.raises(
        InvalidPatientsError, match=r"members.csv has more than one column for"
    ) as e:
        columns.check(["ID", "telefono", "telefono"], "members.csv")
    assert str(e.value).endswith("\nDrop all but one, in the source.")


OWN = {"num_socio": "code", "nombre": "first_name", "producto": "plan"}


def differing(before, names, columns=None):
    mapping = ColumnMapping(columns, is_transformed=True)
    mapping.check(before, "a.csv")
    with pytest.raises(InvalidPatientsError) as caught:
        mapping.check(names, "b.csv")
    return str(caught.value)


def test_with_a_transform_all_files_have_the_same_columns_in_any_order():
    """A function that asks with `get` sees a lost plan as a blank one, which unsubscribes."""
    mapping = ColumnMapping(OWN, is_transformed=True)
    mapping.check([*OWN, "baja"], "a.csv")
    mapping.check(["baja", *OWN], "b.csv")
    assert differing([*OWN, "baja"], [*OWN], OWN).startswith(
        "b.csv has other columns than the files before.\nIt lacks baja. With `transform`, all files"
    )
    assert "It lacks producto and adds tarif. With" in differing(
        [*OWN], ["num_socio", "nombre", "tarif"], OWN | {"tarif": None}
    )


@pytest.mark.parametrize("columns", [None, OWN])
def test_what_differs_is_not_shown_if_it_may_be_data(columns):
    for before, names in (
        ([*OWN], ["Canaryinamine", "Day", "gold"]),
        (["Canaryinamine", "Bo", "gold"], [*OWN]),
    ):
        said = differing(before, names, columns)
        assert "not shown because the header may hold patient data" in said
        assert "Canaryinamine" not in said
        assert "gold" not in said


def test_nor_is_a_value_that_comes_twice_in_a_file_without_a_header():
    with pytest.raises(InvalidPatientsError) as caught:
        ColumnMapping(is_transformed=True).check(["S-1", "Canaryinamine", "Canaryinamine"], "a.csv")
    assert "Canaryinamine" not in str(caught.value)


def test_an_unknown_column_says_how_to_drop_it():
    with pytest.raises(InvalidPatientsError, match=r"to drop it: columns=\{'its_name': None\}\."):
        ColumnMapping().check(["code", "first_name", "x"], "a.csv")
