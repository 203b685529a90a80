import logging
import socket
import threading
import time
from contextlib import suppress
from email.utils import formatdate
from typing import Any

import pytest

from airflow_provider_mediquo import __version__
from airflow_provider_mediquo.api.client import http as http_module
from airflow_provider_mediquo.api.client.rate_limit import WINDOW, RateLimiter, RateLimiters
from airflow_provider_mediquo.api.client.retry import DEFAULT_RETRY
from airflow_provider_mediquo.api.client.stats import RequestStats
from airflow_provider_mediquo.api.errors import (
    AuthenticationError,
    ConnectionSettingsError,
    MediquoError,
    RateLimitedError,
    RejectedRequestError,
    ServerError,
    StateError,
    StoppedError,
    UnreachableError,
)
from airflow_provider_mediquo.api.patients.endpoints import (
    authenticate_patient,
    encode_patient,
    get,
    upsert,
)
from airflow_provider_mediquo.sandbox import Sandbox
from tests.api.conftest import BriefLimiter
from tests.support.threads import join, launch

ADA = upsert([encode_patient({"code": "m-1", "first_name": "Ada"})])
SOON = 10.0
"""Seconds that "at once" may take on a busy machine; what is waited for would take longer."""


def seconds_of(call: Any) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


def raised_by(call: Any, kind: type[BaseException] = MediquoError) -> Any:
    with pytest.raises(kind) as caught:
        call()
    return caught.value


# --- what every request carries -------------------------------------------------------------------


def test_every_request_carries_both_keys_and_the_version(serve, answer, connect):
    wire = serve(answer(), answer(404, {}), answer(200, {"access_token": "x", "token_type": "y"}))
    client = connect(wire, api_key="the-api-key", secret_key="the-secret-key")
    client.send(ADA)
    client.send(get("m-1"))
    authenticate_patient(client, "m-1")
    assert [seen.line.split()[0] for seen in wire.requests] == ["PUT", "GET", "POST"]
    for seen in wire.requests:
        assert seen.headers["x-api-key"] == "the-api-key"
        assert seen.headers["x-secret-key"] == "the-secret-key"
        assert seen.headers["user-agent"] == f"airflow-provider-mediquo/{__version__}"
        assert seen.headers["accept"] == "application/json"


def test_no_cookie_is_kept(serve, answer, connect):
    wire = serve(answer(200, None, Set_Cookie="session=1; Path=/"))
    client = connect(wire)
    client.send(ADA)
    client.send(ADA)
    assert ["cookie" in seen.headers for seen in wire.requests] == [False, False]


def test_no_netrc_is_read(serve, answer, connect, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login canaryinamine password canaryinamine\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    wire = serve(answer())
    connect(wire).send(ADA)
    assert "authorization" not in wire.requests[0].headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_so_the_keys_do_not_travel(serve, answer, connect, status):
    elsewhere = serve(answer())
    wire = serve(answer(status, b"", Location=f"{elsewhere.url}/patients"))
    error = raised_by(lambda: connect(wire).send(ADA), ConnectionSettingsError)
    assert error.status == status
    assert len(wire.requests) == 1
    assert elsewhere.connections == 0


def test_a_redirect_to_nonsense_is_a_redirect(serve, answer, connect):
    wire = serve(answer(302, b"", Location="/\u00e9"))
    assert raised_by(lambda: connect(wire).send(ADA), ConnectionSettingsError).status == 302


def test_a_thread_keeps_its_connection_and_shares_it_with_none(serve, answer, connect):
    meeting = threading.Barrier(2, timeout=SOON)

    def together(wire: Any, connection: Any) -> None:
        meeting.wait()
        wire.send(connection, answer())

    wire = serve(answer(), answer(), together, together)
    client = connect(wire)
    client.send(ADA)
    client.send(ADA)
    assert wire.connections == 1
    other = threading.Thread(target=client.send, args=(ADA,))
    launch(other)
    client.send(ADA)
    join(other)
    assert wire.connections == 2


def test_a_fork_has_connections_of_its_own(serve, answer, connect, monkeypatch):
    """Two processes on one connection would get each other's answers."""
    wire = serve(answer())
    client = connect(wire)
    client.send(ADA)
    monkeypatch.setattr(http_module.os, "getpid", lambda: -1)
    client.send(ADA)
    client.send(ADA)
    assert wire.connections == 2


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_bundle(monkeypatch):
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


def test_a_certificate_that_nothing_vouches_for_is_refused(serve, answer, connect, authorities):
    wire = serve(answer(), tls=authorities[0].server)
    error = raised_by(lambda: connect(wire).send(ADA), ConnectionSettingsError)
    assert "file of that CA" in str(error)
    assert wire.requests == []
    assert "self-signed" in str(error) or "issuer" in str(error)
    assert wire.connections == 1


def test_once_mediquo_has_answered_a_refused_certificate_was_spoiled_on_its_way(
    serve, answer, connect, authorities
):
    wire = serve(answer(), tls=authorities[0].server)
    client = connect(wire)
    client._base_url_verified = True  # on a connection that is closed by now
    raised_by(lambda: client.send(ADA), UnreachableError)
    assert wire.connections == 5


def test_a_ca_file_of_the_connection_vouches_for_it(serve, answer, connect, authorities):
    wire = serve(answer(), tls=authorities[0].server)
    connect(wire, verify=authorities[0].file).send(ADA)
    assert len(wire.requests) == 1


@pytest.mark.parametrize("own, of_machine, passes", [(0, 1, True), (1, 0, False)])
def test_the_connections_ca_file_goes_before_that_of_the_machine(
    serve, answer, connect, authorities, monkeypatch, own, of_machine, passes
):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", authorities[of_machine].file)
    wire = serve(answer(), tls=authorities[0].server)
    client = connect(wire, verify=authorities[own].file)
    for _ in range(2):
        if passes:
            client.send(ADA)
        else:
            raised_by(lambda: client.send(ADA), ConnectionSettingsError)
    assert len(wire.requests) == 2 * passes


def test_the_machines_bundle_counts_where_the_connection_has_none(
    serve, answer, connect, authorities, monkeypatch
):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", authorities[1].file)
    wire = serve(answer(), tls=authorities[0].server)
    raised_by(lambda: connect(wire).send(ADA), ConnectionSettingsError)
    assert wire.requests == []
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", authorities[0].file)
    connect(wire).send(ADA)
    assert len(wire.requests) == 1


def test_a_certificate_of_another_host_is_refused(serve, answer, connect, authorities):
    wire = serve(answer(), tls=authorities[0].server)
    client = connect(wire.url.replace("127.0.0.1", "localhost"), verify=authorities[0].file)
    raised_by(lambda: client.send(ADA), ConnectionSettingsError)
    assert wire.requests == []


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_verification_is_off_only_where_the_connection_says_so(
    serve, answer, connect, authorities, monkeypatch
):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", authorities[1].file)
    wire = serve(answer(), tls=authorities[0].server)
    connect(wire, verify=False).send(ADA)
    raised_by(lambda: connect(wire, verify=True).send(ADA), ConnectionSettingsError)
    assert len(wire.requests) == 1


def test_a_ca_file_that_is_none_is_a_wrong_setting(connect, serve, answer, authorities, tmp_path):
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("this is no certificate")
    wire = serve(answer(), tls=authorities[0].server)
    raised_by(lambda: connect(wire, verify=str(garbage)).send(ADA), ConnectionSettingsError)
    assert wire.requests == []


# --- attempts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure", ["500", "502", "503", "504", "lost_before", "lost_after", "not_json", "empty"]
)
def test_what_may_heal_is_tried_again(box, client, failure):
    box.script("upsert", *[failure] * 4)
    stats = RequestStats()
    client.send(ADA, stats)
    assert list(box.patients) == ["m-1"]
    assert (stats.requests, stats.retries) == (5, 4)


@pytest.mark.parametrize("failure", ["503", "lost_before"])
def test_it_is_tried_five_times(box, client, failure):
    box.script("upsert", *[failure] * 9)
    error = raised_by(lambda: client.send(ADA), MediquoError)
    assert isinstance(error, ServerError if failure == "503" else UnreachableError)
    assert box.counters.total == 5


def test_a_time_out_is_tried_again(box, connect):
    box.script("upsert", "hang")
    connect(box, timeout=0.3).send(ADA)
    assert list(box.patients) == ["m-1"]


def test_nobody_listening_is_tried_again(connect):
    stats = RequestStats()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # without `listen`: nobody else can take the port
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        error = raised_by(lambda: connect(url).send(ADA, stats), UnreachableError)
    assert "127.0.0.1" in str(error)
    assert (stats.requests, stats.retries) == (5, 4)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400", RejectedRequestError),
        ("401", AuthenticationError),
        ("403", AuthenticationError),
        ("404", ConnectionSettingsError),
        ("413", RejectedRequestError),
        ("422", RejectedRequestError),
    ],
)
def test_a_verdict_is_never_asked_for_again(box, client, status, kind):
    box.script("upsert", status)
    error = raised_by(lambda: client.send(ADA), kind)
    assert error.status == int(status)
    assert box.counters.total == 1


def test_where_mediquo_has_answered_a_stray_answer_is_a_lost_one(box, client):
    """As of a load balancer while what is behind it is exchanged."""
    stats = RequestStats()
    client.send(ADA)
    box.script("upsert", "404", "redirect", "405")
    client.send(ADA, stats)
    assert (stats.requests, stats.retries) == (4, 3)
    box.script("get", *["405"] * 5)
    error = raised_by(lambda: client.send(get("m-1")), ServerError)
    assert error.status == 405
    assert "Base URL" not in str(error)


def test_that_nobody_is_there_proves_no_base_url(serve, answer, connect, attempt):
    """Any API may say so as JSON."""
    client = connect(serve(answer(404, {}), answer(404, b"Not Found")))
    assert attempt(client, get("m-1")).value is None
    raised_by(lambda: attempt(client, get("m-1")), ConnectionSettingsError)


@pytest.mark.parametrize("status", ["401", "403"])
def test_keys_that_are_refused_in_between_are_refused(box, client, status):
    client.send(ADA)
    box.script("upsert", status)
    raised_by(lambda: client.send(ADA), AuthenticationError)
    assert box.counters.total == 2


def test_the_backoff_is_exponential_with_jitter():
    def draws(attempt: int) -> list[float]:
        state: Any = type("State", (), {"attempt_number": attempt})
        return [DEFAULT_RETRY.backoff(state) for _ in range(200)]

    for attempt in range(1, 8):
        least = min(0.5 * 2 ** (attempt - 1), 30.0)
        found = draws(attempt)
        assert least <= min(found)
        assert max(found) <= least + 1
        if attempt < 6:
            assert max(found) - min(found) > 0.3, "two that failed together come back apart"


def test_the_backoff_is_waited_for(box, connect):
    client = connect(box, retry={"backoff": lambda state: 0.2 * state.attempt_number})
    box.script("upsert", "503", "503")
    client.send(ADA)
    first, second, third = (entry.at for entry in box.journal)
    assert second - first >= 0.19
    assert third - second >= 0.39


def test_a_503_is_tried_again_no_sooner_than_it_asks(box, client):
    box.script("upsert", "503:1")
    client.send(ADA)
    first, second = box.journal
    assert second.at - first.at >= 1.0


# --- 429 ------------------------------------------------------------------------------------------


def test_a_429_is_no_attempt(box, connect):
    client = connect(box, limiters=RateLimiters(BriefLimiter))
    box.script("upsert", *["429:1"] * 8, "503", "429:1", "503", "503", "503")
    stats = RequestStats()
    client.send(ADA, stats)
    assert stats.requests == box.counters.total == 14
    assert stats.retries == 4, "five attempts; what was sent after a 429 is none"
    assert stats.throttled_seconds() > 0


def test_a_429_pauses_every_client_of_the_process(box, connect, attempt):
    limiters = RateLimiters()
    one, other = connect(box, limiters=limiters), connect(box, limiters=limiters)
    box.script("upsert", "429:1")
    error = raised_by(lambda: attempt(one, ADA), RateLimitedError)
    assert (error.retry_after, error.is_final, error.status) == (1.0, False, 429)
    other.send(ADA)
    refused, accepted = box.journal
    assert accepted.at - refused.at >= 1.0


def test_a_429_of_one_endpoint_is_none_of_another(box, connect, attempt):
    client = connect(box)
    box.script("upsert", "429:600")
    raised_by(lambda: attempt(client, ADA), RateLimitedError)
    assert seconds_of(lambda: client.send(get("m-1"))) < SOON


def test_a_429_that_does_not_say_how_long_means_a_minute(box, client, attempt):
    box.settings.retry_after = "none"
    box.script("upsert", "429")
    assert raised_by(lambda: attempt(client, ADA), RateLimitedError).retry_after == WINDOW
    assert 0 < WINDOW - client.limiter(ADA).try_acquire(1) < SOON


@pytest.mark.parametrize("skew", [-86_400.0, 0.0, 86_400.0])
def test_a_429_with_a_date_goes_by_the_servers_clock(box, client, attempt, skew):
    box.settings.retry_after = "date"
    box.settings.clock_skew = skew
    box.script("upsert", "429:90")
    assert 89 <= raised_by(lambda: attempt(client, ADA), RateLimitedError).retry_after <= 91


@pytest.mark.parametrize("asked", ["0", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_a_429_that_asks_for_no_pause_means_a_second(serve, answer, connect, attempt, asked):
    wire = serve(answer(429, b"", Retry_After=asked))
    error = raised_by(lambda: attempt(connect(wire), ADA), RateLimitedError)
    assert error.retry_after == 1.0, "or it is sent again and again without end"


def test_a_pause_of_ten_minutes_is_still_waited_for(box, client, attempt):
    box.script("upsert", "429:600")
    assert not raised_by(lambda: attempt(client, ADA), RateLimitedError).is_final


def test_a_pause_longer_than_ten_minutes_ends_it_at_once(box, client):
    box.script("upsert", "429:601")
    started = time.monotonic()
    error = raised_by(lambda: client.send(ADA), RateLimitedError)
    assert error.is_final
    assert error.retry_after == 601
    assert box.counters.total == 1
    assert time.monotonic() - started < SOON


def test_the_next_exchange_of_the_process_does_not_wait_for_such_a_pause_either(box, connect):
    box.script("upsert", "429:601")
    limiters = RateLimiters()
    raised_by(lambda: connect(box, limiters=limiters).send(ADA), RateLimitedError)
    client = connect(box, limiters=limiters)
    later = threading.Timer(SOON, client.stop)  # else it waits for minutes
    launch(later)
    try:
        raised_by(lambda: client.send(ADA), RateLimitedError)
    finally:
        later.cancel()


class Clock:
    """The clock of the rate limiter: the real one, and ahead of it by as much as a test says."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def clocked(box, connect, clock):
    """A client whose rate limiter goes by `clock`."""
    return connect(box, limiters=RateLimiters(lambda: RateLimiter(clock=clock)))


def test_ten_minutes_of_nothing_but_429_end_it(box, attempt, clocked, clock):
    for ahead, is_final in ((0, False), *((60 * n, False) for n in range(1, 10)), (601, True)):
        clock.ahead = ahead
        box.script("upsert", "429:5")
        error = raised_by(lambda: attempt(clocked, ADA), RateLimitedError)
        assert error.is_final is is_final
    assert box.counters.total == 11


@pytest.mark.parametrize(("asked", "is_final"), [(250, False), (330, False), (400, True)])
def test_a_pause_that_would_end_a_minute_after_them_is_not_waited_for(
    box, attempt, clocked, clock, asked, is_final
):
    box.script("upsert", "429:300", f"429:{asked}")
    assert not raised_by(lambda: attempt(clocked, ADA), RateLimitedError).is_final
    clock.ahead = 310
    assert raised_by(lambda: attempt(clocked, ADA), RateLimitedError).is_final is is_final


def test_what_was_refused_long_before_is_another_runs(box, attempt, clocked, clock):
    for clock.ahead in (0, 3600):
        box.script("upsert", "429:5")
        assert not raised_by(lambda: attempt(clocked, ADA), RateLimitedError).is_final


def test_so_they_end_the_waiting_of_an_operation(box, connect):
    retry, limiters = {"max_throttled_seconds": 1.1}, RateLimiters(BriefLimiter)
    client = connect(box, retry=retry, limiters=limiters)
    box.script("upsert", *["429:1"] * 500)
    assert raised_by(lambda: client.send(ADA), RateLimitedError).is_final
    assert box.counters.total > 3


@pytest.mark.parametrize("served", ["404", "422", "ok"])
def test_an_answer_in_between_proves_that_mediquo_serves(box, attempt, clocked, clock, served):
    """A patient that is not there yet, or data that is refused, is an answer like any other."""
    attempt(clocked, ADA)
    run = [(60 * n, "429:5") for n in range(10)]
    for ahead, outcome in [*run, (570, served)]:
        clock.ahead = ahead
        box.script("get", outcome)
        with suppress(RateLimitedError, RejectedRequestError):
            attempt(clocked, get("m-1"))
    clock.ahead = 601
    box.script("get", "429:5")
    assert not raised_by(lambda: attempt(clocked, get("m-1")), RateLimitedError).is_final
    assert box.counters.requests["get"]["429"] == 11


def test_a_500_in_between_proves_nothing(box, attempt, clocked, clock):
    run = [(60 * n, "429:5") for n in range(10)]
    for ahead, outcome in [*run, (570, "500"), (601, "429:5")]:
        clock.ahead = ahead
        box.script("upsert", outcome)
        error = raised_by(lambda: attempt(clocked, ADA), MediquoError)
    assert isinstance(error, RateLimitedError)
    assert error.is_final


# --- the pace over a socket -----------------------------------------------------------------------


def test_a_lower_limit_that_mediquo_tells_is_kept_from_then_on(box, connect, attempt):
    box.settings.requests_per_minute = 3
    client = connect(box, requests_per_minute=600)
    for _ in range(3):
        attempt(client, ADA)
    assert client.limiter(ADA).try_acquire(600) > WINDOW - SOON
    assert "429" not in box.counters.requests["upsert"]


def test_failures_count_towards_the_limit_too(box, connect, attempt):
    client = connect(box, requests_per_minute=3)
    box.script("upsert", "503", "lost_before", "lost_after")
    for _ in range(3):
        raised_by(lambda: attempt(client, ADA))
    assert client.limiter(ADA).try_acquire(3) > WINDOW - SOON


def test_a_request_that_a_check_keeps_back_holds_no_slot(box, connect, attempt):
    """Such as that of a lease that was lost: later runs of this process share the limiter."""
    limiters = RateLimiters(lambda: RateLimiter(window=0.0))  # a slot is free after its answer
    client = connect(box, requests_per_minute=1, limiters=limiters)

    def refuse() -> None:
        raise StateError("Another run has taken over.")

    raised_by(lambda: client.send(ADA, check=refuse), StateError)
    assert box.counters.total == 0
    attempt(client, ADA)
    assert box.counters.total == 1


def test_a_server_that_counts_strictly_never_refuses(connect):
    """With a minute of half a second, here as there, whichever way the server counts."""
    for window in ("fixed", "sliding"):
        settings = {"window": window, "requests_per_minute": 10, "minute": 0.5, "jitter": 0.05}
        with Sandbox(latency=0, lag=0, **settings) as box:
            limiters = RateLimiters(lambda: RateLimiter(window=0.5))
            client = connect(box, requests_per_minute=10, limiters=limiters)
            threads = [
                threading.Thread(target=lambda: [client.send(ADA) for _ in range(8)])  # noqa: B023
                for _ in range(4)
            ]
            launch(*threads)
            join(*threads)
            assert box.counters.requests["upsert"] == {"200": 32}


# --- bounds ---------------------------------------------------------------------------------------


def drip_headers(wire: Any, connection: Any) -> None:
    wire.send(connection, b"HTTP/1.1 200 OK\r\nX-Long: ")
    wire.drip(connection, b"a" * 60_000)


def drip_body(wire: Any, connection: Any) -> None:
    wire.send(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
    wire.drip(connection, b" " * 60_000)


def drip_chunks(wire: Any, connection: Any) -> None:
    wire.send(connection, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    wire.drip(connection, b"1\r\n \r\n" * 10_000)


def drip_continues(wire: Any, connection: Any) -> None:
    wire.drip(connection, b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, 0.001)


def say_nothing(wire: Any, connection: Any) -> None:
    wire.stopped.wait()


@pytest.mark.parametrize(
    "answer", [drip_headers, drip_body, drip_chunks, drip_continues, say_nothing]
)
def test_an_answer_has_a_bound_in_seconds_as_a_whole(serve, connect, attempt, answer):
    client = connect(serve(answer), timeout=0.5)
    seconds = seconds_of(lambda: raised_by(lambda: attempt(client, ADA), UnreachableError))
    assert 0.4 < seconds < SOON


def test_so_has_one_over_tls(serve, connect, attempt, authorities):
    wire = serve(drip_body, tls=authorities[0].server)
    client = connect(wire, verify=authorities[0].file, timeout=0.5)
    assert seconds_of(lambda: raised_by(lambda: attempt(client, ADA), UnreachableError)) < SOON


def test_so_has_one_through_a_proxy(serve, answer, connect, attempt, monkeypatch):
    wire = serve(lambda wire, connection: wire.drip(connection, answer()))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{wire.port}")
    client = connect("http://mediquo.example.com/v1", allow_http=True, timeout=0.5)
    raised_by(lambda: attempt(client, ADA), UnreachableError)
    assert wire.requests[0].line.startswith("PUT http://mediquo.example.com/v1/patients ")


def test_a_handshake_that_never_comes_is_bounded_too(serve, answer, connect, attempt):
    wire = serve(answer())
    client = connect(wire.url.replace("http://", "https://"), timeout=0.5)
    assert seconds_of(lambda: raised_by(lambda: attempt(client, ADA), UnreachableError)) < SOON


def test_it_has_four_seconds_to_come_however_long_an_answer_may_take(
    serve, answer, connect, attempt
):
    client = connect(serve(answer()).url.replace("http://", "https://"), timeout=30)
    assert seconds_of(lambda: raised_by(lambda: attempt(client, ADA), UnreachableError)) < SOON


def endless(status: str, *headers: str) -> Any:
    def answer(wire: Any, connection: Any) -> None:
        head = "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode()
        wire.send(connection, head)
        while not wire.stopped.is_set():
            wire.send(connection, b'{"message": "' + b"x" * 65_536)

    return answer


@pytest.mark.parametrize(
    ("status", "kind"),
    [("200 OK", ServerError), ("404 Not Found", ConnectionSettingsError)],
)
def test_an_answer_has_a_bound_in_bytes(serve, connect, attempt, status, kind):
    wire = serve(endless(status))
    raised_by(lambda: attempt(connect(wire), ADA), kind)
    assert wire.sent < 20_000_000, "what is beyond a megabyte was on its way at most"


def test_so_has_a_redirect(serve, connect, attempt):
    wire = serve(endless("302 Found", "Location: /elsewhere"))
    raised_by(lambda: attempt(connect(wire), ADA), ConnectionSettingsError)
    assert wire.sent < 20_000_000


def test_what_is_longer_than_a_megabyte_is_not_read_as_far_as_it_goes(
    serve, answer, connect, attempt
):
    wire = serve(answer(200, b'{"message": "Success"}'.ljust((1 << 20) + 1)))
    assert raised_by(lambda: attempt(connect(wire), ADA), ServerError).status == 200


def test_a_body_of_a_megabyte_is_read(serve, answer, connect):
    note = "x" * 1_000_000
    wire = serve(answer(200, {"code": "m-1", "note": note}))
    assert connect(wire).send(get("m-1")).value["note"] == note


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"garbage",
        b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nConte",
        b"HTTP/1.1 401",
        b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    ],
    ids=range(12),
)
def test_whatever_comes_over_the_wire_is_an_answer_or_none(serve, connect, attempt, garbage):
    wire = serve(lambda wire, connection: wire.send(connection, garbage))
    error = raised_by(lambda: attempt(connect(wire), ADA), MediquoError)
    assert isinstance(error, ServerError | UnreachableError)
    assert error.__context__ is None
    assert error.__cause__ is None


# --- stopping -------------------------------------------------------------------------------------


def test_a_stopped_client_sends_nothing(box, client):
    client.stop()
    raised_by(lambda: client.send(ADA), StoppedError)
    assert box.counters.total == 0


@pytest.mark.parametrize("waiting_for", ["backoff", "pause", "limit"])
def test_stopping_ends_a_wait_between_requests(box, connect, eventually, waiting_for):
    limit = 1 if waiting_for == "limit" else 100
    client = connect(box, requests_per_minute=limit, retry={"backoff": lambda state: 300.0})
    if waiting_for == "backoff":
        box.script("upsert", "503")
    elif waiting_for == "pause":
        box.script("upsert", "429:300")
    else:
        client.send(ADA)
    caught: list[BaseException] = []
    thread = threading.Thread(target=lambda: caught.append(raised_by(lambda: client.send(ADA))))
    launch(thread)
    eventually(lambda: sum(box.counters.requests["upsert"].values()) == 1)
    client.stop()
    join(thread)
    assert isinstance(caught[0], StoppedError)
    assert box.counters.total == 1


@pytest.mark.parametrize("answer", [say_nothing, drip_headers, drip_body])
def test_aborting_ends_an_answer_that_is_under_way(serve, connect, eventually, answer):
    wire = serve(answer)
    client = connect(wire, timeout=300)
    caught: list[BaseException] = []
    thread = threading.Thread(target=lambda: caught.append(raised_by(lambda: client.send(ADA))))
    launch(thread)
    eventually(lambda: wire.requests)
    client.stop(abort=True)
    join(thread)
    assert isinstance(caught[0], StoppedError)
    assert len(wire.requests) == 1


def test_an_attempt_that_is_aborted_is_not_blamed_on_the_host(serve, connect, attempt, eventually):
    wire = serve(say_nothing)
    client = connect(wire, timeout=300)
    caught: list[BaseException] = []
    thread = threading.Thread(target=lambda: caught.append(raised_by(lambda: attempt(client, ADA))))
    launch(thread)
    eventually(lambda: wire.requests)
    client.stop(abort=True)
    join(thread)
    assert isinstance(caught[0], StoppedError)


def test_without_aborting_an_answer_that_is_under_way_is_waited_for(serve, connect, eventually):
    go = threading.Event()

    def late(wire: Any, connection: Any) -> None:
        go.wait(SOON)
        wire.send(connection, b'HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{"message":"Success"}')

    wire = serve(late)
    client = connect(wire)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(client.send(ADA)))
    launch(thread)
    eventually(lambda: wire.requests)
    client.stop()
    go.set()
    join(thread)
    assert len(answers) == 1


# --- the server's time ----------------------------------------------------------------------------


def test_the_time_of_the_first_attempt_counts_by_the_servers_clock(serve, answer, connect):
    date = 1_700_000_000

    def slow_503(wire: Any, connection: Any) -> None:
        wire.stopped.wait(1.1)
        wire.send(connection, answer(503, b""))

    wire = serve(slow_503, answer(200, None, Date=formatdate(date, usegmt=True)))
    assert connect(wire).send(ADA).sent_at in range(date - 9, date - 1)


def test_a_429_moves_the_time_of_the_first_attempt(serve, answer, connect):
    date = 1_700_000_000

    def slow_429(wire: Any, connection: Any) -> None:
        wire.stopped.wait(2.1)
        wire.send(connection, answer(429, b"", Retry_After="1"))

    wire = serve(slow_429, answer(200, None, Date=formatdate(date, usegmt=True)))
    assert connect(wire, limiters=RateLimiters(BriefLimiter)).send(ADA).sent_at in range(
        date - 2, date + 1
    )


def test_a_429_of_a_later_attempt_does_not(serve, answer, connect):
    """The first one may have been accepted, and only its answer lost."""
    date = 1_700_000_000

    def slow_503(wire: Any, connection: Any) -> None:
        wire.stopped.wait(1.1)
        wire.send(connection, answer(503, b""))

    refused, taken = answer(429, b"", Retry_After="1"), formatdate(date, usegmt=True)
    wire = serve(slow_503, refused, answer(200, None, Date=taken))
    assert connect(wire, limiters=RateLimiters(BriefLimiter)).send(ADA).sent_at in range(
        date - 9, date - 1
    )


def test_without_a_date_the_time_is_unknown(serve, answer, connect):
    assert connect(serve(answer())).send(ADA).sent_at is None


# --- what an error and a log tell -----------------------------------------------------------------


def test_neither_keys_nor_values_reach_an_error_or_a_log(box, connect, caplog):
    caplog.set_level(logging.DEBUG)
    client = connect(box, api_key="canaryinamine-1", secret_key="canaryinamine-2", timeout=0.5)
    body = upsert([encode_patient({"code": "m-1", "first_name": "canaryinamine-3"})])
    for failure in ("ok", "400", "403", "404", "not_json", "lost_before", "redirect", "422"):
        box.script("upsert", *[failure] * 5)
        error = raised_by(lambda: client.send(body))
        assert error.__context__ is None
        assert error.__cause__ is None
        assert "canaryinamine" not in f"{error!r} {error} {vars(error)} {error.args}"
        box.reset()
    assert caplog.records, "urllib3 tells about each request"
    assert "canaryinamine" not in caplog.text
