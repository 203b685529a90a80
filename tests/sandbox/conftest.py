"""Sandboxes on a real socket, and a client for them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from airflow_provider_mediquo.sandbox import Sandbox

PATIENT = {"code": "m-1", "first_name": "Ada", "plan": "premium"}


class Client:
    """Sends requests to a sandbox, with both keys and a timeout."""

    def __init__(self, box: Sandbox, session: requests.Session) -> None:
        self.box = box
        self.session = session

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        options = {"headers": self.box.headers, "timeout": 10, "allow_redirects": False, **options}
        return self.session.request(method, self.box.url + path, **options)

    def put(self, *patients: Any, **options: Any) -> requests.Response:
        return self.send("PUT", "/patients", json={"patients": list(patients)}, **options)

    def get(self, code: str = "m-1", **options: Any) -> requests.Response:
        return self.send("GET", f"/patients/{code}", **options)

    def authenticate(self, code: Any = "m-1") -> requests.Response:
        return self.send("POST", "/patients/authenticate", json={"code": code})

    def control(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.session.request(method, self.box.home + path, timeout=10, **options)


@pytest.fixture
def patient() -> dict[str, Any]:
    return dict(PATIENT)


@pytest.fixture
def connect() -> Iterator[Callable[..., Client]]:
    """Start a sandbox, without lag and latency unless the test sets them."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Client:
            box = stack.enter_context(Sandbox(**{"lag": 0, "latency": 0, **settings}))
            return Client(box, stack.enter_context(requests.Session()))

        yield start


@pytest.fixture
def client(connect: Callable[..., Client]) -> Client:
    return connect()


@pytest.fixture
def open_get() -> Iterator[Callable[[Sandbox], HTTPConnection]]:
    """Send a GET, without reading the response."""
    with ExitStack() as stack:

        def start(box: Sandbox) -> HTTPConnection:
            where = urlsplit(box.url)
            connection = HTTPConnection(where.netloc, timeout=10)
            stack.callback(connection.close)
            connection.request("GET", "/v1/patients/m-1", headers=box.headers)
            return connection

        yield start
