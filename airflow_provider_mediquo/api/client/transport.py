"""Limits the time and size of every response, whatever the server does.

`requests` limits each read from the socket, so a server that sends a byte a second never times
out. Here the whole response has one deadline and a maximum size, and can be aborted.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from contextlib import suppress
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.poolmanager import PoolManager

from airflow_provider_mediquo.api.client.stop_flag import StopFlag

MAX_RESPONSE_BYTES = 2 << 20  # of a response, including everything around its body
_BLOCK = 1 << 14  # bytes that are sent at once: a TLS record
_POLL_SECONDS = 0.25  # how soon a wait notices an abort
_SILENT = 0  # also if it is set for all of `http.client`: it prints both keys and the patients


class BoundedAdapter(HTTPAdapter):
    """An adapter that limits how long a response may take, and can be aborted.

    :param seconds: from the request being sent to the last byte of its response.
    :param aborted: once set, every read fails with a timeout, in all threads.
    """

    def __init__(self, seconds: float, aborted: StopFlag) -> None:
        self._pools = _bounded_pools(seconds, aborted)
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the manager of direct connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> PoolManager:
        """Make the manager of connections through a proxy."""
        manager: PoolManager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _bounded_pools(seconds: float, aborted: StopFlag) -> dict[str, Any]:
    class Result(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            # The original file keeps the socket open until the response is read.
            self._bounded = _BoundedReader(sock, self.fp, seconds, aborted)
            self.fp = io.BufferedReader(self._bounded)

        def begin(self) -> None:
            super().begin()
            while self.status < 200:  # an interim response; http.client only skips a 100
                self.headers = self.msg = None  # type: ignore[assignment]  # start again
                super().begin()
            if self._bounded.has_ended:  # http.client takes that for the end of the headers
                raise http.client.IncompleteRead(b"")
            # urllib3 would log the headers that it cannot parse.
            self.headers.defects.clear()
            self.headers.set_payload("")

    class Bounded(_Bounded):
        def send(self, data: Any) -> None:
            if self.sock is None:
                self.connect()
            _send(self.sock, data, seconds, aborted)

    class Connection(Bounded, HTTPConnection):
        response_class = Result
        debuglevel = _SILENT

    class SecureConnection(Bounded, HTTPSConnection):
        response_class = Result
        debuglevel = _SILENT

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    return {"http": Pool, "https": SecurePool}


def _send(sock: socket.socket, data: bytes, seconds: float, aborted: StopFlag) -> None:
    rest, ends = memoryview(data), time.monotonic() + seconds
    while rest:
        left = ends - time.monotonic()
        if left <= 0 or aborted.is_set():
            raise TimeoutError("the request was not taken in time")
        sock.settimeout(min(left, _POLL_SECONDS))
        with suppress(TimeoutError):
            rest = rest[sock.send(rest[:_BLOCK]) :]


class _Bounded:
    """A connection on which a request that was not sent in full cannot succeed."""

    sock: Any
    connect: Any
    timeout: Any
    _is_cut = False

    def _tunnel(self) -> None:
        """Open a tunnel through a proxy; the TLS handshake that follows gets the connect timeout."""
        super()._tunnel()  # type: ignore[misc]  # of the class it is mixed into
        self.sock.settimeout(self.timeout)

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request; if that fails midway, urllib3 still reads a response: maybe a refusal."""
        self._is_cut = False
        try:
            super().request(*args, **kwargs)  # type: ignore[misc]  # of the same
        except OSError:
            self._is_cut = True
            raise

    def getresponse(self) -> Any:
        """Return the response, unless it accepts a request that was not sent in full."""
        response = super().getresponse()  # type: ignore[misc]  # of the same
        if self._is_cut and response.status < 300:
            raise http.client.IncompleteRead(b"")
        return response


class _BoundedReader(io.RawIOBase):
    def __init__(
        self, sock: socket.socket, file: io.IOBase, seconds: float, aborted: StopFlag
    ) -> None:
        self._sock, self._file, self._seconds, self._aborted = sock, file, seconds, aborted
        self._ends = time.monotonic() + seconds
        self.has_ended = False
        self._left = MAX_RESPONSE_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            while True:
                left = self._ends - time.monotonic()
                if left <= 0 or self._aborted.is_set():
                    raise TimeoutError("the answer was not complete in time")
                if self._left <= 0:
                    raise ConnectionError("the answer has no end")
                self._sock.settimeout(min(left, _POLL_SECONDS))
                try:
                    count = self._sock.recv_into(buffer)
                except TimeoutError:
                    continue
                self._left -= count
                self.has_ended = not count
                return count
        finally:
            self._sock.settimeout(self._seconds)

    def close(self) -> None:
        self._file.close()
        super().close()
