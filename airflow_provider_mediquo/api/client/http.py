"""Sends single requests, and limits the size of each response.

Only this module, `session.py` and `transport.py` import `requests`.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import requests

from airflow_provider_mediquo.api.client.request import Operation, RawResponse
from airflow_provider_mediquo.api.client.session import new_session
from airflow_provider_mediquo.api.client.settings import Settings
from airflow_provider_mediquo.api.client.stop_flag import StopFlag

MAX_BODY_BYTES = 1 << 20  # of a response; the longest documented one has 500
_NO_PROXY = {"http": "", "https": ""}  # requests to this machine must not leave it


class Http:
    """Sends single requests, from any number of threads, each over its own connection.

    :param connect_timeout: seconds, per address of the host.
    :param aborted: once set, ends the requests in progress.
    """

    def __init__(self, settings: Settings, connect_timeout: float, aborted: StopFlag) -> None:
        self._settings = settings
        self._connect_timeout = connect_timeout
        self._aborted = aborted
        self._local = threading.local()
        self._sessions: list[requests.Session] = []

    def request(self, operation: Operation[Any]) -> RawResponse:
        """Send a request and return its response, or raise what `requests` raises."""
        timeout = self._settings.timeout
        with self._session().request(
            operation.method,
            self._settings.base_url + operation.path,
            data=operation.body,
            timeout=(min(self._connect_timeout, timeout), timeout),
            verify=self._settings.verify,
            allow_redirects=False,
            proxies=_NO_PROXY if self._settings.is_loopback else None,
            stream=True,
        ) as response:
            # We asked for no compression, so nothing is decompressed: a bomb is not JSON.
            response.raw.headers.pop("Content-Encoding", None)
            body = b""
            for block in response.iter_content(1 << 14):
                body += block
                if len(body) > MAX_BODY_BYTES:
                    break  # leaving closes the connection
            body = body if len(body) <= MAX_BODY_BYTES else b""
            return RawResponse(response.status_code, response.headers, body)

    def _session(self) -> requests.Session:
        if getattr(self._local, "process", None) != os.getpid():  # a fork inherits the sockets
            self._local.process = os.getpid()
            self._local.session = new_session(self._settings, self._aborted)
            self._sessions.append(self._local.session)
        return self._local.session  # type: ignore[no-any-return]  # a thread's attributes are Any

    def close(self) -> None:
        """Close the connection of every thread."""
        while self._sessions:
            self._sessions.pop().close()
