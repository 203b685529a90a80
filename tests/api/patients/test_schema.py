import datetime as dt
import json
import re
from collections import UserDict
from decimal import Decimal
from numbers import Integral
from typing import Any
from uuid import UUID

import pendulum
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError

from airflow_provider_mediquo.api.client.request import RawResponse, read_result
from airflow_provider_mediquo.api.errors import ServerError
from airflow_provider_mediquo.api.patients.endpoints import encode_patient, get
from airflow_provider_mediquo.api.patients.rules import RULES, describe
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
    """Return the patient that is sent for a record."""
    patient, problems = check_patient(LEAST | fields)
    assert problems == {}
    return patient


def rule(name: str, value: Any) -> str | None:
    """Return the rule that a value breaks in a field."""
    patient, problems = check_patient(LEAST | {name: value})
    assert problems.keys() <= {name}
    assert name not in patient or not problems
    return problems.get(name)


def test_mediquos_own_examples_are_sent_unchanged():
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
def test_code_and_first_name_are_required(name, blank):
    assert rule(name, blank) == "required"
    absent = {key: value for key, value in LEAST.items() if key != name}
    assert check_patient(absent)[1] == {name: "required"}


class NaT(dt.datetime):
    """Like pandas': a datetime that has no year, and does not even equal itself."""

    year = month = day = property(lambda self: float("nan"))

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
def test_a_blank_field_is_sent_as_null_but_a_blank_plan_is_left_out(blank):
    optional = [name for name in PATIENT_FIELDS if name not in LEAST]
    expected = LEAST | dict.fromkeys((name for name in optional if name != "plan"), None)
    assert checked(**dict.fromkeys(optional, blank)) == expected
    assert checked() == LEAST


def test_text_is_trimmed_and_otherwise_sent_unchanged():
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
def test_a_number_is_not_accepted_as_text(name, value):
    assert rule(name, value) == "number"


def test_half_a_surrogate_pair_is_rejected():
    assert rule("last_name", "Ada\ud800") == "text"
    assert rule("meta", {"note": "Ada\ud800"}) == "object"
    assert rule("meta", {"Ada\ud800": 1}) == "object"


@pytest.mark.parametrize(
    "code",
    ["a", "a/b", "a%2Fb", "a?b=c", "a b", "...", ".a", "#", "\u00e9", "\u6771\u4eac", "\u200bx"],
)
def test_a_code_may_be_nearly_any_text(code):
    assert checked(code=code)["code"] == code


@pytest.mark.parametrize(
    ("given_as", "sent_as"),
    [(7, "7"), (10**30, str(10**30)), (Decimal(42), "42"), (Decimal("4.20E+2"), "420")],
)
def test_a_whole_number_is_accepted_as_a_code(given_as, sent_as):
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
        ("a\u0085b", "encoding"),
        ("a\u2028b", "code"),
        (True, "text"),
        (1.0, "number"),
        (Decimal("1.5"), "number"),
        (Decimal("NaN"), "required"),
        (Decimal("Infinity"), "number"),
        (Decimal("1E+999999"), "code"),
    ],
)
def test_a_code_that_a_url_path_cannot_carry_is_rejected(code, broken):
    assert rule("code", code) == broken


def test_a_number_too_long_for_a_code_is_rejected():
    for number in (10**100, 10**5000, -(10**5000)):
        assert rule("code", number) == "code"


@pytest.mark.parametrize(
    ("name", "words"),
    [("gender", {"male", "female"}), ("locale", {"de", "en", "es", "pt"})],
)
def test_gender_and_locale_are_accepted_in_any_case(name, words):
    assert words == {"gender": GENDERS, "locale": LOCALES}[name]
    for word in words:
        for written in (word, f" {word} ", word.upper(), word.title()):
            assert checked(**{name: written})[name] == word
    assert rule(name, "other") == "choice"


@pytest.mark.parametrize("letter", ["M", "F", "H", "m", "V", "1"])
def test_a_letter_for_a_gender_is_not_guessed(letter):
    """M is male in English and mujer, a woman, in Spanish."""
    assert rule("gender", letter) == "choice"


@pytest.mark.parametrize(
    ("written", "language"),
    [("es_ES", "es"), ("pt-BR", "pt"), ("EN_us", "en"), ("de_DE.UTF-8", "de"), ("es-419", "es")]
    + [("de-Latn-DE", "de"), ("de_DE@euro", "de")],
)
def test_a_locale_with_a_region_is_its_language(written, language):
    assert checked(locale=written)["locale"] == language


@pytest.mark.parametrize(
    "locale",
    ["fr", "fr_FR", "esp", "es_", "es ES", "es_E", "spanish", "e", "es_ES, en", "es-ES;q=0.9"],
)
def test_another_locale_is_rejected(locale):
    assert rule("locale", locale) == "choice"


def test_the_rule_of_a_choice_lists_the_allowed_values_of_its_field_alone():
    for field, allowed in (("gender", GENDERS), ("locale", LOCALES)):
        words = re.findall(r"\w+", describe(field, "choice"))
        assert {*words} & (GENDERS | LOCALES) == allowed
        assert words[0] == field


@pytest.mark.parametrize("name", ["code", "first_name", "last_name", "email", "plan", "tax_id"])
@pytest.mark.parametrize("text", ["O\x92Brien", "n\x9a1", "a\x85b"])
def test_a_control_character_of_another_encoding_is_not_sent(name, text):
    """Windows-1252 that is read as Latin-1, say."""
    assert rule(name, text) == "encoding"
    assert rule("meta", {"a": [{"b": text}]}) == "encoding"


@pytest.mark.parametrize("blank", ["\t", "\r\n", "\x0b\x0c", "\x1f", "\u2028"])
def test_white_space_around_it_is_left_out_whatever_it_is(blank):
    fields = {"code": "1", "first_name": "Adé", "plan": "gold", "phone": "+34 600 123 456"}
    assert checked(**{k: f"{blank}{v}{blank}" for k, v in fields.items()}) == fields
    assert checked(meta={"note": f"a{blank}b"})["meta"] == {"note": f"a{blank}b"}


def test_both_names_of_the_birth_date_are_an_error_that_keeps_the_code():
    record = LEAST | {"birth_date": "1980-01-01", "birthdate": "1980-01-01"}
    patient, problems = check_patient(record)
    assert problems == {"birth_date": "twice"}
    assert patient.get("code") == "m-1"


@pytest.mark.parametrize(
    "email",
    ["ada@example.com", "a.b+c@sub.example.com", "o'neill@example.com", "x@xn--80ak6aa92e.com"],
)
def test_a_plausible_email_is_accepted(email):
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
        "ada@example.com\u200b",
        "ad\u00ada@example.com",
        "a" * 250 + "@example.com",
    ],
)
def test_an_implausible_email_is_rejected(email):
    assert rule("email", email) == "email"


def test_meta_may_be_any_json_object():
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
def test_meta_that_json_cannot_express_is_rejected(meta):
    assert rule("meta", meta) == "object"


def test_meta_may_be_32_levels_deep_and_may_not_contain_itself():
    assert rule("meta", nested(32)) is None
    loop: dict[str, Any] = {}
    loop["self"] = loop
    assert rule("meta", loop) == "object"


def test_an_unknown_field_is_an_error_that_names_it():
    assert check_patient(LEAST | {"member_id": 1})[1] == {"member_id": "unknown"}


@pytest.mark.parametrize("name", ["Ada Lovelace", "ada@example.com", "1980-01-01", "", "x" * 41, 7])
def test_a_field_name_that_may_be_a_value_is_not_shown(name):
    assert check_patient(LEAST | {name: 1})[1] == {"?": "unknown"}


def test_no_field_name_is_shown_if_the_header_may_be_missing():
    broken = check_patient({"Lovelace": "x", "female": "y"})[1]
    assert broken == {"code": "required", "first_name": "required", "?": "unknown"}
    assert "Lovelace" not in check_patient({"code": "1", "Lovelace": "x"})[1]


@pytest.mark.parametrize("record", [None, 7, "text", b"bytes", ["code"], ("code", "1"), object()])
def test_a_record_must_be_a_mapping(record):
    assert check_patient(record) == ({}, {"record": "record"})


def test_any_mapping_is_accepted_as_a_record():
    assert check_patient(UserDict(LEAST)) == (LEAST, {})


def test_an_invalid_record_returns_all_its_problems_and_its_valid_fields():
    patient, problems = check_patient(LEAST | {"gender": "x", "phone": "y", "email": "z"})
    assert patient == LEAST
    assert problems == {"gender": "choice", "phone": "phone", "email": "email"}


def test_the_given_record_is_not_changed():
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
def test_any_record_gives_a_valid_patient_or_known_rules(record):
    patient, problems = check_patient(record)
    assert set(problems.values()) <= RULES.keys()
    known = {*PATIENT_FIELDS, "record", "?", "birth_date"}
    names = set(record) if isinstance(record, dict) else set()
    assert problems.keys() <= known | names
    if not problems:
        assert {"code", "first_name"} <= patient.keys() <= set(PATIENT_FIELDS)
        encoded = encode_patient(patient)
        assert isinstance(encoded, bytes)
        assert check_patient(patient) == (patient, {}), "checking twice changes nothing"


@QUICK
@given(st.sampled_from([*PATIENT_FIELDS, "birthdate"]), ANYTHING)
def test_a_rejected_value_is_never_in_the_problems(name, value):
    secret = f"canaryinamine\x00{value}\x00" if isinstance(value, str) else ["canaryinamine", value]
    _, problems = check_patient(LEAST | {name: secret})
    assert "canaryinamine" not in repr(problems)
    assert rule("birth_date" if name == "birthdate" else name, value) in {None, *RULES}


# --- answers of GET ----------------------------------------------------------------------------------

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


def test_both_of_mediquos_time_formats_are_read_as_utc():
    patient = read(SHOWN)
    assert patient["created_at"] == pendulum.datetime(2000, 1, 1, 10)
    assert patient["updated_at"] == pendulum.datetime(2023, 7, 14, 15, 12, 27)
    for name in ("created_at", "updated_at"):
        assert isinstance(patient[name], pendulum.DateTime)
        assert patient[name].timezone_name == "UTC"
    assert patient["unsubscribed_at"] is None


def test_another_offset_is_converted_to_utc():
    times = SHOWN | {"updated_at": "2023-07-14 15:12:27+0200"}
    assert read(times)["updated_at"] == pendulum.datetime(2023, 7, 14, 13, 12, 27)
    assert read(times)["updated_at"].timezone_name == "UTC"


def test_an_invalid_time_is_read_as_none():
    for nonsense in ("0000-00-00 00:00:00", "yesterday", "", 7, {"date": "2000-01-01"}):
        assert read(SHOWN | {"updated_at": nonsense})["updated_at"] is None


def test_unknown_fields_in_an_answer_are_kept():
    added = {"loyalty": {"points": [1, 2]}, "archived_at": "2000-01-01 10:00:00+0000"}
    assert read(SHOWN | added).items() >= added.items()
    assert read(SHOWN)["tax_id"] is None


@QUICK
@given(st.text() | st.datetimes(timezones=st.timezones()).map(str) | ANYTHING)
def test_any_time_is_read_as_utc_or_none(value):
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
def test_any_json_is_read_as_a_patient_or_raises_a_server_error(content):
    received = RawResponse(200, {}, json.dumps(content).encode())
    try:
        patient = read_result(get("m-1"), received)
    except ServerError as error:
        assert error.status == 200
    else:
        assert isinstance(patient["code"], str)


@pytest.mark.parametrize("code", [UUID(int=7), "00000000-0000-0000-0000-000000000007"])
def test_a_uuid_is_accepted_as_a_code(code):
    assert checked(code=code)["code"] == "00000000-0000-0000-0000-000000000007"


def test_meta_may_be_given_as_json_text():
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
def test_the_fast_path_for_valid_records_agrees_with_the_schema(least, others):
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


class LikeNumpys:
    """An integer that is no `int`, as numpy's are."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __index__(self) -> int:
        return self._number


Integral.register(LikeNumpys)


def test_an_integer_of_numpy_is_a_code_as_pythons_are():
    assert checked(code=LikeNumpys(7))["code"] == "7"
    assert rule("code", LikeNumpys(10**100)) == "code"
    assert rule("phone", LikeNumpys(34600000000)) == "number"
