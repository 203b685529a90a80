"""Handles a request to mediQuo: rate limit, then faults, then keys, then the operation.

Every request counts towards the limit, also with wrong keys. Every response has the headers of the
limit, and the server's date.
"""

import math
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_mediquo.sandbox.model.faults import STATUS
from airflow_provider_mediquo.sandbox.model.journal import Exchange
from airflow_provider_mediquo.sandbox.model.rate_limit import Hit
from airflow_provider_mediquo.sandbox.model.service import MediQuo, Refusal
from airflow_provider_mediquo.sandbox.model.validation import NotJson, parse
from airflow_provider_mediquo.sandbox.web.responses import (
    Dripping,
    Hanging,
    Huge,
    Json,
    Lost,
    left,
    phrase,
    web_page,
)

Operation = Callable[["Call"], dict[str, Any]]
ELSEWHERE = "/elsewhere"
GATEWAY_STATUSES = (502, 504)
# Outcomes that replace the operation.
WITHOUT_OPERATION: dict[str, Callable[[], Response]] = {
    "lost_before": Lost,
    "hang": Hanging,
    "not_json": lambda: web_page(200),
    "empty": Response,
    "redirect": lambda: web_page(302, {"location": ELSEWHERE}),
    "huge": Huge,
}


class Observed:
    """Gives an application its mediQuo, records requests in the journal, adds the common headers."""

    def __init__(self, app: ASGIApp, mediquo: MediQuo) -> None:
        self._app = app
        self._mediquo = mediquo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(self._mediquo.journal, scope["method"])
        scope["state"] |= {"mediquo": self._mediquo, "exchange": exchange}

        async def answer(part: Message) -> None:
            if part["type"] == "http.response.start":
                exchange.status = part["status"]
                part["headers"] = [*part["headers"], *self._headers(exchange)]
            elif not part.get("more_body"):
                exchange.close()
            await send(part)

        try:
            await self._app(scope, receive, answer)
        finally:
            exchange.close()

    def _headers(self, exchange: Exchange) -> list[tuple[bytes, bytes]]:
        headers = {"date": formatdate(self._mediquo.now(), usegmt=True), **exchange.headers}
        return [(name.encode(), value.encode()) for name, value in headers.items()]


class Call:
    """A request with its complete body."""

    def __init__(self, request: Request, body: bytes) -> None:
        self.mediquo: MediQuo = request.state.mediquo
        self._exchange: Exchange = request.state.exchange
        self._request = request
        self._json = _parsed(body, request.headers.get("content-type", ""))
        listed = (self._json or {}).get("patients")
        self._exchange.patients = len(listed) if isinstance(listed, list) else 0

    def json(self) -> dict[str, Any]:
        """Return the body, or refuse with 400."""
        if self._json is None:
            raise Refusal(400, "The body is not JSON, or its Content-Type does not say so.")
        return self._json

    def answer(self, operation: Operation) -> Response:
        """Return the response: rate limit, faults, keys and operation, in this order."""
        client = self._request.client
        endpoint = self._exchange.endpoint
        hit = self.mediquo.limits.hit(client.host if client else "", endpoint)
        self._limit_headers(hit.limit, hit.remaining)
        if hit.refused:
            return self._status(429, hit)
        outcome = self.mediquo.faults.next(endpoint)
        self._exchange.fault = "" if outcome == "ok" else outcome
        if scripted := STATUS.fullmatch(outcome):
            return self._status(int(scripted[1]), hit, scripted[2])
        return self._outcome(outcome, operation)

    def _outcome(self, outcome: str, operation: Operation) -> Response:
        if outcome in WITHOUT_OPERATION:
            return WITHOUT_OPERATION[outcome]()
        answer = self._operate(operation)
        if outcome == "lost_after":
            return Lost()
        return Dripping(answer, self.mediquo.settings.drip) if outcome == "slow_body" else answer

    def _operate(self, operation: Operation) -> Response:
        headers = self._request.headers
        try:
            self.mediquo.check_keys(headers.get("x-api-key", ""), headers.get("x-secret-key", ""))
            return Json(operation(self))
        except Refusal as refusal:
            return Json(refusal.body, refusal.status)

    def _status(self, status: int, hit: Hit, retry_after: str | None = None) -> Response:
        """Return an error of the server; errors of a gateway are web pages."""
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self._limit_headers(hit.limit, 0)
        if status == HTTPStatus.TOO_MANY_REQUESTS or retry_after:
            seconds = hit.free_in if retry_after is None else int(retry_after)
            self._retry_after(seconds, is_scripted=retry_after is not None)
        if status in GATEWAY_STATUSES:
            return web_page(status)
        return Json({"message": phrase(status)}, status)

    def _limit_headers(self, limit: int, remaining: int) -> None:
        self._exchange.headers["x-ratelimit-limit"] = str(limit)
        self._exchange.headers["x-ratelimit-remaining"] = str(remaining)

    def _retry_after(self, seconds: float, *, is_scripted: bool) -> None:
        form = self.mediquo.settings.retry_after
        if form == "date":
            retry_at = formatdate(math.ceil(self.mediquo.now() + seconds), usegmt=True)
            self._exchange.headers["retry-after"] = retry_at
        elif form == "seconds" or is_scripted:
            self._exchange.headers["retry-after"] = str(math.ceil(seconds))


async def perform(request: Request, endpoint: str, operation: Operation) -> Response:
    """Respond to a request after the latency, or not at all."""
    exchange: Exchange = request.state.exchange
    exchange.open(endpoint, request.scope["route"].path_format)
    try:
        call = Call(request, await request.body())
    except ClientDisconnect:
        return client_left(exchange)
    answer = call.answer(operation)
    if await left(request.receive, call.mediquo.faults.latency()):
        return client_left(exchange)
    return answer


def client_left(exchange: Exchange) -> Response:
    exchange.fault = exchange.fault or "client_left"
    return Hanging()


def _parsed(body: bytes, content_type: str) -> dict[str, Any] | None:
    # Laravel reads a body as JSON only when its type says so.
    if "json" not in content_type:
        return None
    try:
        return parse(body)
    except NotJson:
        return None
