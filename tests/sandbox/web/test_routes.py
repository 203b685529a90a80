import base64
import json
import re

import pytest


def test_an_accepted_upsert_says_success_as_the_current_page_does(client, patient):
    answer = client.put(patient)
    assert (answer.status_code, answer.json()) == (200, {"message": "Success"})


def test_an_accepted_upsert_can_say_success_as_the_earlier_page_does(connect, patient):
    answer = connect(success_body="earlier").put(patient)
    assert answer.json() == {"data": [{"message": "Success"}]}


def test_get_returns_every_documented_field(client, patient):
    client.put(patient)
    shown = client.get().json()
    assert list(shown) == [
        "code",
        "first_name",
        "last_name",
        "gender",
        "birth_date",
        "tax_id",
        "email",
        "plan",
        "phone",
        "locale",
        "meta",
        "created_at",
        "updated_at",
        "unsubscribed_at",
    ]
    assert {**shown, **patient} == shown


@pytest.mark.parametrize("header", ["X-API-Key", "X-Secret-Key"])
@pytest.mark.parametrize("wrong", [None, "", "wrong", "wröng"])
def test_each_key_must_be_valid(client, patient, header, wrong):
    headers = {**client.box.headers, header: wrong}
    answer = client.put(patient, headers={k: v for k, v in headers.items() if v is not None})
    assert (answer.status_code, answer.json()) == (401, {"message": "Unauthenticated."})
    assert client.get(headers=headers).status_code == 401
    assert not client.box.accepted


def test_keys_can_be_chosen(connect, patient):
    client = connect(api_key="one", secret_key="two")
    assert client.box.headers == {"X-API-Key": "one", "X-Secret-Key": "two"}
    assert client.put(patient).status_code == 200


def test_an_unknown_patient_is_a_404_in_json(client):
    answer = client.get("nobody")
    assert (answer.status_code, answer.json()) == (404, {"message": "Patient not found."})


@pytest.mark.parametrize("path", ["", "/", "/patient/m-1", "/patients/", "/v1/patients/m-1"])
def test_any_other_path_is_a_404_in_html(client, path):
    answer = client.send("GET", path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert client.box.counters.requests["unknown"].total() == 1


def test_a_base_url_without_its_version_is_a_404_in_html(client):
    answer = client.control("GET", "/patients/m-1")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_a_method_that_an_endpoint_does_not_have_is_a_405(client):
    answer = client.send("DELETE", "/patients")
    assert (answer.status_code, answer.headers["allow"]) == (405, "PUT")


@pytest.mark.parametrize(
    ("code", "quoted"),
    [
        ("a/b", "a%2Fb"),
        ("a/b/", "a/b/"),
        ("50%25", "50%2525"),
        ("a b?c#d", "a%20b%3Fc%23d"),
        ("añ😀", "a%C3%B1%F0%9F%98%80"),
        ("a\nb", "a%0Ab"),
        ("authenticate", "authenticate"),
        ("a+b&c=d", "a+b&c=d"),
    ],
)
def test_a_code_is_found_whatever_it_contains(client, patient, code, quoted):
    client.put({**patient, "code": code})
    assert client.get(quoted).json()["code"] == code


@pytest.mark.parametrize("other", ["M-1", "m-1%20", "m-1/", "m-"])
def test_a_code_must_match_exactly(client, patient, other):
    client.put(patient)
    assert client.get(other).status_code == 404


def test_authenticate_returns_what_looks_like_a_token_for_24_hours(client, patient):
    client.put(patient)
    answer = client.authenticate().json()
    assert answer["token_type"] == "Bearer"
    assert re.fullmatch(r"eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+", answer["access_token"])
    claims = json.loads(base64.urlsafe_b64decode(answer["access_token"].split(".")[1] + "=="))
    assert claims["exp"] - claims["iat"] == 86400
    assert client.authenticate().json() != answer


@pytest.mark.parametrize("status", [404, 401])
def test_authenticate_of_an_unknown_patient_has_the_configured_status(connect, status):
    answer = connect(unknown_patient_status=status).authenticate()
    assert (answer.status_code, list(answer.json())) == (status, ["message"])


@pytest.mark.parametrize("code", [None, "", " ", 7])
def test_authenticate_needs_a_code(client, code):
    answer = client.authenticate(code)
    assert (answer.status_code, answer.json()["message"]) == (422, "The code field is required.")
