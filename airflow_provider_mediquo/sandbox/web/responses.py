"""Responses, and faults in place of one."""

import asyncio
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

HTML = "<!DOCTYPE html>\n<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>\n"
HUGE_CHUNK = b"x" * 65536


async def left(receive: Receive, within: float | None = None) -> bool:
    """Wait for the client to disconnect, and return whether it did within some seconds."""
    try:
        async with asyncio.timeout(within):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True


class Json(Response):
    """JSON with all non-ASCII characters escaped, as PHP writes it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content).encode()


class Hanging(Response):
    """No response; ends when the client disconnects."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await left(receive)


class Lost(Response):
    """Cuts the connection without a response."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["exchange"].close()
        scope["state"]["abort"]()
        await left(receive)


class Dripping(Response):
    """Sends another response byte by byte, with a pause before each."""

    def __init__(self, answer: Response, seconds: float) -> None:
        super().__init__(answer.body, answer.status_code, media_type=answer.media_type)
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _start(self, send)
        for byte in bytes(self.body):
            if await left(receive, self._seconds):
                return
            await _more(bytes([byte]), send)
        await send({"type": "http.response.body", "body": b""})


class Huge(Response):
    """Sends JSON that never ends."""

    def __init__(self) -> None:
        super().__init__(media_type="application/json")
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _start(self, send)
        await _more(b'{"message": "', send)
        while not await left(receive, 0):
            await _more(HUGE_CHUNK, send)


def web_page(status: int, headers: Mapping[str, str] | None = None) -> HTMLResponse:
    """Return a web page, as a web server or a proxy sends it."""
    return HTMLResponse(HTML.format(f"{status} {phrase(status)}"), status, headers)


def phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


async def _start(answer: Response, send: Send) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": answer.status_code,
            "headers": answer.raw_headers,
        }
    )


async def _more(body: bytes, send: Send) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})
