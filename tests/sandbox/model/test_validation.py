import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mediquo.sandbox import Settings
from airflow_provider_mediquo.sandbox.model.attributes import READERS
from airflow_provider_mediquo.sandbox.model.validation import check

SCALARS = st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text()
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)


def patients(count):
    return [{"code": f"m-{n}", "first_name": "Ada"} for n in range(count)]


def test_a_hundred_patients_are_accepted(client):
    assert client.put(*patients(100)).status_code == 200
    assert len(client.box.patients) == 100


def test_one_more_than_the_limit_is_refused(client):
    answer = client.put(*patients(101))
    assert answer.status_code == 422
    assert "must not have more than 100 items" in answer.json()["message"]
    assert not client.box.accepted


def test_the_limit_can_be_changed(connect):
    client = connect(max_patients=1000)
    assert client.put(*patients(1000)).status_code == 200
    client.box.settings.max_patients = 999
    assert client.put(*patients(1000)).status_code == 422


def test_one_invalid_patient_makes_the_other_99_fail(client):
    answer = client.put(*patients(99), {"code": "invalid", "first_name": "Ada", "email": "nowhere"})
    assert answer.status_code == 422
    assert not client.box.patients
    assert not client.box.accepted


def error_path(client, patient, **fields):
    answer = client.put({**patient, **fields})
    assert answer.status_code == 422, answer.text
    (path,) = answer.json()["errors"]
    return path.removeprefix("patients.0.")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("code", None),
        ("code", " "),
        ("code", 7),
        ("first_name", None),
        ("first_name", "\t"),
        ("first_name", ["Ada"]),
        ("last_name", 7),
        ("gender", "other"),
        ("gender", "Male"),
        ("gender", []),
        ("birth_date", "1980-02-30"),
        ("birth_date", "1980-2-3"),
        ("birth_date", "19800203"),
        ("birth_date", "1980-W05-3"),
        ("birth_date", "1980-01-01T00:00:00"),
        ("birth_date", "\u0661980-01-01"),
        ("birth_date", 19800101),
        ("tax_id", 123456789),
        ("email", "nowhere"),
        ("email", "a@b@example.com"),
        ("email", "a b@example.com"),
        ("email", "a..b@example.com"),
        ("email", "ada@-example.com"),
        ("email", "ada@example..com"),
        ("plan", True),
        ("phone", 12025550123),
        ("locale", "fr"),
        ("locale", "ES"),
        ("meta", "text"),
        ("meta", [1]),
    ],
)
def test_a_value_that_the_documentation_does_not_allow_is_refused(client, patient, field, value):
    assert error_path(client, patient, **{field: value}) == field


@pytest.mark.parametrize("field", ["code", "first_name"])
def test_a_required_field_cannot_be_left_out(client, patient, field):
    del patient[field]
    assert error_path(client, patient) == field


@pytest.mark.parametrize(
    "fields",
    [
        {"gender": "male"},
        {"birth_date": "2000-02-29"},
        {"email": "ada.o'neill+x@mail.example.com"},
        {"email": "ada@exämple.com"},
        {"locale": "pt"},
        {"meta": {"card_id": "1234", "deep": [1, None]}},
        {"unheard_of": "ignored"},
        dict.fromkeys(("last_name", "gender", "birth_date", "email", "locale", "meta")),
        dict.fromkeys(("last_name", "gender", "birth_date", "email", "locale", "meta"), None),
        {"gender": "", "email": " "},
    ],
)
def test_values_that_the_documentation_allows_are_accepted(client, patient, fields):
    answer = client.put({**patient, **fields})
    assert answer.status_code == 200, answer.text


def test_a_code_given_twice_in_a_request_is_refused(client, patient):
    answer = client.put(patient, {**patient, "code": " m-1 "})
    assert answer.json()["errors"] == {
        "patients.1.code": ["The patients.1.code field has a duplicate value."]
    }


@pytest.mark.parametrize("given", ["text", 7, None, []])
def test_a_patient_must_be_an_object(client, patient, given):
    assert list(client.put(patient, given).json()["errors"]) == ["patients.1"]


@pytest.mark.parametrize("body", [{}, {"patients": None}, {"patients": []}, [], "text", 7])
def test_patients_are_required(client, body):
    answer = client.send("PUT", "/patients", json=body)
    assert answer.status_code == 422
    assert answer.json()["message"] == "The patients field is required."


@pytest.mark.parametrize("listed", ["text", 7, {"code": "m-1"}])
def test_patients_must_be_an_array(client, listed):
    answer = client.send("PUT", "/patients", json={"patients": listed})
    assert answer.json()["message"] == "The patients field must be an array."


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b'{"patients": NaN}', b'"\\ud800"', b"[" * 100_000, b"9" * 10_000],
)
def test_invalid_json_is_a_400(client, body):
    headers = {**client.box.headers, "Content-Type": "application/json"}
    answer = client.send("PUT", "/patients", data=body, headers=headers)
    assert (answer.status_code, list(answer.json())) == (400, ["message"])


def test_json_without_its_content_type_is_a_400(client):
    body = '{"patients": [{"code": "m-1", "first_name": "Ada"}]}'
    assert client.send("PUT", "/patients", data=body).status_code == 400


def test_errors_are_reported_as_by_laravel(client, patient):
    broken = {"code": "m-2", "first_name": "Ada", "email": "nowhere", "locale": "fr"}
    assert client.put(patient, broken).json() == {
        "message": 'The patients.1.email field must be a valid email address: "nowhere" was given.'
        " (and 1 more error)",
        "errors": {
            "patients.1.email": [
                'The patients.1.email field must be a valid email address: "nowhere" was given.'
            ],
            "patients.1.locale": ['The selected patients.1.locale is invalid: "fr" was given.'],
        },
    }


def test_more_errors_are_counted(client, patient):
    answer = client.put({**patient, "email": "nowhere", "locale": "fr", "gender": "x"})
    assert answer.json()["message"].endswith(" (and 2 more errors)")


def test_a_message_without_the_value_can_be_configured(connect, patient):
    answer = connect(quote_values=False).put({**patient, "email": "nowhere"})
    assert answer.json()["message"] == ("The patients.0.email field must be a valid email address.")


def test_a_422_with_only_a_message_can_be_configured(connect, patient):
    answer = connect(validation_detail="message").put({**patient, "email": "nowhere"})
    assert list(answer.json()) == ["message"]
    assert "patients.0.email" in answer.json()["message"]


def test_a_422_without_details_can_be_configured(connect, patient):
    answer = connect(validation_detail="none").put({**patient, "email": "nowhere"})
    assert (answer.status_code, answer.json()) == (422, {"message": "Unprocessable"})


def test_a_valid_tax_id_can_be_refused(connect, patient):
    client = connect(refuse_tax_id="X1")
    assert error_path(client, patient, tax_id=" X1 ") == "tax_id"
    assert client.put({**patient, "tax_id": "X2"}).status_code == 200


@given(JSON | st.lists(JSON | st.dictionaries(st.sampled_from(sorted(READERS)), JSON)))
def test_any_body_is_refused_with_a_reason_or_complete(listed):
    checked = check({"patients": listed}, Settings())
    if checked.errors:
        assert all(sentence for sentences in checked.errors.values() for sentence in sentences)
    else:
        assert all(patient["code"] and patient["first_name"] for patient in checked.patients)
        assert len(checked.patients) == len(listed)
