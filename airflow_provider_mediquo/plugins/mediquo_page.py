"""The page *Browse -> mediQuo*: files without data, whose script asks Airflow's REST API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import cache
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

URL_PREFIX = "/mediquo"
FOLDER = Path(__file__).with_name("static")
HEADERS = {
    # Only files of this folder, and no other site that frames the page. What the script puts in is
    # text: the browser refuses markup that is made of a string.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    # Ask each time whether the file is still the same, so that an upgrade shows at once.
    "cache-control": "no-cache",
}


class PageApp:
    """Serves the page's files; a user who may not see a run in Airflow sees a page without it."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, as an ASGI application."""
        if scope["type"] == "http":
            await _files()(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})


class MediquoPagePlugin(AirflowPlugin):
    """Adds the page to Airflow's UI."""

    name = "mediquo"
    fastapi_apps = [{"app": PageApp(), "url_prefix": URL_PREFIX, "name": "mediQuo"}]  # noqa: RUF012  # as Airflow declares it
    external_views = [  # noqa: RUF012  # as Airflow declares it
        {
            "name": "mediQuo",
            # Relative to Airflow's own address, which may have a path.
            "href": f"{URL_PREFIX.removeprefix('/')}/",
            "url_route": "mediquo",
            "destination": "nav",
            "category": "browse",
        }
    ]


@cache
def _files() -> Any:
    """Return what serves the folder; made when first asked, as every component loads this plugin."""
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.staticfiles import StaticFiles

    return Starlette(routes=[Mount("/", StaticFiles(directory=FOLDER, html=True))])


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            ours = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message["headers"] = [*message.get("headers", ()), *ours]
        await send(message)

    return send_with_headers
