"""Objects of JSON in which each key is given once."""

from __future__ import annotations

from typing import Any

from airflow_provider_mediquo.api.records import Unreadable

_TWICE = Unreadable("object")


def each_key_once(pairs: list[tuple[str, Any]]) -> Any:
    """Return an object; for one with a key twice, what is no value of any field.

    Which of both values counts, would be a guess.
    """
    found = dict(pairs)
    return found if len(found) == len(pairs) else _TWICE
