"""A sandbox, a raw socket for hostile answers, and an upload whose ledger is always audited."""

import inspect
import json
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
import tenacity
import trustme

from airflow_provider_mediquo.api.client.client import MediquoClient
from airflow_provider_mediquo.api.client.rate_limit import RateLimiter, RateLimiters
from airflow_provider_mediquo.api.client.request import Operation, Result
from airflow_provider_mediquo.api.client.retry import RetryPolicy
from airflow_provider_mediquo.api.client.settings import Settings
from airflow_provider_mediquo.api.report import UploadReport
from airflow_provider_mediquo.api.upload.options import UploadOptions
from airflow_provider_mediquo.api.upload.reject_files import LocalFile
from airflow_provider_mediquo.api.upload.reject_log import RejectLog
from airflow_provider_mediquo.api.upload.runner import Upload
from airflow_provider_mediquo.sandbox import Sandbox
from tests.support.threads import join, launch

API_KEY = "sandbox-api-key"
SECRET_KEY = "sandbox-secret-key"
PLENTY = 1_000_000


class BriefLimiter(RateLimiter):
    """A pause after a 429 lasts a hundredth of what mediQuo asked for."""

    def on_throttled(self, seconds: float) -> tuple[float, bool]:
        return super().on_throttled(seconds / 100)


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox(latency=0, lag=0, requests_per_minute=PLENTY) as box:
        yield box


@pytest.fixture
def connect() -> Iterator[Callable[..., MediquoClient]]:
    """Make clients that retry at once: `connect(box)` or `connect(url, timeout=1)`.

    Each has a rate limit of its own, since a port may come back in a later test.
    """
    with ExitStack() as stack:

        def make(
            to: Any,
            *,
            retry: dict[str, Any] | None = None,
            limiters: RateLimiters | None = None,
            **settings: Any,
        ) -> MediquoClient:
            url = to if isinstance(to, str) else to.url
            settings = {"api_key": API_KEY, "secret_key": SECRET_KEY} | settings
            settings = {"requests_per_minute": PLENTY} | settings
            client = MediquoClient(
                Settings(base_url=url, **settings),
                retry=RetryPolicy(**{"backoff": tenacity.wait_none(), **(retry or {})}),
                limiters=limiters or RateLimiters(),
            )
            stack.callback(client.close)
            return client

        yield make


@pytest.fixture
def client(box: Sandbox, connect: Callable[..., MediquoClient]) -> MediquoClient:
    return connect(box)


@pytest.fixture
def attempt() -> Callable[..., Result[Any]]:
    """Send an operation once, as the poller does."""

    def send(client: MediquoClient, operation: Operation[Any]) -> Result[Any]:
        return client.try_send(operation)

    return send


# --- a server that says whatever a test wants, byte by byte ---------------------------------------


@dataclass
class Seen:
    """A request as it arrived."""

    line: str
    headers: dict[str, str]
    body: bytes


class Wire:
    """A server on a raw socket: each request gets the next answer, the last one again and again.

    An answer is bytes, or a function of the connection that sends them itself; when it returns,
    or after bytes with `Connection: close`, the connection is closed.
    """

    def __init__(self, *answers: Any, tls: ssl.SSLContext | None = None) -> None:
        self.answers = list(answers)
        self.requests: list[Seen] = []
        self.connections = 0
        self.sent = 0
        self.stopped = threading.Event()
        self._tls = tls
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.02)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http{'s' * bool(self._tls)}://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._start(self._listen)
        return self

    def __exit__(self, *failure: object) -> None:
        self.stopped.set()
        for thread in self._threads:  # which the first one may still add to
            join(thread)
        self._listener.close()

    def send(self, connection: socket.socket, data: bytes) -> None:
        connection.sendall(data)
        self.sent += len(data)

    def drip(self, connection: socket.socket, data: Iterable[int], seconds: float = 0.02) -> None:
        """Send a byte at a time."""
        for byte in data:
            self.send(connection, bytes([byte]))
            if self.stopped.wait(seconds):
                return

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, name="wire")
        self._threads.append(thread)
        launch(thread)

    def _listen(self) -> None:
        while not self.stopped.is_set():
            with suppress(TimeoutError):
                connection, _ = self._listener.accept()
                self.connections += 1
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        with connection, suppress(OSError):
            if self._tls is None:
                self._answer_all(connection)
            else:
                with self._tls.wrap_socket(connection, server_side=True) as secure:
                    self._answer_all(secure)

    def _answer_all(self, connection: socket.socket) -> None:
        while (seen := self._read(connection)) is not None:
            with self._lock:
                self.requests.append(seen)
                answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
            if callable(answer):
                answer(self, connection)
                return
            self.send(connection, answer)
            if b"connection: close" in answer.lower():
                return

    def _read(self, connection: socket.socket) -> Seen | None:
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := self._receive(connection)):
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        line, *rest = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (h.partition(":") for h in rest)
        }
        while len(body) < int(headers.get("content-length", 0)):
            if not (more := self._receive(connection)):
                return None  # the client has left
            body += more
        return Seen(line, headers, body)

    def _receive(self, connection: socket.socket) -> bytes:
        connection.settimeout(0.02)
        try:
            while not self.stopped.is_set():
                with suppress(TimeoutError):
                    return connection.recv(1 << 16)
            return b""
        finally:
            connection.settimeout(10)


@pytest.fixture
def serve() -> Iterator[Callable[..., Wire]]:
    """Start raw servers: `serve(answer(200), answer(503))`."""
    with ExitStack() as stack:
        yield lambda *answers, **options: stack.enter_context(Wire(*answers, **options))


@pytest.fixture
def answer() -> Callable[..., bytes]:
    """Write an HTTP answer; JSON unless the body is bytes."""

    def write(status: int = 200, body: Any = None, **headers: str) -> bytes:
        body = {"message": "Success"} if body is None else body
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(content)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + content

    return write


@dataclass
class Authority:
    """Signs certificates that nothing trusts of itself.

    :param file: what a client needs to trust it.
    """

    file: str
    server: ssl.SSLContext


@pytest.fixture(scope="session")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> list[Authority]:
    """Two of them, unknown to each other."""
    made = []
    for name in ("one", "other"):
        authority = trustme.CA(organization_name=name)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(server)
        file = tmp_path_factory.mktemp("tls") / f"{name}.pem"
        authority.cert_pem.write_to_path(str(file))
        made.append(Authority(str(file), server))
    return made


# --- uploads --------------------------------------------------------------------------------------


class Source:
    """A generator over records that tells how many were taken, and whether it was closed."""

    def __init__(self, records: Iterable[Any]) -> None:
        self.pulled = 0
        self.generator = self._give(records)

    @property
    def closed(self) -> bool:
        return inspect.getgeneratorstate(self.generator) == inspect.GEN_CLOSED

    def _give(self, records: Iterable[Any]) -> Iterator[Any]:
        try:
            for record in records:
                self.pulled += 1
                yield record
        finally:
            if close := getattr(records, "close", None):
                close()


@dataclass
class Run:
    """An upload whose ledger is compared with what the source gave and what was written down."""

    upload: Upload
    source: Source
    path: Path
    error: BaseException | None = None
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def report(self) -> UploadReport:
        return self.upload.report

    @property
    def first_line(self) -> str:
        return str(self.error).splitlines()[0]

    def rows(self, refused_by: str) -> list[int]:
        return sorted(line["row"] for line in self.lines if line["refused_by"] == refused_by)

    def codes(self, refused_by: str) -> set[str]:
        return {line["code"] for line in self.lines if line["refused_by"] == refused_by}

    def go(self) -> Self:
        try:
            returned = self.upload.run(self.source.generator)
        except BaseException as error:  # noqa: BLE001  # whatever ends it: the ledger has to be complete
            self.error = error
        else:
            assert returned is self.report
        self.audit()
        return self

    def audit(self) -> None:
        alive = [t.name for t in threading.enumerate() if t.name.startswith("mediquo_")]
        assert not alive, f"threads that were not joined: {alive}"
        assert self.source.closed
        report = self.report
        if self.path.exists():
            self.lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        omitted = [line for line in self.lines if line["refused_by"] == "omitted"]
        rejected = [line for line in self.lines if line["refused_by"] != "omitted"]
        written = Counter(line["refused_by"] for line in rejected)
        counted = {
            "schema": report.invalid,
            "duplicate": report.duplicate,
            "mediquo": report.refused,
            "unsettled": report.unsettled,
        }
        assert written == Counter(counted)
        assert len(omitted) == report.omitted
        assert len({line["row"] for line in rejected}) == len(rejected), "a row written twice"
        assert report.read == self.source.pulled
        assert report.upserted + report.skipped + len(rejected) == report.read
        ledger = report.as_dict()
        parts = ("upserted", "skipped", "rejected", "unsettled")
        assert ledger["read"] == sum(ledger[name] for name in parts)
        if self.error is None:
            assert ledger["unsettled"] == 0
            assert ledger["stopped_because"] is None
        if self.error is not None:
            assert getattr(self.error, "report", None) is report


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[..., Run]:
    """Make an upload that has yet to `go`."""
    made: list[Run] = []

    def make(
        client: MediquoClient,
        records: Iterable[Any],
        *,
        progress_interval: float = 30,
        **options: Any,
    ) -> Run:
        path = tmp_path / f"{len(made)}.jsonl"
        rejects = RejectLog(LocalFile(path))
        upload = Upload(
            client, UploadOptions(**options), rejects, progress_interval=progress_interval
        )
        made.append(Run(upload, Source(records), path))
        return made[-1]

    return make


@pytest.fixture
def upload(prepare: Callable[..., Run]) -> Callable[..., Run]:
    """Run an upload to whatever end."""
    return lambda *args, **options: prepare(*args, **options).go()
