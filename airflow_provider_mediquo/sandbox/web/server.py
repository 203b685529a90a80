"""uvicorn in a thread: starts at once, stops at once, and can cut a connection."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

# As a usual web server's: shorter, and idle connections of a client would look like faults.
KEEP_ALIVE_SECONDS = 75


def abort(connections: Iterable[Any]) -> None:
    for connection in list(connections):
        connection.transport.abort()


class Protocol(H11Protocol):
    """Hands the application what cuts its connection, and the others; logs no path, which has a code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does so only for listeners that name their protocol; without it, an answer in two
        # parts waits 40 ms for the client's delayed acknowledgement.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app_state = {
            **self.app_state,
            "abort": transport.abort,
            "abort_others": lambda: abort(self.connections - {self}),
        }


class Server(uvicorn.Server):
    """Serves from `start` to `stop`, which cuts whatever is still open."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                date_header=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
            )
        )
        self._listener = listener
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(
            target=self._run_and_tell, name="mediquo-sandbox", daemon=True
        )

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()
        if self._loop is None:
            raise RuntimeError("The sandbox did not start; its thread's error says why.")

    def cut(self, then: Callable[[], None]) -> None:
        """Cut every open connection, and do something before anything else is heard."""

        async def cut() -> None:
            abort(self.server_state.connections)
            then()

        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(cut(), self._loop).result()

    def stop(self) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run_and_tell(self) -> None:
        try:
            self.run(sockets=[self._listener])
        finally:
            self._ready.set()

    async def main_loop(self) -> None:
        # uvicorn's own looks ten times a second whether to stop.
        self._stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn's own waits for answers, and some of ours never come.
        for server in self.servers:
            server.close()
        while self.server_state.connections or self.server_state.tasks:
            abort(self.server_state.connections)
            await asyncio.sleep(0)
