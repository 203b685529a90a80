"""The sandbox as a Python object, for tests and notebooks."""

import socket
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from airflow_provider_mediquo.sandbox.model.journal import Counters, Entry
from airflow_provider_mediquo.sandbox.model.service import MediQuo
from airflow_provider_mediquo.sandbox.settings import Settings
from airflow_provider_mediquo.sandbox.web.app import create_app
from airflow_provider_mediquo.sandbox.web.routes import BASE_PATH
from airflow_provider_mediquo.sandbox.web.server import Server

LOOPBACK = "127.0.0.1"
LOOPBACKS = (LOOPBACK, "::1", "localhost")
WILDCARDS = {"0.0.0.0": LOOPBACK, "::": "::1"}
BACKLOG = 2048


class Sandbox:
    """A local mock of mediQuo, which runs in a thread of this process and listens on a real socket.

        with Sandbox(lag=0.2, requests_per_minute=60) as sandbox:
            requests.get(f"{sandbox.url}/patients/1", headers=sandbox.headers)

    :param port: 0 for a free one.
    :param settings: attributes of Settings.
    """

    def __init__(
        self,
        *,
        host: str = LOOPBACK,
        port: int = 0,
        api_key: str = "sandbox-api-key",
        secret_key: str = "sandbox-secret-key",
        **settings: Any,
    ) -> None:
        self._mediquo = MediQuo(Settings(**settings), api_key, secret_key)
        self._address = host, port
        self._server: Server | None = None

    def start(self) -> Self:
        """Start listening; raises OSError if the address is not available."""
        host, port = self._address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        self._address = host, listener.getsockname()[1]
        self._server = Server(create_app(self._mediquo), listener)
        self._server.start()
        return self

    def stop(self) -> None:
        """Cut open connections and stop; patients and journal can still be read."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def home(self) -> str:
        """The URL of the dashboard, the API docs and the control API, without a trailing slash."""
        host, port = self._address
        host = WILDCARDS.get(host, host)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def url(self) -> str:
        """The Base URL of the API."""
        return self.home + BASE_PATH

    @property
    def api_key(self) -> str:
        return self._mediquo.api_key

    @property
    def secret_key(self) -> str:
        return self._mediquo.secret_key

    @property
    def headers(self) -> dict[str, str]:
        """Both keys, as headers that every request needs."""
        return {"X-API-Key": self.api_key, "X-Secret-Key": self.secret_key}

    @property
    def connection(self) -> dict[str, Any]:
        """The Airflow connection to this sandbox; except on loopback, it allows plain HTTP."""
        host, _ = self._address
        extra = {} if WILDCARDS.get(host, host) in LOOPBACKS else {"extra": {"allow_http": True}}
        return {
            "conn_type": "mediquo",
            "login": self.api_key,
            "password": self.secret_key,
            "host": self.url,
            **extra,
        }

    @property
    def settings(self) -> Settings:
        """The settings; attributes can be changed while the sandbox runs."""
        return self._mediquo.settings

    @property
    def patients(self) -> Mapping[str, dict[str, Any]]:
        """Code -> the patient that a GET returns now."""
        return self._mediquo.store

    @property
    def accepted(self) -> Counter[str]:
        """Code -> how many writes were accepted."""
        return self._mediquo.store.accepted()

    @property
    def journal(self) -> list[Entry]:
        """The latest requests, oldest first."""
        return self._mediquo.journal.entries()

    @property
    def counters(self) -> Counters:
        """Totals since the start or the last reset."""
        return self._mediquo.journal.counters

    def script(self, endpoint: str, *outcomes: str) -> None:
        """Set the outcomes of the next requests to an endpoint, one per request.

        Scripted outcomes come before random faults.

        :param endpoint: upsert, get or authenticate.
        :param outcomes: names in faults.OUTCOMES, or an error status such as "503" or "429:3" (with a
            Retry-After of 3 seconds).
        """
        self._mediquo.faults.script(endpoint, *outcomes)

    def restart(self) -> None:
        """Cut open connections, and lose the writes that are not visible yet, and the rate limits."""
        if self._server is None:
            self._mediquo.restart()
        else:
            self._server.cut(then=self._mediquo.restart)

    def reset(self) -> None:
        """Clear patients, scripts, counters and rate limits; keep the settings."""
        self._mediquo.reset()
