"""Answers that have no end, or are made to do harm, byte by byte."""

import json
import select
import socket
import ssl
import threading
import time
import zlib
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trustme

from airflow_provider_mediquo.api.client import request as exchange
from airflow_provider_mediquo.api.client import transport
from airflow_provider_mediquo.api.client.request import RawResponse, read_result
from airflow_provider_mediquo.api.errors import (
    AuthenticationError,
    ConnectionSettingsError,
    MediquoError,
    RateLimitedError,
    RejectedRequestError,
    ServerError,
    StoppedError,
    UnreachableError,
)
from airflow_provider_mediquo.api.patients import endpoints as patients
from airflow_provider_mediquo.api.patients.endpoints import encode_patient, get, upsert
from airflow_provider_mediquo.api.visibility.poller import VisibilityPoller
from tests.api.conftest import Seen
from tests.support.threads import join, launch

ADA = upsert([encode_patient({"code": "m-1", "first_name": "Ada"})])
LONG = 60.0
"""Seconds of `timeout` that a bound in bytes does not wait for."""

MUCH = 20 << 20
"""Bytes: more than what the systems in between hold."""

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def endless(begin: bytes, block: bytes) -> Any:
    def answer(wire: Any, connection: socket.socket) -> None:
        wire.send(connection, begin)
        while not wire.stopped.is_set():
            wire.send(connection, block)

    return answer


ENDLESS = {
    "status line": endless(b"HTTP/1.1 200 ", b"x" * 65_536),
    "interim answers": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 3000),
    "header": endless(OK + b"X: ", b"x" * 65_536),
    "headers": endless(OK, b"x: y\r\n" * 10_000),
    "chunk": endless(CHUNKED + b"38D7EA4C68000\r\n", b"x" * 65_536),
    "chunk size": endless(CHUNKED, b"1" * 65_536),
    "chunk extension": endless(CHUNKED + b"1;", b"x" * 65_536),
    "empty chunk extensions": endless(CHUNKED, b"1;" + b"x" * 60_000 + b"\r\n \r\n"),
    "trailer": endless(CHUNKED + b"2\r\n{}\r\n0\r\n", b"x" * 65_536),
    "trailers": endless(CHUNKED + b"2\r\n{}\r\n0\r\n", b"x: y\r\n" * 10_000),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_what_has_no_end_is_bounded_in_bytes(serve, connect, attempt, what):
    wire = serve(ENDLESS[what])
    client = connect(wire, timeout=LONG)
    started = time.monotonic()
    with pytest.raises((ServerError, UnreachableError)) as caught:
        attempt(client, ADA)
    assert caught.value.can_retry
    assert time.monotonic() - started < LONG / 2, "the bound in seconds is another one"
    assert wire.sent < 20_000_000, "what is beyond two megabytes was on its way at most"


def packed(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
def test_nothing_is_unpacked_for_none_was_asked_to_be_packed(
    serve, answer, connect, attempt, encoding
):
    body = packed(b'{"message": "Success"}')
    wire = serve(answer(200, body, Content_Encoding=encoding))
    with pytest.raises(ServerError):
        attempt(connect(wire), ADA)
    assert wire.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_a_request_that_nobody_reads_has_a_bound_in_seconds(serve, connect, authorities, secure):
    """Sending waits for the other side too; here it takes nothing but what the system keeps."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LONG)

        def listen() -> None:
            connection, _ = listener.accept()
            connection.settimeout(LONG)
            if secure:
                connection = authorities[0].server.wrap_socket(connection, server_side=True)
            with connection, suppress(OSError):  # the client leaves first
                while not over.wait(0.05) and connection.recv(1000):
                    pass

        listening = threading.Thread(target=listen)
        launch(listening)
        url = f"http{'s' * secure}://127.0.0.1:{listener.getsockname()[1]}/v1"
        client = connect(url, timeout=0.5, verify=authorities[0].file)
        large = upsert([b'"' + b"x" * (1 << 20) + b'"'] * 20)
        try:
            with pytest.raises(UnreachableError):
                client.try_send(large)
        finally:
            over.set()
            client.close()
            join(listening)


# --- what is in a body ----------------------------------------------------------------------------


def nested(levels: int, inner: str = "1") -> str:
    return '{"a":' * levels + inner + "}" * levels


def read(asked: Any, body: Any, status: int = 200, **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_result(asked, RawResponse(status, headers, content))


@pytest.mark.parametrize("interim", [b"HTTP/1.1 103 Early Hints", b"HTTP/1.1 199 Whatever"])
def test_an_answer_that_only_announces_one_is_not_taken_for_it(serve, answer, connect, interim):
    """Nor is what it announced taken for the answer to the next request."""

    def in_two_parts(wire, connection):
        for code in ("m-1", "m-2"):
            wire.send(connection, interim + b"\r\nLink: </x>\r\n\r\n")
            wire.send(connection, answer(body={"code": code, "first_name": "Ada"}))
            wire._read(connection)

    client = connect(serve(in_two_parts))
    for code in ("m-1", "m-2"):
        assert client.send(get(code)).value["code"] == code


@pytest.mark.parametrize(
    "line", [b"Ada Lovelace, born canaryinamine", b" canaryinamine Ada Lovelace"]
)
def test_what_a_server_writes_into_its_headers_is_not_logged(serve, connect, caplog, line):
    caplog.set_level("DEBUG")
    header = b"HTTP/1.1 200 OK\r\n" + line + b"\r\nContent-Length: 2\r\n\r\n{}"
    client = connect(serve(header), timeout=2)
    with pytest.raises(MediquoError):
        client.try_send(get("m-1"))
    assert "PUT" in caplog.text or "GET" in caplog.text
    assert "canaryinamine" not in caplog.text


def test_what_was_not_sent_to_its_end_was_not_accepted_whatever_is_answered(serve, answer, connect):
    def too_soon(wire, connection):
        wire.send(connection, answer())

    wire = serve(too_soon)
    wire._read = lambda connection: connection.recv(100) and Seen("", {}, b"")
    with pytest.raises(UnreachableError):
        connect(wire).send(upsert([b'{"code": "' + b"x" * MUCH + b'"}']))


def test_a_refusal_that_comes_too_soon_is_one_and_says_nothing_of_the_next(serve, answer, connect):
    """As of a web server to which a body is too large."""
    wire = serve(answer(413, Connection="close"))
    read_whole = wire._read
    wire._read = lambda connection: connection.recv(100) and Seen("", {}, b"")
    client = connect(wire)
    with pytest.raises(RejectedRequestError):
        client.send(upsert([b'{"code": "' + b"x" * MUCH + b'"}']))
    wire._read, wire.answers = read_whole, [answer()]
    client.try_send(ADA)


def slowly(wire, connection):
    """Read a request of MUCH, in a second or two."""
    left = MUCH
    while left > 0:
        if not (count := len(connection.recv(1 << 18))):
            return None  # the client has left
        left -= count
        wire.stopped.wait(count / MUCH)
    return Seen("", {}, b"")


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_a_slow_line_has_as_long_as_an_answer(
    serve, answer, connect, authorities, monkeypatch, secure
):
    monkeypatch.setattr(transport, "_POLL_SECONDS", 0.005)  # which is over while it waits, often
    authority = authorities[0]
    wire = serve(answer(Connection="close"), tls=authority.server if secure else None)
    wire._read = lambda connection: slowly(wire, connection)
    verify = authority.file if secure else True
    client = connect(wire.url, timeout=LONG, verify=verify, retry={"connect_timeout": 0.5})
    client.try_send(upsert([b'{"code": "' + b"x" * MUCH + b'"}']))


@pytest.fixture
def behind_tls_proxy(serve, answer, connect, monkeypatch, tmp_path):
    """Make a server and its client, with a proxy between that pauses in the middle of a large body.

    All of them speak TLS.
    """
    return partial(_behind_tls_proxy, serve, answer, connect, monkeypatch, tmp_path)


def _behind_tls_proxy(serve, answer, connect, monkeypatch, tmp_path, *, pause, timeout):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "mediquo.example.com").configure_cert(tls)
    wire = serve(answer(), tls=tls)

    def lead_on(proxy, client):
        proxy.send(client, b"HTTP/1.1 200 Connection established\r\n\r\n")
        passed, is_paused = 0, False
        with socket.create_connection(("127.0.0.1", wire.port)) as server:
            while not proxy.stopped.is_set():
                both = [client, server]
                for source in (
                    [client] if client.pending() else select.select(both, [], [], 0.05)[0]
                ):
                    if not (data := source.recv(1 << 14)):
                        return
                    (server if source is client else client).sendall(data)
                    passed += len(data)
                if passed > MUCH / 2 and not is_paused:
                    is_paused = True
                    proxy.stopped.wait(pause)

    proxy = serve(lead_on, tls=tls)
    monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("NO_PROXY", "")
    url, verify = "https://mediquo.example.com/v1", str(tmp_path / "ca.pem")
    return wire, connect(url, timeout=timeout, verify=verify)


@pytest.mark.no_cover
def test_a_proxy_with_tls_may_take_a_pause(behind_tls_proxy, attempt):
    wire, client = behind_tls_proxy(pause=0.6, timeout=LONG)
    record = b'{"code": "' + b"x" * MUCH + b'"}'
    attempt(client, upsert([record]))
    (seen,) = wire.requests
    assert record in seen.body
    client.send(ADA)  # over the same connection
    assert (len(wire.requests), wire.connections) == (2, 1)


def test_a_pause_of_a_proxy_with_tls_has_a_bound(behind_tls_proxy, attempt):
    wire, client = behind_tls_proxy(pause=LONG, timeout=0.5)
    started = time.monotonic()
    with pytest.raises(UnreachableError):
        attempt(client, upsert([b'{"code": "' + b"x" * MUCH + b'"}']))
    assert time.monotonic() - started < LONG / 2
    assert wire.requests == []


def test_so_has_a_kill_in_such_a_pause(behind_tls_proxy, attempt):
    _, client = behind_tls_proxy(pause=LONG, timeout=LONG)
    killer = threading.Timer(0.5, lambda: client.stop(abort=True))
    launch(killer)
    started = time.monotonic()
    with pytest.raises(StoppedError):
        attempt(client, upsert([b'{"code": "' + b"x" * MUCH + b'"}']))
    join(killer)
    assert time.monotonic() - started < LONG / 2


def test_what_comes_after_a_proxy_has_led_on_has_as_long_as_a_connection(
    serve, connect, attempt, monkeypatch
):
    def lead_to_nobody(wire, connection):
        wire.send(connection, b"HTTP/1.1 200 Connection established\r\n\r\n")
        wire.stopped.wait(LONG)

    proxy = serve(lead_to_nobody)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("NO_PROXY", "")
    retry = {"connect_timeout": 0.3}
    client = connect("https://mediquo.example.com/v1", timeout=LONG, retry=retry)
    started = time.monotonic()
    with pytest.raises(UnreachableError):
        attempt(client, ADA)
    assert time.monotonic() - started < LONG / 2
    assert proxy.requests[0].line.startswith("CONNECT mediquo.example.com:443 HTTP/1.")


def test_what_is_being_sent_ends_when_it_is_aborted(serve, answer, connect):
    wire = serve(answer())
    begun = threading.Event()
    wire._read = lambda connection: begun.set() or wire.stopped.wait()
    client = connect(wire, timeout=LONG)
    killer = threading.Thread(target=lambda: begun.wait(LONG) and client.stop(abort=True))
    launch(killer)
    started = time.monotonic()
    with pytest.raises(StoppedError):
        client.try_send(upsert([b'{"code": "' + b"x" * MUCH + b'"}']))
    join(killer)
    assert time.monotonic() - started < LONG / 2


def test_an_answer_may_have_64_levels():
    levels = exchange.MAX_LEVELS
    most = f'{{"code": "m-1", "x": {nested(levels - 1)}}}'.encode()
    assert read(get("m-1"), most)["code"] == "m-1"
    for asked, status, error in (
        (get("m-1"), 200, ServerError),
        (ADA, 200, ServerError),
        (get("m-1"), 404, ConnectionSettingsError),
    ):
        with pytest.raises(error):
            read(asked, f'{{"code": "m-1", "x": {nested(levels)}}}'.encode(), status)


@pytest.mark.parametrize("levels", [100, 400, *range(900, 1000, 7), 5000, 100_000])
def test_a_refusal_of_any_depth_is_a_refusal(levels):
    with pytest.raises(RejectedRequestError) as caught:
        read(ADA, nested(levels, '"patients.0.email"').encode(), 422)
    assert caught.value.named == {}


@pytest.mark.parametrize("levels", [60, 400, *range(900, 1000, 7), 5000])
def test_a_patient_of_any_depth_is_compared_or_lost(serve, answer, connect, levels):
    body = f'{{"code": "m-1", "meta": {nested(levels)}}}'.encode()
    client = connect(serve(answer(200, body)))
    with Watched(client) as watch:
        assert watch.look() is False
        assert "differ" in str(watch) or "cannot be read" in str(watch)


class Watched:
    """A watch over `m-1`, which was written with a `meta`."""

    def __init__(self, client: Any) -> None:
        from airflow_provider_mediquo.api.visibility.fingerprint import make_proof

        patient = {"code": "m-1", "first_name": "Ada", "meta": {"a": 1}}
        self._watch = VisibilityPoller(
            client, {"m-1": make_proof(patient, client.settings.secret_key, None)}
        )

    def __enter__(self) -> VisibilityPoller:
        return self._watch

    def __exit__(self, *failure: object) -> None:
        self._watch.close()


WRONG: list[Any] = [None, 7, -1.5, True, "", "x" * 900_000, [], {}, [[["m-1"]]], {"m-1": {}}]


@pytest.mark.no_cover
@pytest.mark.parametrize("value", WRONG, ids=range(len(WRONG)))
@pytest.mark.parametrize("name", ["first_name", "meta", "plan", "updated_at", "phone", "locale"])
def test_a_field_of_any_kind_is_no_reason_to_fail(serve, answer, connect, name, value):
    client = connect(serve(answer(200, {"code": "m-1", "first_name": "Ada", name: value})))
    with Watched(client) as watch:
        assert watch.look() is False
        assert not watch.trouble


@pytest.mark.parametrize(
    "code", [None, 7, True, [], {}, "", "m-2", "m-1/", "m-11", "m-\u00b9", "x" * 900_000]
)
def test_another_patient_than_was_asked_for_is_no_answer(serve, answer, connect, attempt, code):
    client = connect(serve(answer(200, {"code": code, "first_name": "Ada"})))
    with pytest.raises(ServerError) as caught:
        attempt(client, get("m-1"))
    assert caught.value.status == 200


@pytest.mark.parametrize(
    ("asked", "told"), [("M-1", "m-1"), ("e\u0301", "\u00e9"), ("\u00c9", "e\u0301")]
)
def test_but_a_database_may_take_cases_and_forms_of_unicode_for_one(asked, told):
    assert read(get(asked), {"code": told})["code"] == told


@pytest.mark.parametrize(
    "body",
    [
        b'{"code": "m-1", "n": NaN, "i": -Infinity}',
        b'{"code": "m-2", "code": "m-1"}',
        b'{"code": "m-1", "n": ' + b"9" * 4000 + b"}",
        b'{"code": "m-1", "n": 1e999999999}',
        b'\xef\xbb\xbf{"code": "m-1"}',
        '{"code": "m-1"}'.encode("utf-16"),
        b'{"code": "m-1", "x": "\\ud800"}',
    ],
    ids=range(7),
)
def test_json_that_is_odd_is_read_or_lost(body):
    try:
        assert read(get("m-1"), body)["code"] == "m-1"
    except ServerError as error:
        assert error.status == 200


@pytest.mark.parametrize(
    ("errors", "named"),
    [
        ({f"patients.{n}.email": ["x"] for n in range(30_000)}, range(1000)),
        ({"patients." * 100_000: 1}, ()),
        ({"patients.1." + "a" * 900_000: 1}, (1,)),
        ({"patients." + "9" * 900_000: 1}, ()),
        ({"patients.999.email": 1, "patients.-1.email": 1}, (999,)),
        (["patients.0.email"] * 50_000, (0,)),
    ],
    ids=range(6),
)
def test_whatever_a_refusal_blames_is_read_in_one_go(errors, named):
    started = time.process_time()
    with pytest.raises(RejectedRequestError) as caught:
        read(ADA, {"message": "no", "errors": errors}, 422)
    assert caught.value.named.keys() == {*named}
    assert time.process_time() - started < 5, "it takes a tenth of a second"


def test_blame_of_records_that_do_not_exist_spares_nobody(serve, answer, connect, upload, people):
    blame = {f"patients.{n}.email": ["x"] for n in (1, 500, 999)}

    def judge(wire: Any, connection: socket.socket) -> None:
        bad = b'"m-3"' in wire.requests[-1].body
        wire.send(connection, answer(422, {"errors": blame}) if bad else answer())

    run = upload(connect(serve(judge)), people(10), max_rejects=1)
    assert run.codes("mediquo") == {"m-3"}
    assert run.report.upserted == 9


def test_a_page_of_a_megabyte_says_no_more_than_its_status(serve, answer, connect, attempt):
    client = connect(serve(answer(401, b"<p>canaryinamine</p>" * 80_000)))
    with pytest.raises(AuthenticationError) as caught:
        attempt(client, ADA)
    assert len(str(caught.value)) < 300
    assert "canaryinamine" not in str(caught.value)


# --- headers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["1" + "0" * 30, "9" * 99, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_pause_lasts_an_hour_at_most_whatever_is_asked_for(
    serve, answer, connect, attempt, asked
):
    """A triggerer lives on, and all that it asks mediQuo would wait."""
    client = connect(serve(answer(429, b"", Retry_After=asked)))
    with pytest.raises(RateLimitedError) as caught:
        attempt(client, ADA)
    assert caught.value.retry_after == 3600
    assert 3500 < client.limiter(ADA).try_acquire(1) <= 3600


@pytest.mark.parametrize("asked", ["-5", "nan", "inf", "1e9", "", "soon", "\xff", "0x10"])
def test_a_pause_that_is_none_is_a_minute(serve, answer, connect, attempt, asked):
    client = connect(serve(answer(429, b"", Retry_After=asked)))
    with pytest.raises(RateLimitedError) as caught:
        attempt(client, ADA)
    assert caught.value.retry_after == 60


@pytest.mark.parametrize(
    "limit", ["0", "-1", "1" + "0" * 30, "9" * 5000, "x", "", "1.5", "nan", "\xb2", "600, 600"]
)
def test_a_limit_that_cannot_be_one_changes_nothing(serve, answer, connect, attempt, limit):
    client = connect(serve(answer(200, None, x_ratelimit_limit=limit)))
    for _ in range(3):
        attempt(client, ADA)
    assert client.limiter(ADA).try_acquire(600) == 0.0


@pytest.mark.parametrize("date", ["", "yesterday", "9" * 60_000, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_clock_that_is_none_or_far_away_makes_a_proof_all_the_same(
    serve, answer, connect, upload, people, date
):
    run = upload(connect(serve(answer(200, None, Date=date))), people(3))
    assert len(run.report.sample) == 3
    assert patients.check_code("m-1") in run.report.sample
