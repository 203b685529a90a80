"""What is sent and what comes back is in no log, no output and no variable of an error."""

import gc
import http.client
import logging
import signal
import warnings
from types import FrameType

import pytest
import requests

from airflow_provider_mediquo.api.errors import MediquoError, UnreachableError
from airflow_provider_mediquo.api.patients.endpoints import (
    authenticate,
    encode_patient,
    get,
    upsert,
)
from tests.support.carried import locals_of, texts_of
from tests.support.deadlines import alarm_kept

KEYS = {"api_key": "canaryinamine-api-key", "secret_key": "canaryinamine-secret-key"}
PATIENT = {
    "code": "m-1",
    "first_name": "Canaryinamine",
    "tax_id": "CANARYINAMINETAX",
    "plan": "canaryinamineplan",
}
TOKEN = {"access_token": "canaryinamine.access.token", "token_type": "Bearer"}
EXCHANGES = {
    "upsert": (upsert([encode_patient(PATIENT)]), None),
    "get": (get("m-1"), PATIENT),
    "authenticate": (authenticate("m-1"), TOKEN),
}


@pytest.fixture(params=EXCHANGES)
def exchange(request):
    return EXCHANGES[request.param][0]


@pytest.fixture
def content(request, exchange):
    """What mediQuo answers to it."""
    return EXCHANGES[request.node.callspec.params["exchange"]][1]


def told_by(error):
    """What an error shows of the canaries, in its variables too, except those of the test."""
    told = [*texts_of(error), *(told for told in locals_of(error) if __file__ not in told[0])]
    return [each for each in told if "canaryinamine" in str(each).lower()]


@pytest.mark.parametrize("is_secure", [False, True], ids=["http", "https"])
def test_who_debugs_http_client_sees_nothing(
    serve, answer, connect, exchange, content, authorities, is_secure, monkeypatch, capsys
):
    """Set for a whole process, it would print every header and body."""
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    tls = {"tls": authorities[0].server} if is_secure else {}
    verify = {"verify": str(authorities[0].file)} if is_secure else {}
    connect(serve(answer(200, content), **tls).url, **KEYS, **verify).send(exchange)
    assert capsys.readouterr() == ("", "")


def test_logs_at_debug_hold_the_path_alone(serve, answer, connect, exchange, content, caplog):
    caplog.set_level(logging.DEBUG)
    wire = serve(answer(200, content))
    connect(wire.url, **KEYS).send(exchange)
    assert exchange.path in caplog.text
    assert "canaryinamine" not in caplog.text.lower()


@pytest.mark.parametrize("status", [200, 302, 400, 401, 413, 422, 429, 500])
def test_no_variable_of_an_error_holds_a_key_or_what_was_read(
    serve, answer, connect, attempt, exchange, status
):
    """Tools that report errors send the variables of the functions that they came through."""
    quoting = {
        "message": "canaryinamine",
        "access_token": ["canaryinamine"],
        "errors": {"a": ["canaryinamine"]},
    }
    client = connect(serve(answer(status, [quoting], Retry_After="1")).url, **KEYS)
    with pytest.raises(MediquoError) as caught:
        attempt(client, exchange)
    assert told_by(caught.value) == []


def test_nor_does_one_of_an_error_without_an_answer(serve, connect, attempt, exchange):
    wire = serve(lambda wire, connection: None)
    with pytest.raises(MediquoError) as caught:
        attempt(connect(wire.url, **KEYS), exchange)
    assert told_by(caught.value) == []


class Cut(BaseException):
    """What a time limit raises out of a signal handler, wherever the thread is."""


def test_nor_does_one_that_strikes_from_outside(serve, connect, attempt, exchange):
    def strike(*_):
        raise Cut

    wire = serve(lambda wire, connection: wire.stopped.wait())
    client = connect(wire.url, **KEYS)
    with alarm_kept():
        signal.signal(signal.SIGALRM, strike)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(Cut) as caught:
            attempt(client, exchange)
    assert wire.requests
    assert told_by(caught.value) == []


@pytest.mark.parametrize("charset", [b"a\0b", b"undefined", b"idna"])
def test_nor_does_one_of_a_header_that_cannot_be_read(
    serve, answer, connect, attempt, exchange, content, charset
):
    """Python's own parser of headers raises what is no error of a connection."""
    header = b"multipart/x; boundary*=" + charset + b"'en'xn--%ff"
    client = connect(serve(answer(200, content, Content_Type=header.decode("latin-1"))).url, **KEYS)
    with pytest.raises(UnreachableError) as caught:
        attempt(client, exchange)
    assert told_by(caught.value) == []


def test_nor_is_such_a_request_left_to_the_garbage_collector(serve, connect, attempt, exchange):
    """With its frames it would be in memory, both keys and the patients, until some later time."""
    client = connect(serve(lambda wire, connection: None), **KEYS)
    gc.disable()
    gc.freeze()
    try:
        with pytest.raises(MediquoError):
            attempt(client, exchange)
        left = held_by_urllib3()
    finally:
        gc.unfreeze()
        gc.enable()
    assert left == []


def held_by_urllib3():
    """Requests, and the frames through which they went, that are newer than `gc.freeze`."""
    return [
        each
        for each in gc.get_objects()
        if type(each) is requests.PreparedRequest
        or (type(each) is FrameType and "urllib3" in each.f_code.co_filename)
    ]


def test_no_warning_quotes_what_is_sent(client):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.send(upsert([encode_patient(PATIENT)]))
        client.send(get("m-1"))
        client.send(authenticate("m-1"))
    assert "canaryinamine" not in " ".join(str(each.message) for each in caught).lower()
