"""A random sample of the accepted records, for the sensor to check."""

from __future__ import annotations

import json
import random

from airflow_provider_mediquo.api.records import ValidRecord
from airflow_provider_mediquo.api.visibility.fingerprint import make_proof

SIZE = 20


class Sample:
    """SIZE records of a stream of any length, each with the same chance.

    Codes with `/` are only used if there are no others: many servers decode the `%2F` in a path
    before they route it, and then never find the patient.
    """

    def __init__(self, secret_key: str) -> None:
        self._secret_key = secret_key
        self._plain, self._with_slash = _Reservoir(), _Reservoir()

    def consider(self, item: ValidRecord, sent_at: int | None) -> None:
        """Keep an accepted record, or not.

        :param sent_at: see `fingerprint.make_proof`.
        """
        if item.code.startswith("__"):
            return  # frameworks treat such a key specially: XCom cannot store `__classname__`
        (self._with_slash if "/" in item.code else self._plain).consider((item, sent_at))

    def as_dict(self) -> dict[str, str]:
        """Return code -> proof."""
        return {
            item.code: make_proof(json.loads(item.encoded), self._secret_key, sent_at)
            for item, sent_at in self._plain.kept or self._with_slash.kept
        }


class _Reservoir:
    """Reservoir sampling, algorithm R."""

    def __init__(self) -> None:
        self.kept: list[tuple[ValidRecord, int | None]] = []
        self._seen = 0

    def consider(self, item: tuple[ValidRecord, int | None]) -> None:
        self._seen += 1
        index = len(self.kept) if self._seen <= SIZE else random.randrange(self._seen)
        if index < SIZE:
            self.kept[index : index + 1] = [item]
