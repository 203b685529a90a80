"""JSON lines: an object a line. https://jsonlines.org"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

from airflow_provider_mediquo.api.records import LocatedRecord, SourceLocation, Unreadable
from airflow_provider_mediquo.sources.files.bounded_lines import Lines


def read_json_lines(text: TextIO, name: str) -> Iterator[LocatedRecord]:
    """Yield the object of each line; a line that is none spoils no other.

    :param name: of the file.
    """
    for number, line in enumerate(Lines(text), 1):
        if line is None or not line.isspace():
            yield LocatedRecord(_object(line), SourceLocation(name, number))


def _object(line: str | None) -> Any:
    try:
        record = _decode(line or "")
    except (ValueError, RecursionError):
        return Unreadable("record")
    return record if isinstance(record, dict) else Unreadable("record")


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object with a key twice: which of both values counts, would be a guess."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


_decode = json.JSONDecoder(object_pairs_hook=_each_key_once).decode
