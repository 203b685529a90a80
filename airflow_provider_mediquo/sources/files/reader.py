"""What a file is, seen from its first bytes; a name may lie."""

from __future__ import annotations

import codecs
import io
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from airflow_provider_mediquo.api.errors import InvalidPatientsError, MediquoError, SourceError
from airflow_provider_mediquo.api.records import LocatedRecord
from airflow_provider_mediquo.sources.columns import ColumnMapping
from airflow_provider_mediquo.sources.files.bounded_gzip import Unpacked
from airflow_provider_mediquo.sources.files.csv_reader import read_csv
from airflow_provider_mediquo.sources.files.discovery import StoredFile, find_files
from airflow_provider_mediquo.sources.files.json_lines import read_json_lines
from airflow_provider_mediquo.sources.files.parquet_reader import MAGIC as PARQUET
from airflow_provider_mediquo.sources.files.parquet_reader import read_parquet

log = logging.getLogger(__name__)

_AT_ONCE = 1 << 16  # bytes
_HEAD = 4096  # bytes
_GZIP = b"\x1f\x8b"
_REFUSED = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard",
}
_MARKS = {
    # Before UTF-16, whose mark this one begins with.
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
_JSON_ARRAY = re.compile(r"\[\s*[{\]]")


@dataclass(frozen=True)
class FileReadOptions:
    """How files are read. Raises ValueError for what makes no sense.

    :param header: checks the columns, and says which are fields of a patient.
    :param encoding: of text without a byte order mark.
    :param delimiter: of CSV; None: the one that fits the header.
    """

    header: ColumnMapping
    encoding: str = "utf-8"
    delimiter: str | None = None

    def __post_init__(self) -> None:
        try:
            "".encode(self.encoding)
        except (LookupError, TypeError, ValueError):
            raise ValueError(f"`encoding`: Python knows no {self.encoding!r}") from None
        delimiter = self.delimiter
        is_one = isinstance(delimiter, str) and re.fullmatch(r'[^"\r\n]', delimiter)
        if delimiter is not None and not is_one:
            raise ValueError("`delimiter` must be one character, such as ';' or '\\t'")


def read_files(path: str, conn_id: str | None, reading: FileReadOptions) -> Iterator[LocatedRecord]:
    """Yield the records of the files that a path means, one file after the other."""
    for file in find_files(path, conn_id):
        log.info("Reading %s", file.name)
        yield from read_file(file, reading)


def read_file(file: StoredFile, reading: FileReadOptions) -> Iterator[LocatedRecord]:
    """Yield the records of a file.

    Raises InvalidPatientsError for a file that holds no records of patients, SourceError for one
    that cannot be read to its end.
    """
    failure = ""
    try:
        with file.open() as raw:
            yield from _records(raw, file.name, reading)
    except MediquoError:
        raise
    except Exception as error:  # noqa: BLE001  # each storage has errors of its own
        failure = type(error).__name__
    if failure:  # out here, because such an error may hold what was read
        raise SourceError(f"{file.name} cannot be read (any further): {failure}.")


def _records(raw: Any, name: str, reading: FileReadOptions) -> Iterator[LocatedRecord]:
    with io.BufferedReader(raw, _AT_ONCE) as stream:
        if not _head(stream).startswith(_GZIP):
            yield from _plain_records(stream, raw, name, reading)
            return
        with io.BufferedReader(Unpacked(stream, name), _AT_ONCE) as unpacked:
            if _head(unpacked).startswith((PARQUET, _GZIP)):
                raise _no_records(name, "compressed twice: Parquet and gzip need no other gzip")
            yield from _plain_records(unpacked, raw, name, reading)


def _plain_records(
    stream: io.BufferedReader[Any], raw: Any, name: str, reading: FileReadOptions
) -> Iterator[LocatedRecord]:
    head = _head(stream)
    for magic, what in _REFUSED.items():
        if head.startswith(magic):
            raise _no_records(name, what)
    if not head:
        log.warning("%s is empty.", name)
    elif head.startswith(PARQUET):
        yield from read_parquet(raw, name, reading.header)
    else:
        yield from _text_records(stream, head, name, reading)


def _text_records(
    stream: io.BufferedReader[Any], head: bytes, name: str, reading: FileReadOptions
) -> Iterator[LocatedRecord]:
    marked = (encoding for mark, encoding in _MARKS.items() if head.startswith(mark))
    encoding = next(marked, reading.encoding)
    begin = head.decode(encoding, "replace").lstrip()
    if _JSON_ARRAY.match(begin):
        raise _no_records(name, "a JSON array. Write one object a line instead: JSON lines")
    is_json = begin.startswith("{")
    newline = "\n" if is_json else ""  # csv wants to see what ends a line
    # Bytes that are not of this encoding make their record fail, and no other.
    with io.TextIOWrapper(stream, encoding, "surrogateescape", newline) as text:
        if is_json:
            yield from read_json_lines(text, name)
        else:
            yield from read_csv(text, name, reading.header, reading.delimiter)


def _head(stream: io.BufferedReader[Any]) -> bytes:
    return stream.peek(_HEAD)[:_HEAD]


def _no_records(name: str, what: str) -> InvalidPatientsError:
    return InvalidPatientsError(
        f"{name} is {what}. What can be read: CSV and JSON lines, plain or gzip, and Parquet."
    )
