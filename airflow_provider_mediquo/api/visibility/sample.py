"""A random sample of the accepted records, for the sensor to check."""

from __future__ import annotations

import json
import random
from typing import Generic, TypeVar

from airflow_provider_mediquo.api.records import ValidRecord
from airflow_provider_mediquo.api.visibility.fingerprint import make_proof

SIZE = 20

Item = TypeVar("Item")


class Sample:
    """SIZE accepted records, for the sensor."""

    def __init__(self, secret_key: str) -> None:
        self._secret_key = secret_key
        self._chosen = RandomSample[tuple[ValidRecord, int | None]](SIZE)

    def consider(self, item: ValidRecord, sent_at: int | None) -> None:
        """Keep an accepted record, or not.

        :param sent_at: see `fingerprint.make_proof`.
        """
        if item.code.startswith("__"):
            return  # frameworks treat such a key specially: XCom cannot store `__classname__`
        self._chosen.consider(item.code, (item, sent_at))

    def as_dict(self) -> dict[str, str]:
        """Return code -> proof."""
        return {
            item.code: make_proof(json.loads(item.encoded), self._secret_key, sent_at)
            for item, sent_at in self._chosen.kept
        }


class RandomSample(Generic[Item]):
    """At most `size` items of a stream of any length, each with the same chance.

    Items whose code has a `/` are only used if there are no others: many servers decode the `%2F` in
    a path before they route it, and then never find the patient.
    """

    def __init__(self, size: int) -> None:
        self._plain, self._with_slash = _Reservoir[Item](size), _Reservoir[Item](size)

    def consider(self, code: str, item: Item) -> None:
        """Keep an item, or not."""
        (self._with_slash if "/" in code else self._plain).consider(item)

    @property
    def kept(self) -> list[Item]:
        return self._plain.kept or self._with_slash.kept


class _Reservoir(Generic[Item]):
    """Reservoir sampling, algorithm R."""

    def __init__(self, size: int) -> None:
        self.kept: list[Item] = []
        self._size = size
        self._seen = 0

    def consider(self, item: Item) -> None:
        self._seen += 1
        index = len(self.kept) if self._seen <= self._size else random.randrange(self._seen)
        if index < self._size:
            self.kept[index : index + 1] = [item]
