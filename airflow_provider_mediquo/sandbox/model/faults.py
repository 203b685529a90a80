"""Simulated faults: scripted outcomes first, then random ones."""

import re
from collections import defaultdict, deque
from collections.abc import Iterable
from random import Random

from airflow_provider_mediquo.sandbox.settings import Settings

ENDPOINTS = ("upsert", "get", "authenticate")

OUTCOMES = {
    "ok": "no fault",
    "lost_before": "the connection is cut; nothing is written",
    "lost_after": "the connection is cut after the write was accepted",
    "hang": "no response until the client disconnects; nothing is written",
    "not_json": "200 with an HTML page; nothing is written",
    "empty": "200 without a body; nothing is written",
    "redirect": "302 to a path that does not exist here; nothing is written",
    "slow_body": "the usual response, byte by byte (see the setting drip); the write is accepted",
    "huge": "200 with a body that never ends; nothing is written",
}
STATUS = re.compile(r"([45]\d\d)(?::(\d{1,9}))?")
SERVER_ERRORS = ("500", "502", "503", "504")


def check(endpoint: str, outcomes: Iterable[str]) -> None:
    """Raise ValueError for an unknown name."""
    if endpoint not in ENDPOINTS:
        raise ValueError(f"Unknown endpoint {endpoint!r}: choose from {', '.join(ENDPOINTS)}")
    for outcome in outcomes:
        if outcome not in OUTCOMES and not STATUS.fullmatch(outcome):
            raise ValueError(
                f"Unknown outcome {outcome!r}: choose from {', '.join(OUTCOMES)}, a status from 400 "
                "to 599, or a status with a Retry-After in seconds as in '429:3'"
            )


class Faults:
    """Decides the outcome of each request that passed the rate limit."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._scripts: defaultdict[str, deque[str]] = defaultdict(deque)
        self._seed: int | None = None
        self._random = Random()

    def script(self, endpoint: str, *outcomes: str) -> None:
        """Append outcomes for the endpoint's next requests, one per request."""
        check(endpoint, outcomes)
        self._scripts[endpoint].extend(outcomes)

    def next(self, endpoint: str) -> str:
        script = self._scripts[endpoint]
        return script.popleft() if script else self._draw()

    def latency(self) -> float:
        """Return the seconds until the response to a request."""
        return self._settings.latency + self._settings.jitter * self._rng().random()

    def scripted(self) -> dict[str, list[str]]:
        """Return the outcomes that are still to come."""
        return {endpoint: list(self._scripts[endpoint]) for endpoint in ENDPOINTS}

    def reset(self) -> None:
        self._scripts.clear()
        self._random = Random(self._settings.seed)

    def _draw(self) -> str:
        number = self._rng().random()
        for outcome, share in (
            ("lost_before", self._settings.lost_before_rate),
            ("lost_after", self._settings.lost_after_rate),
            ("error", self._settings.error_rate),
        ):
            if number < share:
                return outcome if outcome != "error" else self._rng().choice(SERVER_ERRORS)
            number -= share
        return "ok"

    def _rng(self) -> Random:
        if self._seed != self._settings.seed:
            self._seed = self._settings.seed
            self._random = Random(self._seed)
        return self._random
