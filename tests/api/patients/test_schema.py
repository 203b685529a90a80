import datetime as dt
import json
from collections import UserDict
from decimal import Decimal
from typing import Any
from uuid import UUID

import pendulum
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError

from airflow_provider_mediquo.api.client.request import RawResponse, read_result
from airflow_provider_mediquo.api.errors import ServerError
from airflow_provider_mediquo.api.patients import endpoints as patients
from airflow_provider_mediquo.api.patients.fields import RULES
from airflow_provider_mediquo.api.patients.schema import (
    GENDERS,
    LOCALES,
    PATIENT_FIELDS,
    PatientAnswerSchema,
    PatientSchema,
    check_patient,
)

QUICK = settings(deadline=None, database=None, derandomize=True, max_examples=200)
SLOWER = settings(QUICK, max_examples=400)
LEAST = {"code": "m-1", "first_name": "Ada"}


def checked(**fields: Any) -> Any:
    """What a field goes out as."""
    patient, problems = check_patient(LEAST | fields)
    assert problems == {}
    return patient


def rule(name: str, value: Any) -> str | None:
    """The rule that a value breaks in a field."""
    patient, problems = check_patient(LEAST | {name: value})
    assert name not in patient or not problems
    assert problems.keys() <= {name}
    return problems.get(name)


def test_the_documents_own_examples_pass_as_they_are():
    john = {
        "code": "dcb70f10-bafe-4a43-af99-8c86c61aa68d",
        "first_name": "John",
        "last_name": "Doe",
        "gender": "male",
        "plan": "premium",
        "birth_date": "1980-01-01",
        "tax_id": "123456789",
        "email": "john@doe.com",
        "phone": "+1 123345678",
    }
    jane = {
        "code": "jane-unique-id",
        "first_name": "Jane",
        "gender": "female",
        "birth_date": "1980-01-01",
    }
    assert check_patient(john) == (john, {})
    assert check_patient(jane) == (jane, {})


def test_every_documented_attribute_is_a_field():
    documented = "code first_name last_name gender birth_date tax_id email plan phone locale meta"
    assert sorted(PATIENT_FIELDS) == sorted(documented.split())


@pytest.mark.parametrize("name", ["code", "first_name"])
@pytest.mark.parametrize("blank", [None, "", " \t", "\u00a0"])
def test_code_and_first_name_must_be_there_and_not_blank(name, blank):
    assert rule(name, blank) == "required"
    absent = {key: value for key, value in LEAST.items() if key != name}
    assert check_patient(absent)[1] == {name: "required"}


class NaT(dt.datetime):
    """Like pandas': a datetime that has no year, and does not even equal itself."""

    year = month = day = property(lambda self: float("nan"))  # type: ignore[assignment]  # as there

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    __hash__ = dt.datetime.__hash__


@pytest.mark.parametrize(
    "blank",
    [
        *(None, "", "  ", "\n", "\u2003"),
        *(float("nan"), Decimal("NaN"), Decimal("sNaN"), NaT(2000, 1, 1)),
    ],
    ids=repr,
)
def test_a_blank_field_goes_out_as_null_an_absent_one_not_at_all_and_a_blank_plan_neither(blank):
    optional = [name for name in PATIENT_FIELDS if name not in LEAST]
    expected = LEAST | dict.fromkeys((name for name in optional if name != "plan"), None)
    assert checked(**dict.fromkeys(optional, blank)) == expected
    assert checked() == LEAST


def test_text_is_trimmed_and_otherwise_sent_as_given():
    given_name = "\u00a0 Jose\u0301  O'Neill-\u0141ukasz \U0001f600\n"
    assert checked(last_name=given_name)["last_name"] == given_name.strip()
    assert checked(plan=" Premium  Plus ")["plan"] == "Premium  Plus"
    assert checked(email="Ada@Example.COM ")["email"] == "Ada@Example.COM"


@pytest.mark.parametrize("name", ["first_name", "last_name", "tax_id", "plan", "email", "phone"])
@pytest.mark.parametrize("value", [True, b"x", ["x"], {"x": 1}, dt.date(2000, 1, 1)])
def test_text_must_be_text(name, value):
    assert rule(name, value) == "text"


@pytest.mark.parametrize("name", ["first_name", "tax_id", "plan", "phone"])
@pytest.mark.parametrize("value", [34600000000, 1.5, Decimal(7), float("inf")])
def test_a_number_is_no_text_for_it_may_have_lost_something(name, value):
    assert rule(name, value) == "number"


def test_half_of_a_surrogate_pair_is_no_text():
    assert rule("last_name", "Ada\ud800") == "text"
    assert rule("meta", {"note": "Ada\ud800"}) == "object"
    assert rule("meta", {"Ada\ud800": 1}) == "object"


@pytest.mark.parametrize(
    "code",
    ["a", "a/b", "a%2Fb", "a?b=c", "a b", "...", ".a", "#", "\u00e9", "\u6771\u4eac", "\u200bx"],
)
def test_a_code_is_nearly_any_text(code):
    assert checked(code=code)["code"] == code


@pytest.mark.parametrize(
    ("given_as", "sent_as"),
    [(7, "7"), (10**30, str(10**30)), (Decimal(42), "42"), (Decimal("4.20E+2"), "420")],
)
def test_a_whole_number_is_a_code_as_databases_keep_it(given_as, sent_as):
    assert checked(code=given_as)["code"] == sent_as


@pytest.mark.parametrize(
    ("code", "broken"),
    [
        (".", "code"),
        ("..", "code"),
        (" .. ", "code"),
        ("a\nb", "code"),
        ("a\x00b", "text"),
        ("a\x7fb", "code"),
        ("a\u0085b", "code"),
        ("a\u2028b", "code"),
        (True, "text"),
        (1.0, "number"),
        (Decimal("1.5"), "number"),
        (Decimal("NaN"), "required"),
        (Decimal("Infinity"), "number"),
        (Decimal("1E+999999"), "code"),
    ],
)
def test_a_code_that_a_path_cannot_carry_is_refused(code, broken):
    assert rule("code", code) == broken


def test_a_number_too_long_to_be_a_code_is_refused():
    for number in (10**100, 10**5000, -(10**5000)):
        assert rule("code", number) == "code"


@pytest.mark.parametrize("name", ["gender", "locale"])
def test_gender_and_locale_come_from_their_lists(name):
    allowed = {"gender": {"male", "female"}, "locale": {"de", "en", "es", "pt"}}[name]
    assert allowed == {"gender": GENDERS, "locale": LOCALES}[name]
    assert {checked(**{name: f" {word} "})[name] for word in allowed} == allowed
    assert {rule(name, word) for word in ("Male", "other", "fr", "es_ES", "EN")} == {"choice"}


@pytest.mark.parametrize(
    "day",
    [
        "1980-02-29",
        " 1980-02-29\n",
        dt.date(1980, 2, 29),
        dt.datetime(1980, 2, 29, 23, 59),
        dt.datetime(1980, 2, 29, tzinfo=dt.timezone(dt.timedelta(hours=14))),
        pendulum.date(1980, 2, 29),
        pendulum.datetime(1980, 2, 29),
    ],
)
def test_a_birth_date_is_text_a_date_or_a_datetime(day):
    assert checked(birth_date=day)["birth_date"] == "1980-02-29"
    assert checked(birthdate=day)["birth_date"] == "1980-02-29"


@pytest.mark.parametrize(
    "day",
    [
        "1981-02-29",
        "1980-2-9",
        "19800229",
        "29/02/1980",
        "1980-02-29T00:00:00",
        "1980-13-01",
        "0000-00-00",
        "\u0661\u0669\u0668\u0660-\u0660\u0661-\u0660\u0661",
        19800229,
        True,
        b"1980-02-29",
    ],
)
def test_what_is_not_a_real_day_is_refused(day):
    assert rule("birth_date", day) == "date"


def test_nobody_is_born_in_the_future():
    today = dt.datetime.now(dt.UTC).date()
    assert rule("birth_date", today + dt.timedelta(days=2)) == "future"
    assert rule("birth_date", (today + dt.timedelta(days=2)).isoformat()) == "future"
    assert rule("birth_date", "9999-12-31") == "future"
    assert rule("birth_date", today - dt.timedelta(days=1)) is None


def test_somebody_may_be_born_today():
    assert rule("birth_date", dt.datetime.now(dt.UTC).date()) is None


def test_both_names_of_the_birth_date_at_once_are_an_error_that_still_tells_whose():
    record = LEAST | {"birth_date": "1980-01-01", "birthdate": "1980-01-01"}
    patient, problems = check_patient(record)
    assert problems == {"birth_date": "twice"}
    assert patient.get("code") == "m-1"


@pytest.mark.parametrize(
    "email",
    ["ada@example.com", "a.b+c@sub.example.com", "o'neill@example.com", "x@xn--80ak6aa92e.com"],
)
def test_a_plausible_email_passes(email):
    assert checked(email=email)["email"] == email


@pytest.mark.parametrize(
    "email",
    [
        "ada",
        "ada@",
        "@example.com",
        "ada@example",
        "ada example@example.com",
        "ada@@example.com",
        "ada@example.com, bob@example.com",
        "ada@example.com\nbob@example.com",
        "a" * 250 + "@example.com",
    ],
)
def test_an_implausible_email_does_not(email):
    assert rule("email", email) == "email"


@pytest.mark.parametrize(
    "phone",
    [
        "+1 123345678",
        "+1 202-555-0123",
        "+12025550123",
        "0012025550123",
        "+1 (202) 555.0123",
        "+44 20 7946 0123",
        "+44/20/79460123",
    ],
)
def test_a_phone_number_passes_as_it_was_written(phone):
    assert checked(phone=f" {phone} ")["phone"] == phone


@pytest.mark.parametrize(
    ("phone", "broken"),
    [
        ("202-555-0123", "prefix"),
        ("020 7946 0123", "prefix"),
        ("+1 202", "phone"),
        ("+1 202 555 0123 4567 89", "phone"),
        ("+0 202 555 0123", "phone"),
        ("000 202 555 0123", "phone"),
        ("+1 202-555-0123 ext. 4", "phone"),
        ("call +1 202-555-0123", "phone"),
        ("+\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668", "phone"),
        ("++12025550123", "phone"),
    ],
)
def test_a_phone_number_needs_its_prefix_and_enough_digits(phone, broken):
    assert rule("phone", phone) == broken


def test_meta_is_an_object_of_the_callers_own():
    meta = {"card_id": "1234", "n": [1, 2.5, None, True, {"deep": "\u00e9"}], "": {}}
    assert checked(meta=meta)["meta"] == meta
    assert checked(meta={})["meta"] == {}


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "meta",
    [
        '{"card_id": "1234"',
        '["card_id"]',
        '{"x": NaN}',
        '{"x": ' * 5000,
        "card_id",
        ["card_id"],
        7,
        {1: "x"},
        {"x": float("nan")},
        {"x": float("inf")},
        {"x": (1, 2)},
        {"x": {1, 2}},
        {"x": b"y"},
        {"x": dt.date(2000, 1, 1)},
        {"x": Decimal(1)},
        {"x": 10**5000},
        nested(33),
    ],
    ids=lambda meta: type(meta).__name__,
)
def test_meta_that_json_cannot_carry_is_refused(meta):
    assert rule("meta", meta) == "object"


def test_meta_may_be_32_levels_deep_and_may_not_contain_itself():
    assert rule("meta", nested(32)) is None
    loop: dict[str, Any] = {}
    loop["self"] = loop
    assert rule("meta", loop) == "object"


def test_an_unknown_field_is_an_error_that_names_it():
    assert check_patient(LEAST | {"member_id": 1})[1] == {"member_id": "unknown"}


@pytest.mark.parametrize("name", ["Ada Lovelace", "ada@example.com", "1980-01-01", "", "x" * 41, 7])
def test_a_name_that_may_be_a_value_is_not_shown(name):
    assert check_patient(LEAST | {name: 1})[1] == {"?": "unknown"}


def test_no_name_of_a_record_that_may_have_no_header_is_shown():
    broken = check_patient({"Lovelace": "x", "female": "y"})[1]
    assert broken == {"code": "required", "first_name": "required", "?": "unknown"}
    assert "Lovelace" not in check_patient({"code": "1", "Lovelace": "x"})[1]


@pytest.mark.parametrize("record", [None, 7, "text", b"bytes", ["code"], ("code", "1"), object()])
def test_what_is_no_mapping_is_no_record(record):
    assert check_patient(record) == ({}, {"record": "record"})


def test_any_mapping_is_a_record():
    assert check_patient(UserDict(LEAST)) == (LEAST, {})


def test_a_broken_record_shows_all_its_problems_and_the_fields_that_are_well():
    patient, problems = check_patient(LEAST | {"gender": "x", "phone": "y", "email": "z"})
    assert patient == LEAST
    assert problems == {"gender": "choice", "phone": "phone", "email": "email"}


def test_the_record_that_was_given_stays_as_it_was():
    record = LEAST | {"birthdate": "1980-01-01", "last_name": " x ", "meta": {"a": [1]}}
    before = dict(record)
    check_patient(record)
    assert record == before


ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.decimals(),
        st.fractions(),
        st.complex_numbers(),
        st.text(),
        st.text(alphabet=st.characters()),
        st.binary(),
        st.dates(),
        st.times(),
        st.timedeltas(),
        st.datetimes(timezones=st.none() | st.timezones()),
        st.uuids(),
        st.emails(),
        st.from_regex(r"\A(\+|00)[0-9 ().-]{5,20}\Z"),
        st.sampled_from([*GENDERS, *LOCALES, ".", "..", "\x00", "\ud800", "a" * 5000, object()]),
        st.sampled_from([Decimal("sNaN"), -(10**100)]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner),
        st.frozensets(st.integers()),
        st.dictionaries(st.text() | st.integers() | st.none(), inner, max_size=3),
    ),
    max_leaves=6,
)
NAMES = (
    st.sampled_from([*PATIENT_FIELDS, "birthdate", "_schema", "unknown"]) | st.text() | st.none()
)


@SLOWER
@given(st.dictionaries(NAMES, ANYTHING, max_size=8) | ANYTHING)
def test_any_values_give_a_patient_or_rules_and_nothing_else(record):
    patient, problems = check_patient(record)
    assert set(problems.values()) <= RULES.keys()
    known = {*PATIENT_FIELDS, "record", "?", "birth_date"}
    names = set(record) if isinstance(record, dict) else set()
    assert problems.keys() <= known | names
    if not problems:
        assert {"code", "first_name"} <= patient.keys() <= set(PATIENT_FIELDS)
        encoded = patients.encode_patient(patient)
        assert isinstance(encoded, bytes)
        assert check_patient(patient) == (patient, {}), "what goes out would come in again"


@QUICK
@given(st.sampled_from([*PATIENT_FIELDS, "birthdate"]), ANYTHING)
def test_a_refused_value_is_never_in_the_problems(name, value):
    secret = f"canary\x00{value}\x00" if isinstance(value, str) else ["canary", value]
    _, problems = check_patient(LEAST | {name: secret})
    assert "canary" not in repr(problems)
    assert rule("birth_date" if name == "birthdate" else name, value) in {None, *RULES}


# --- what GET gives -------------------------------------------------------------------------------

SHOWN = {
    "code": "biOo3TPo",
    "first_name": "Jane",
    "tax_id": None,
    "created_at": "2000-01-01 10:00:00+0000",
    "updated_at": "2023-07-14T15:12:27Z",
    "unsubscribed_at": None,
}


def read(content: dict[str, Any]) -> dict[str, Any]:
    return dict(PatientAnswerSchema().load(content))


def test_both_of_mediquos_formats_become_aware_times_in_utc():
    patient = read(SHOWN)
    assert patient["created_at"] == pendulum.datetime(2000, 1, 1, 10)
    assert patient["updated_at"] == pendulum.datetime(2023, 7, 14, 15, 12, 27)
    for name in ("created_at", "updated_at"):
        assert isinstance(patient[name], pendulum.DateTime)
        assert patient[name].timezone_name == "UTC"
    assert patient["unsubscribed_at"] is None


def test_another_offset_is_turned_into_utc():
    times = SHOWN | {"updated_at": "2023-07-14 15:12:27+0200"}
    assert read(times)["updated_at"] == pendulum.datetime(2023, 7, 14, 13, 12, 27)
    assert read(times)["updated_at"].timezone_name == "UTC"


def test_a_time_that_is_none_keeps_nobody_from_being_read():
    for nonsense in ("0000-00-00 00:00:00", "yesterday", "", 7, {"date": "2000-01-01"}):
        assert read(SHOWN | {"updated_at": nonsense})["updated_at"] is None


def test_fields_that_mediquo_adds_later_are_kept_as_they_are():
    added = {"loyalty": {"points": [1, 2]}, "archived_at": "2000-01-01 10:00:00+0000"}
    assert read(SHOWN | added).items() >= added.items()
    assert read(SHOWN)["tax_id"] is None


@QUICK
@given(st.text() | st.datetimes(timezones=st.timezones()).map(str) | ANYTHING)
def test_any_time_reads_as_a_time_in_utc_or_none(value):
    found = read(SHOWN | {"updated_at": value})["updated_at"]
    assert found is None or found.timezone_name == "UTC"


@QUICK
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*SHOWN, "x"]), inner),
        max_leaves=10,
    )
)
def test_any_json_reads_as_a_patient_or_as_an_answer_that_is_not_documented(content):
    received = RawResponse(200, {}, json.dumps(content).encode())
    try:
        patient = read_result(patients.get("m-1"), received)
    except ServerError as error:
        assert error.status == 200
    else:
        assert isinstance(patient["code"], str)


@pytest.mark.parametrize("code", [UUID(int=7), "00000000-0000-0000-0000-000000000007"])
def test_a_code_may_be_a_uuid_of_a_database(code):
    assert checked(code=code)["code"] == "00000000-0000-0000-0000-000000000007"


def test_meta_may_come_as_its_json():
    assert checked(meta=' {"card_id": "1234", "n": [1, null]} ')["meta"] == {
        "card_id": "1234",
        "n": [1, None],
    }


VALUES = st.one_of(
    st.none(),
    st.text(),
    st.sampled_from(["a", "1980-01-01", "ada@example.com", "+1 202-555-0123", "male", "es", ""]),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.datetimes(),
    st.booleans(),
    st.dictionaries(st.text(), st.integers()),
)


@SLOWER
@given(
    st.dictionaries(st.sampled_from(["code", "first_name"]), st.sampled_from(["a", " b ", ""])),
    st.dictionaries(st.sampled_from([*PATIENT_FIELDS, "birthdate", "other"]), VALUES),
)
def test_the_short_way_for_good_records_says_what_the_schema_says(least, others):
    patient, problems = check_patient(least | others)
    renamed = least | others
    if "birthdate" in renamed and "birth_date" not in renamed:
        renamed["birth_date"] = renamed.pop("birthdate")
    try:
        loaded = PatientSchema().load(renamed)
    except ValidationError:
        assert problems
    else:
        assert (patient, problems) == (loaded, {})


@pytest.mark.parametrize("hour", [1, 12, 23])
def test_a_time_with_a_zone_may_mean_another_day(hour):
    assert rule("birth_date", pendulum.datetime(1980, 2, 29, hour)) == "zone"
    madrid = dt.datetime(1980, 2, 29, hour, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    assert rule("birth_date", madrid) == "zone"
