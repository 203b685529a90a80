"""A load balancer before the sandbox: it ends TLS, does what those do, and keeps a journal."""

import json
import ssl
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

from airflow_provider_mediquo.sandbox import Sandbox
from tests.support.proxy import Link, Proxy, Spoil
from tests.support.threads import join

_MOST_BYTES = 5 << 18  # of an answer that never ends
_UPSERT = "upsert"


@dataclass(frozen=True)
class Fault:
    """What happens to one request.

    :param box: an outcome of the sandbox.
    :param gateway: what the gateway does: it hands the request over twice, answers late, in its own
        name although the write was accepted, or less than it announced.
    :param spoil: what the proxy does to the answer or, on the way to the server, to what the
        connection carries next.
    """

    box: str = "ok"
    gateway: Literal["", "twice", "late", "502", "504", "short"] = ""
    spoil: Spoil | None = None


@dataclass(frozen=True)
class Strike:
    """Something that is done once, around a certain upsert.

    :param number: of the upsert, from 1.
    """

    number: int
    moment: Literal["before", "after"]
    act: Callable[[], None]


@dataclass
class Seen:
    """A request as it arrived, and what became of it.

    :param at: when the client sent it, on the monotonic clock. On a busy machine a request that it gave
        up may be looked at after the next one.
    :param given: the statuses that mediQuo gave, one each time the request was handed over; None
        where it gave no answer.
    :param is_accepted: whether one of these answers said so.
    :param answered_at: when its answer began to leave.
    :param is_whole: whether the answer left as mediQuo gave it.
    """

    at: float
    endpoint: str
    body: bytes
    link: Link
    given: list[int | None] = field(default_factory=list)
    is_accepted: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    answered_at: float = 0.0
    is_whole: bool = False
    has_arrived: bool = False
    """Whether the client certainly got the answer whole; known when its run is over."""

    @property
    def records(self) -> list[dict[str, Any]]:
        return json.loads(self.body)["patients"] if self.body else []

    @property
    def codes(self) -> list[str]:
        return [record["code"] for record in self.records]

    @property
    def status(self) -> int | None:
        """What mediQuo gave last, which is what the client is told."""
        return self.given[-1] if self.given else None


class Gateway:
    """Takes HTTPS from the proxy, and hands it to the sandbox.

    :param tls: with the certificate that the client trusts.
    """

    def __init__(self, box: Sandbox, tls: ssl.SSLContext) -> None:
        self._box = box
        self._server = _Server(self, tls)
        self._lock = threading.Lock()
        self._idle = threading.Condition()
        self._in_flight = self._connections = 0
        self.seen: list[Seen] = []
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._strike: Strike | None = None
        self.happened: Counter[str] = Counter()
        """The faults that hit a request."""
        self.patience = 0.3
        """Seconds for an answer of mediQuo, after which the gateway says 504; more than a client's."""
        self.proxy = Proxy(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The Base URL, by way of the proxy."""
        return f"https://127.0.0.1:{self.proxy.port}/v1"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=[0.01], name="gateway", daemon=True
        )
        self._thread.start()
        self.proxy.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self.proxy.__exit__()
        self._server.shutdown()
        join(self._thread)
        self._server.server_close()

    def plan(
        self,
        upserts: Iterable[Fault] = (),
        gets: Iterable[Fault] = (),
        strike: Strike | None = None,
    ) -> None:
        """Say what happens to the next requests, one each; what was planned before is off."""
        with self._lock:
            self._faults.update(upsert=deque(upserts), get=deque(gets))
            self._strike = strike
            self.proxy.forget_plans()

    def take_journal(self) -> list[Seen]:
        """Return what came since the last time, before the client closes its connections.

        A client that gave up on an answer has left its connection. So one that sent another request
        on it, or is still there, got what was sent.
        """
        self.proxy.look()
        with self._lock:
            seen, self.seen = sorted(self.seen, key=lambda each: each.at), []
        later: set[Link] = set()
        for each in reversed(seen):
            is_there = each.link.is_sound and each.link.is_open
            each.has_arrived = each.is_whole and (each.link in later or is_there)
            later.add(each.link)
        return seen

    def rest(self) -> None:
        """Wait until no request is under way."""
        self._wait(lambda: not self._in_flight)

    def drain(self) -> None:
        """Wait until all that clients have sent is through; they have left."""
        self.proxy.drain()
        self._wait(lambda: not self._connections)

    def count_connection(self, change: int) -> None:
        with self._idle:
            self._connections += change
            self._idle.notify_all()

    def _wait(self, is_over: Callable[[], bool]) -> None:
        with self._idle:
            assert self._idle.wait_for(is_over, timeout=60)

    def serve(self, handler: "_Handler") -> None:
        """Hand a request over and its answer back."""
        length = int(handler.headers.get("Content-Length", 0))
        body = handler.rfile.read(length)
        link = self.proxy.link(handler.client_address[1])
        if len(body) < length:
            return
        seen = Seen(link.to_server.passed_at, _UPSERT if length else "get", body, link)
        with self._idle:
            self._in_flight += 1
        try:
            self._exchange(handler, seen)
        finally:
            with self._idle:
                self._in_flight -= 1
                self._idle.notify_all()

    def _exchange(self, handler: "_Handler", seen: Seen) -> None:
        with self._lock:
            self.seen.append(seen)
            queue = self._faults[seen.endpoint]
            fault = queue.popleft() if queue else Fault()
            number = sum(each.endpoint == _UPSERT for each in self.seen)
        self.happened.update({fault.box, fault.gateway} - {"ok", ""})
        self._maybe_strike(seen, number, "before")
        if fault.spoil:
            seen.link.plan(fault.spoil)
        for _ in range(2 if fault.gateway == "twice" else 1):
            status, headers, content = self._hand_over(handler, seen, fault.box)
        self._maybe_strike(seen, number, "after")
        if fault.gateway == "late":
            time.sleep(self.patience)
        elif fault.gateway in ("502", "504"):
            status, headers, content = _in_its_own_name(int(fault.gateway))
        handler.close_connection = fault.gateway == "short" or status is None
        if status is None:
            return
        seen.answered_at, seen.headers = time.monotonic(), headers
        sent = content[: len(content) // 2] if fault.gateway == "short" else content
        with suppress(OSError):  # the client has left
            handler.answer(status, headers, len(content), sent)
            seen.is_whole = sent == content and fault.gateway not in ("502", "504")

    def _read(self, answer: HTTPResponse) -> bytes:
        content, until = b"", time.monotonic() + self.patience
        while len(content) < _MOST_BYTES and (block := answer.read1()):
            content += block
            if time.monotonic() > until:
                raise TimeoutError
        return content

    def _maybe_strike(self, seen: Seen, number: int, moment: str) -> None:
        strike = self._strike if seen.endpoint == _UPSERT else None
        if strike and (number, moment) == (strike.number, strike.moment):
            strike.act()

    def _hand_over(
        self, handler: "_Handler", seen: Seen, outcome: str
    ) -> tuple[int | None, dict[str, str], bytes]:
        if outcome != "ok":
            self._box.script(seen.endpoint, outcome)
        upstream = HTTPConnection(self._box.home.removeprefix("http://"), timeout=self.patience)
        try:
            upstream.request(
                handler.command, handler.path, seen.body or None, dict(handler.headers)
            )
            answer = upstream.getresponse()
            content = self._read(answer)
            seen.given.append(answer.status)
            seen.is_accepted |= answer.status == 200 and _says_success(content)
            return answer.status, dict(answer.headers), content
        except TimeoutError:
            seen.given.append(None)
            return _in_its_own_name(504)
        except (OSError, HTTPException):
            # mediQuo is lost before or after it wrote; some load balancers then cut, too.
            seen.given.append(None)
            return None, {}, b""
        finally:
            upstream.close()


def _says_success(content: bytes) -> bool:
    with suppress(ValueError):
        said = json.loads(content)
        return "Success" in (said.get("message"), (said.get("data") or [{}])[0].get("message"))
    return False


def _in_its_own_name(status: int) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "text/html"}, f"<h1>{status}</h1>".encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_PUT(self) -> None:
        self.server.gateway.serve(self)

    do_GET = do_PUT

    def answer(self, status: int, headers: dict[str, str], length: int, content: bytes) -> None:
        left_out = ("content-length", "transfer-encoding", "connection")
        lines = [
            f"{name}: {value}" for name, value in headers.items() if name.lower() not in left_out
        ]
        head = [f"HTTP/1.1 {status} Whatever", *lines, f"content-length: {length}", "", ""]
        self.wfile.write("\r\n".join(head).encode("latin-1"))
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class _Secure(ssl.SSLSocket):
    def __del__(self) -> None:
        self.close()  # Python leaves it open where the client is gone before the handshake


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, gateway: Gateway, tls: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.gateway, self._tls = gateway, tls
        tls.sslsocket_class = _Secure

    def finish_request(self, request: Any, client_address: Any) -> None:
        try:
            with self._tls.wrap_socket(request, server_side=True) as secure:
                super().finish_request(secure, client_address)
        finally:
            self.gateway.count_connection(-1)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.gateway.count_connection(1)
        super().process_request(request, client_address)

    def handle_error(self, *_: object) -> None:
        """Say nothing: what arrives here is spoiled on purpose."""
