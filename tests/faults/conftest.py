"""A gateway and a proxy before a sandbox, with a certificate; the client's minute is short."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from airflow_provider_mediquo.api.client.client import MediquoClient
from airflow_provider_mediquo.api.client.settings import Settings
from airflow_provider_mediquo.sandbox import Sandbox
from tests.faults.child import MINUTE, RETRY, short_limiters
from tests.support.gateway import Gateway

PLENTY = 1_000_000
TIMEOUT = 0.2
"""Seconds for an answer; the gateway is more patient, as it is told to be."""


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    """A server's side, and the file by which a client trusts it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.num_tickets = 0  # after the handshake nothing but answers goes to the client
    authority.issue_cert("127.0.0.1").configure_cert(server)
    file = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    return server, str(file)


@pytest.fixture
def place(tls: tuple[ssl.SSLContext, str]) -> Callable[..., Any]:
    """A sandbox with a gateway before it: `with place(lag=1) as (box, gateway)`."""

    @contextmanager
    def start(**settings: Any) -> Iterator[tuple[Sandbox, Gateway]]:
        usual = {"latency": 0, "lag": 0, "requests_per_minute": PLENTY, "minute": MINUTE}
        with Sandbox(**(usual | settings)) as box, Gateway(box, tls[0]) as gateway:
            yield box, gateway

    return start


@pytest.fixture
def connect(tls: tuple[ssl.SSLContext, str]) -> Callable[..., MediquoClient]:
    """Make a client of a sandbox behind its gateway: `connect(box, gateway)`."""

    limiters = short_limiters()

    def make(box: Sandbox, gateway: Gateway, **settings: Any) -> MediquoClient:
        usual = {"requests_per_minute": PLENTY, "timeout": TIMEOUT, "verify": tls[1]}
        keys = {"api_key": box.api_key, "secret_key": box.secret_key}
        return MediquoClient(
            Settings(**keys, base_url=gateway.url, **(usual | settings)),
            retry=RETRY,
            limiters=limiters,
        )

    return make


@pytest.fixture
def rejects(tmp_path: Path) -> Iterator[Path]:
    """Names of rejects files that are not there yet."""
    return (tmp_path / f"{number}.jsonl" for number in range(1_000_000))
