"""JSON Lines: one object per line, or several. https://jsonlines.org"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

from airflow_provider_mediquo.api.errors import InvalidPatientsError
from airflow_provider_mediquo.api.records import LocatedRecord, SourceLocation, Unreadable
from airflow_provider_mediquo.sources.empty_rows import is_empty
from airflow_provider_mediquo.sources.files.bounded_lines import MAX_LINE
from airflow_provider_mediquo.sources.json_objects import each_key_once

_BLANK = re.compile(r"[\s\x1a\ufeff]*")  # Ctrl-Z of DOS, byte order marks of concatenated files
_COMMA = re.compile(r"\s*,\s*(?:\{|$)")
_NEXT = re.compile(r'\}\s*(?=\{\s*")')  # in a text of JSON, this quote would end the text
_OVERLAP = 100  # characters in which the end of an object and the beginning of the next are found


def read_json_lines(text: TextIO, name: str) -> Iterator[LocatedRecord]:
    """Yield each object with its line; anything else is Unreadable, and the next object is found.

    Objects without a value are skipped. Raises InvalidPatientsError if there are commas between the objects.

    :param name: of the file.
    """
    objects = _Objects(name)
    number = 1
    while piece := text.readline(MAX_LINE):
        is_end = piece.endswith("\n")
        for record in objects.add(piece, is_end=is_end):
            if not is_empty(record):
                yield LocatedRecord(record, SourceLocation(name, number))
        number += is_end
    for record in objects.add("", is_end=True):
        if not is_empty(record):
            yield LocatedRecord(record, SourceLocation(name, number))


class _Objects:
    """Extracts the objects from a text that comes in pieces.

    :param name: of the file, for the error.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._rest = ""  # of the pieces before: not a whole object yet
        self._is_lost = False  # in the middle of one that was rejected
        self._is_found = False  # at the first object after it, which may be a part of it

    def add(self, piece: str, *, is_end: bool) -> Iterator[Any]:
        """Yield each object that is whole now, and Unreadable once for anything else.

        :param is_end: of a line, with which each object ends.
        """
        text, self._rest = self._rest + piece, ""
        at = _blank_end(text, 0)
        while at < len(text):
            if self._is_lost:
                at = self._next_object(text, at)
                continue
            start, may_wait = at, not is_end and len(text) - at < MAX_LINE
            try:
                record, at = _object(text, at)
            except (TypeError, ValueError, RecursionError):
                if may_wait:
                    self._rest = text[at:]
                    return
                self._is_lost = True
                yield Unreadable("record")
                continue
            after = _blank_end(text, at)
            if self._is_found and after == len(text) and may_wait:
                self._rest = text[start:]
                return
            self._is_lost = self._is_found and text[after : after + 1] not in ("", "{")
            self._is_found = False
            if not self._is_lost:
                yield record
                self._refuse_comma(text, at)
            at = after
        self._rest = text[-_OVERLAP:] if self._is_lost and not is_end else ""
        self._is_lost &= not is_end

    def _next_object(self, text: str, at: int) -> int:
        found = _NEXT.search(text, at)
        self._is_lost, self._is_found = not found, bool(found)
        return found.end() if found else len(text)

    def _refuse_comma(self, text: str, at: int) -> None:
        if _COMMA.match(text, at):
            raise InvalidPatientsError(
                f"{self._name} has commas between its JSON objects.\nWrite one object per line, "
                "without commas: JSON Lines."
            )


def _blank_end(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _object(text: str, at: int) -> tuple[dict[str, Any], int]:
    record, end = _decode(text, at)
    if not isinstance(record, dict):
        raise TypeError
    return record, end


_decode = json.JSONDecoder(object_pairs_hook=each_key_once).raw_decode
