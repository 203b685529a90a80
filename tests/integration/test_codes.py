"""A code asks for its patient and for nobody else, whatever is in it and whoever asks."""

import json
from urllib.parse import quote, unquote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_mediquo.api.errors import InvalidPatientsError
from airflow_provider_mediquo.api.patients.endpoints import check_code, get
from airflow_provider_mediquo.api.visibility.poller import VisibilityPoller
from airflow_provider_mediquo.hooks.mediquo import MediquoHook
from airflow_provider_mediquo.operators.patients import MediquoGetPatientOperator
from airflow_provider_mediquo.sensors.patients import MediquoPatientSensor
from tests.api.conftest import Wire

pytestmark = pytest.mark.usefixtures("dag")

CODES = [
    "a/b",
    "a/../b",
    "../authenticate",
    "/",
    "//evil.example.com/x",
    "http://evil.example.com",
    "...",
    "%2F",
    "%2e%2e",
    "%252e%252e%252f",
    "%",
    "%zz",
    "%00",
    "?x=1",
    "#x",
    ";x=1",
    "..;",
    "\\..\\x",
    "a b",
    "a+b",
    "+",
    "@evil.example.com",
    ":80",
    "authenticate",
    "\u00e9",
    "e\u0301",
    "M-1",
    "m-1",
    "\uff0e\uff0e",
    "\u2215",
    "\U0001f600",
    "\u202ex",
    "x\u200b",
    "=cmd|' /C calc'!A0",
    "{{ 1 + 1 }}",
    "*",
    "'\"`$(x)",
    "x" * 255,
    "\u6771" * 255,
]
EVERY = dict(enumerate(CODES))


def answer(status, content):
    body = json.dumps(content).encode()
    head = f"HTTP/1.1 {status} Whatever\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def show(wire, connection):
    """Show whoever is asked for."""
    code = unquote(wire.requests[-1].line.split(" ")[1].rpartition("/")[2])
    wire.send(connection, answer(200, {"code": code, "first_name": "Ada"}))


@pytest.fixture
def lead(monkeypatch):
    """Make `mediquo_default` lead to a server."""

    def lead(wire):
        connection = {"conn_type": "mediquo", "login": "k", "password": "s", "host": wire.url}
        extra = {"extra": {"requests_per_minute": 1_000_000}}
        monkeypatch.setenv("AIRFLOW_CONN_MEDIQUO_DEFAULT", json.dumps(connection | extra))
        return wire

    return lead


@pytest.fixture
def wire(lead):
    """A mediQuo that has everybody, and keeps each request as it came."""
    with Wire(show) as wire:
        yield lead(wire)


@pytest.fixture
def empty():
    """A mediQuo that has nobody."""
    with Wire(answer(404, {"message": "Not Found"})) as wire:
        yield wire


def asked_for(wire):
    """The codes of all requests; each is one segment of the path, and there is nothing else."""
    found = []
    for seen in wire.requests:
        method, path, version = seen.line.split(" ")
        begin, _, segment = path.rpartition("/")
        assert (method, begin, version) == ("GET", "/v1/patients", "HTTP/1.1")
        assert not {*segment} & {*"?#;\\"}
        assert seen.headers["host"] == f"127.0.0.1:{wire.port}"
        found.append(unquote(segment))
    return found


@pytest.mark.parametrize("number", EVERY)
def test_the_hook_asks_for_it(wire, number):
    assert MediquoHook().get_patient(EVERY[number])["code"] == EVERY[number]
    assert asked_for(wire) == [EVERY[number]]


@pytest.mark.parametrize("number", EVERY)
def test_an_operator_asks_for_it(wire, run_task, number):
    code = EVERY[number]
    task = MediquoGetPatientOperator(task_id="read", code="")
    task.code = code if "{" not in code else "{{ '{{ 1 + 1 }}' }}"
    assert run_task(task).result["code"] == code
    assert asked_for(wire) == [code]


def test_the_sensor_asks_for_each(wire, run_task):
    sensor = MediquoPatientSensor(task_id="wait", codes=["x"])
    sensor.template_fields = ()
    sensor.codes = CODES
    assert run_task(sensor).state == "success"
    assert asked_for(wire) == CODES


def test_the_triggerer_asks_for_each(wire, empty, lead, run_task):
    sensor = MediquoPatientSensor(task_id="wait", codes=["x"], deferrable=True, timeout=60)
    sensor.template_fields = ()
    sensor.codes = CODES
    lead(empty)
    run = run_task(sensor)
    assert run.state == "deferred"
    lead(wire)
    assert run.wait_in_triggerer() == {"status": "visible"}
    assert sorted(asked_for(wire)) == sorted(asked_for(empty)) == sorted(CODES)


def test_what_is_not_visible_is_shown_as_one_visible_line(empty, lead):
    lead(empty)
    watch = VisibilityPoller(MediquoHook().get_conn(), dict.fromkeys(CODES))
    watch.look()
    watch.close()
    assert str(watch).isprintable()
    assert "\\u202ex" in str(watch)


@pytest.mark.parametrize("code", [".", "..", "a\r\nX-Evil: 1", "a\0", "a\u2028b", "x" * 256])
def test_what_is_no_code_is_asked_for_by_nobody(wire, code):
    for ask in (MediquoHook().get_patient, MediquoHook().authenticate_patient):
        with pytest.raises(InvalidPatientsError):
            ask(code)
    assert wire.requests == []


@settings(
    deadline=None,
    database=None,
    derandomize=True,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.text(min_size=1, max_size=300) | st.text("./%2eEfF?#\\ ;@:", min_size=1))
@example("\ud800")
def test_any_text_is_asked_for_or_refused(wire, code):
    wire.requests.clear()
    try:
        asked = check_code(code)
    except InvalidPatientsError:
        return
    MediquoHook().get_patient(code)
    assert asked_for(wire) == [asked]


def test_a_token_is_asked_for_in_a_body(lead):
    with Wire(answer(200, {"access_token": "a-token", "token_type": "Bearer"})) as wire:
        lead(wire)
        for code in CODES:
            MediquoHook().authenticate_patient(code)
    assert {seen.line for seen in wire.requests} == {"POST /v1/patients/authenticate HTTP/1.1"}
    assert [json.loads(seen.body)["code"] for seen in wire.requests] == CODES


def test_no_two_of_them_are_asked_for_in_one_way():
    assert len({get(code).path for code in CODES}) == len(CODES)
    assert get("a/b").path == f"/patients/{quote('a/b', safe='')}"
