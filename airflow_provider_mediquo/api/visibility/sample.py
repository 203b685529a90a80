"""A few of the accepted records, each with the same chance, for the sensor to look at."""

from __future__ import annotations

import json
import random

from airflow_provider_mediquo.api.records import ValidRecord
from airflow_provider_mediquo.api.visibility.fingerprint import make_proof

SIZE = 20


class Sample:
    """SIZE records out of a stream of any length (reservoir sampling, algorithm R)."""

    def __init__(self, secret_key: str) -> None:
        self._secret_key = secret_key
        self._seen = 0
        self._kept: list[tuple[ValidRecord, int | None]] = []

    def consider(self, item: ValidRecord, sent_at: int | None) -> None:
        """Keep it, or not; see `visibility.make_proof`."""
        if item.code.startswith("__"):
            return  # as a key, frameworks give it a meaning: `__classname__` keeps XCom from storing it
        self._seen += 1
        place = len(self._kept) if self._seen <= SIZE else random.randrange(self._seen)
        if place < SIZE:
            self._kept[place : place + 1] = [(item, sent_at)]

    def as_dict(self) -> dict[str, str]:
        """Return code -> proof."""
        return {
            item.code: make_proof(json.loads(item.encoded), self._secret_key, sent_at)
            for item, sent_at in self._kept
        }
