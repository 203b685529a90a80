"""A proxy that carries bytes and spoils some. It knows nothing of HTTP, nor of TLS."""

import asyncio
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Self

from tests.support.threads import join

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close that throws away what is unsent
_REPEATED = 16  # bytes

How = Literal["delay", "reset", "close", "swallow", "repeat", "corrupt"]


@dataclass(frozen=True)
class Spoil:
    """What is done to a stream of bytes, once.

    :param lane: which way they go.
    :param offset: bytes that still pass unharmed, from the moment at which this is planned.
    :param seconds: of a delay.
    """

    how: How
    lane: Literal["to client", "to server"] = "to client"
    offset: int = 0
    seconds: float = 0.05


class Lane:
    """One direction of a connection."""

    def __init__(
        self, link: "Link", source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        self._link, self._source, self._sink = link, source, sink
        self.passed = 0
        self.passed_at = 0.0  # on the monotonic clock: when the last bytes came
        self._planned: tuple[int, Spoil] | None = None
        self._is_swallowing = False

    def plan(self, spoil: Spoil) -> None:
        self._planned = self.passed + spoil.offset, spoil

    async def carry(self) -> None:
        """Until either end is gone."""
        with suppress(ConnectionError):
            while data := await self._source.read(1 << 16):
                self.passed_at = time.monotonic()
                await self._pass(data)

    async def _pass(self, data: bytes) -> None:
        at, spoil = self._planned or (0, None)
        if spoil and at < self.passed + len(data):
            self._planned = None
            before = at - self.passed
            await self._send(data[:before])
            data = await self._spoiled(spoil, data[:before], data[before:])
        await self._send(data)

    async def _spoiled(self, spoil: Spoil, before: bytes, after: bytes) -> bytes:
        """Do it, and return what is sent instead of what comes `after`."""
        self._link.note(spoil)
        match spoil.how:
            case "delay":
                await asyncio.sleep(spoil.seconds)
            case "reset" | "close":
                self._link.cut(reset=spoil.how == "reset")
                raise ConnectionAbortedError
            case "swallow":
                self._is_swallowing = True
            case "repeat":
                repeated = before[-_REPEATED:] or after[:_REPEATED]
                # With the same first byte, one byte at the end would arrive as it was sent.
                return repeated.lstrip(after[:1]) + after if before else repeated + after
            case "corrupt":
                return bytes([after[0] ^ 1]) + after[1:]
        return after

    async def _send(self, data: bytes) -> None:
        self.passed += len(data)
        if data and not self._is_swallowing:
            self._sink.write(data)
            await self._sink.drain()


class Link:
    """One connection of the client, and the one that it leads to."""

    def __init__(self, proxy: "Proxy") -> None:
        self._proxy = proxy
        self.is_sound = True
        """Whether every byte that passed is the one that was sent."""

    async def run(self, client: tuple, server: tuple) -> None:
        self._client, self._writers = client[0], (client[1], server[1])
        self.to_server = Lane(self, client[0], server[1])
        self.to_client = Lane(self, server[0], client[1])
        carrying = [asyncio.ensure_future(x.carry()) for x in (self.to_server, self.to_client)]
        for spoil in self._proxy.next_spoils():
            self.plan(spoil)
        await asyncio.wait(carrying, return_when=asyncio.FIRST_COMPLETED)
        for carried in carrying:
            carried.cancel()
        self.cut()

    @property
    def is_open(self) -> bool:
        """Whether the client has not left; of use where the loop has just looked."""
        gone = self._client.at_eof() or self._client.exception()
        return not gone and not self._writers[0].is_closing()

    def plan(self, spoil: Spoil) -> None:
        """Spoil what is still to come."""
        (self.to_client if spoil.lane == "to client" else self.to_server).plan(spoil)

    def note(self, spoil: Spoil) -> None:
        self.is_sound &= spoil.how == "delay"
        self._proxy.happened.append(spoil)

    def cut(self, *, reset: bool = False) -> None:
        for writer in self._writers:
            if reset and not writer.is_closing():
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, _RESET
                )
                writer.transport.abort()
            writer.close()


class Proxy:
    """Listens on a port of its own, and leads to another one of this machine."""

    def __init__(self, to_port: int) -> None:
        self.port = 0
        self.happened: list[Spoil] = []
        """What was spoiled, in the order in which it was."""
        self._to_port = to_port
        self._links: dict[int, Link] = {}
        self._next: deque[list[Spoil]] = deque()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *failure: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        join(self._thread)
        self._loop.close()

    def plan(self, *spoils: Spoil) -> None:
        """Spoil the next connection from its first byte on, handshake included."""
        self._next.append([*spoils])

    def next_spoils(self) -> list[Spoil]:
        return self._next.popleft() if self._next else []

    def forget_plans(self) -> None:
        self._next.clear()

    def link(self, port: int) -> Link:
        """Return the connection that arrives at the server from this port."""
        return self._links[port]

    def look(self) -> None:
        """See who has left by now."""
        self._do(self._take_turns())

    def drain(self) -> None:
        """Wait until every connection is at its end."""
        self._do(self._drain())

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(timeout=60)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _connected(self, *client: object) -> None:
        server = await asyncio.open_connection("127.0.0.1", self._to_port)
        link = Link(self)
        self._links[server[1].get_extra_info("sockname")[1]] = link
        await link.run(client, server)

    async def _drain(self) -> None:
        await self._take_turns()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others)

    async def _end(self) -> None:
        self._server.close()
        for link in self._links.values():
            link.cut(reset=True)
        await self._drain()
        await self._take_turns()

    async def _take_turns(self) -> None:
        for _ in range(5):  # the loop sees what has happened, and then tells whoever waits for it
            await asyncio.sleep(0)
