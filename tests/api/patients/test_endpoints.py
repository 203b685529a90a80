import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_mediquo.api.errors import (
    AuthenticationError,
    ConnectionSettingsError,
    InvalidPatientsError,
    PatientNotFoundError,
    ServerError,
)
from airflow_provider_mediquo.api.patients.endpoints import (
    _parse_invalid_records,
    authenticate,
    authenticate_patient,
    check_code,
    encode_patient,
    get,
    upsert,
)
from airflow_provider_mediquo.api.patients.schema import check_patient

ADA = {"code": "m-1", "first_name": "Ada", "plan": "premium", "phone": "+1 202-555-0123"}
NASTY = ["a/b", "a%2Fb", "%2e%2e", "...", "a/../b", "a?b=c", "a#b", "a b", "a&b", "a;b", "a\\b"]
NASTY += ["\u00e9", "e\u0301", "\u6771\u4eac", "\U0001f600", "a'b\"c", "+1", "~", "authenticate"]


def put(client: Any, *records: dict[str, Any]) -> Any:
    return client.send(upsert(encode_patient(check_patient(record)[0]) for record in records))


def test_an_upsert_creates_and_then_updates(box, client):
    put(client, ADA, ADA | {"code": "m-2"})
    put(client, ADA | {"first_name": "Grace"})
    assert {code: p["first_name"] for code, p in box.patients.items()} == {
        "m-1": "Grace",
        "m-2": "Ada",
    }


@pytest.mark.parametrize("body", ["current", "earlier"])
def test_both_documented_bodies_of_success_are_read(box, client, body):
    box.settings.success_body = body
    assert put(client, ADA).value is None
    assert box.counters.total == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        None,
        "Success",
        {"message": "Accepted"},
        {"message": None},
        {"data": []},
        {"data": [{"message": "Success"}, {"message": "Failed"}]},
        {"data": [{"message": "Failed"}]},
        [{"message": "Success"}],
    ],
)
def test_a_200_with_another_body_is_a_server_error(serve, answer, connect, body):
    wire = serve(answer(200, json.dumps(body).encode()))
    with pytest.raises(ServerError) as caught:
        put(connect(wire), ADA)
    assert caught.value.status == 200


def test_get_returns_the_patient(client):
    put(client, ADA)
    patient = client.send(get("m-1")).value
    assert patient["first_name"] == "Ada"
    assert patient["updated_at"].timezone_name == "UTC"


def test_get_of_an_unknown_patient_returns_none(client):
    assert client.send(get("nobody")).value is None


def test_a_404_that_is_not_json_means_a_wrong_base_url(serve, answer, connect, attempt):
    wire = serve(answer(404, b"<html>Not Found</html>"))
    for operation in (get("m-1"), authenticate("m-1"), upsert([])):
        with pytest.raises(ConnectionSettingsError, match="Base URL") as caught:
            attempt(connect(wire), operation)
        assert caught.value.status == 404


def test_a_404_for_an_upsert_means_a_wrong_base_url_even_as_json(serve, answer, connect):
    wire = serve(answer(404, {"message": "Not Found"}))
    with pytest.raises(ConnectionSettingsError, match="Base URL"):
        put(connect(wire), ADA)
    assert len(wire.requests) == 1


@pytest.mark.parametrize("code", NASTY)
def test_a_code_finds_its_patient_whatever_it_contains(box, client, code):
    put(client, ADA | {"code": code})
    assert list(box.patients) == [code]
    assert client.send(get(code)).value["code"] == code
    assert authenticate_patient(client, code).token_type == "Bearer"


@settings(
    deadline=None,
    database=None,
    derandomize=True,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(code=st.text(min_size=1) | st.text(alphabet="./%2eEfF?#\\ ;", min_size=1))
def test_any_code_that_passes_the_schema_finds_its_patient(box, client, code):
    patient, problems = check_patient({"code": code, "first_name": "Ada"})
    if problems:
        with pytest.raises(InvalidPatientsError):
            get(code)
    else:
        put(client, patient)
        assert client.send(get(code)).value["code"] == patient["code"]


@pytest.mark.parametrize("code", ["", " ", None, ".", "..", " ..", "a\nb", "a\x00", 1.5, b"x", []])
def test_an_invalid_code_is_neither_sent_nor_shown(box, client, code):
    for ask in (get, authenticate, lambda code: authenticate_patient(client, code)):
        with pytest.raises(InvalidPatientsError) as caught:
            ask(code)
        assert caught.value.__context__ is None
    with pytest.raises(InvalidPatientsError) as caught:
        get("canaryinamine\x00")
    assert "canaryinamine" not in str(caught.value)
    assert box.counters.total == 0


def test_a_code_is_trimmed_and_may_be_a_number():
    assert check_code(" m-1 ") == "m-1"
    assert check_code(17) == "17"
    assert get(17).path == "/patients/17"


def test_a_known_patient_gets_a_token(client):
    put(client, ADA)
    token = authenticate_patient(client, "m-1")
    assert token.token_type == "Bearer"
    assert token.access_token.count(".") == 2
    assert token.access_token not in repr(token)


@pytest.mark.parametrize("status", [404, 401])
def test_an_unknown_patient_is_not_found_with_404_or_401(box, client, status):
    box.settings.unknown_patient_status = status
    with pytest.raises(PatientNotFoundError, match="'nobody'") as caught:
        authenticate_patient(client, "nobody")
    assert caught.value.status == 404


def test_wrong_keys_are_not_mistaken_for_an_unknown_patient(box, connect):
    box.settings.unknown_patient_status = 401
    with pytest.raises(AuthenticationError) as caught:
        authenticate_patient(connect(box, secret_key="wrong"), "nobody")
    assert caught.value.status == 401


def test_keys_that_may_only_read_are_not_mistaken_for_an_unknown_patient(box, client):
    put(client, ADA)
    box.script("authenticate", "401")
    with pytest.raises(AuthenticationError) as caught:
        authenticate_patient(client, "m-1")
    assert caught.value.status == 401


def test_a_403_from_authenticate_is_an_authentication_error(box, client):
    box.script("authenticate", "403")
    with pytest.raises(AuthenticationError) as caught:
        authenticate_patient(client, "nobody")
    assert caught.value.status == 403
    assert not box.counters.requests["get"]


@pytest.mark.parametrize(
    "body",
    [{}, [], {"access_token": "x"}, {"access_token": "", "token_type": "Bearer"}]
    + [{"access_token": 7, "token_type": "Bearer"}, {"access_token": "x", "token_type": None}]
    # A token type is displayed, so it must not be a token.
    + [{"access_token": "x", "token_type": kind} for kind in ("Bearer ey.J0", "ey.J0", "x" * 21)],
)
def test_an_answer_without_a_token_is_a_server_error(serve, answer, connect, body):
    with pytest.raises(ServerError):
        authenticate_patient(connect(serve(answer(200, body))), "m-1")


def test_the_request_body_is_json_as_documented(serve, answer, connect):
    wire = serve(answer())
    record = ADA | {"first_name": "Jos\u00e9 \U0001f600", "meta": {"a": [1, None]}, "email": None}
    put(connect(wire), record, ADA)
    assert json.loads(wire.requests[0].body) == {"patients": [record, ADA]}
    assert wire.requests[0].line == "PUT /v1/patients HTTP/1.1"
    assert wire.requests[0].headers["content-type"] == "application/json"


def test_each_operation_has_its_own_endpoint():
    operations = get("m-1"), get("m-2"), authenticate("m-1"), upsert([])
    assert len({operation.endpoint for operation in operations}) == 3


@pytest.mark.parametrize(
    "answer",
    [
        {"message": "The patients.37.email field is wrong."},
        {"errors": {"patients.37.email": ["is wrong"]}},
        {"message": "no", "errors": {"patients.37.email": 1, "patients.37": 2}},
        {"errors": ["patients.37.email is wrong"]},
        {"data": [{"message": "See:\npatients.37.email"}]},
        {"message": "patients.37.email and patients.37.shoe_size"},
    ],
)
def test_an_invalid_record_is_found_anywhere_in_an_answer(answer):
    assert _parse_invalid_records(answer) == {37: {"email"}}


@pytest.mark.parametrize(
    "answer", [None, [], "patients", {}, {"message": None}, {"message": "patients.1234567.email"}]
)
def test_an_answer_may_name_no_invalid_record(answer):
    assert _parse_invalid_records(answer) == {}
