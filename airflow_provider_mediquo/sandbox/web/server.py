"""uvicorn in a thread: starts and stops immediately, and can cut connections."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

# As usual for web servers. With less, idle connections of a client would look like faults.
KEEP_ALIVE_SECONDS = 75


def abort(connections: Iterable[Any]) -> None:
    for connection in list(connections):
        connection.transport.abort()


class Protocol(H11Protocol):
    """Lets the application cut its own and other connections; logs no paths, which contain codes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio only sets it for listeners with an explicit protocol. Without it, a response in two
        # parts waits 40 ms for the client's delayed acknowledgement.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app_state = {
            **self.app_state,
            "abort": transport.abort,
            "abort_others": lambda: abort(self.connections - {self}),
        }


class Server(uvicorn.Server):
    """Runs from `start` to `stop`, which cuts all open connections."""

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
        self._thread = threading.Thread(target=self._run, name="mediquo-sandbox", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()
        if self._loop is None:
            raise RuntimeError("The sandbox did not start; see the error of its thread.")

    def cut(self, then: Callable[[], None]) -> None:
        """Cut all open connections, and call a function before the next request is read."""

        async def cut() -> None:
            abort(self.server_state.connections)
            then()

        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(cut(), self._loop).result()

    def stop(self) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            self.run(sockets=[self._listener])
        finally:
            self._ready.set()

    async def main_loop(self) -> None:
        # uvicorn's own polls ten times a second.
        self._stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn's own waits for all responses, and some of ours never end.
        # asyncio never closes a connection that it has accepted, but not set up, when the server closes.
        asyncio.get_running_loop().remove_reader(self._listener)
        while self.server_state.connections or len(asyncio.all_tasks()) > 1:
            abort(self.server_state.connections)
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()
