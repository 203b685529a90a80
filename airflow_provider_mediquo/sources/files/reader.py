"""Reads files; the format is detected from the first bytes, because a name may be wrong."""

from __future__ import annotations

import codecs
import io
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from airflow_provider_mediquo.api.errors import InvalidPatientsError, MediquoError, SourceError
from airflow_provider_mediquo.api.patients.schema import REQUIRED
from airflow_provider_mediquo.api.records import (
    EmptyPart,
    LocatedRecord,
    SourceLocation,
    Unreadable,
)
from airflow_provider_mediquo.api.text import escaped
from airflow_provider_mediquo.sources.columns import ColumnMapping
from airflow_provider_mediquo.sources.files.bounded_gzip import Unpacked
from airflow_provider_mediquo.sources.files.csv_reader import read_csv
from airflow_provider_mediquo.sources.files.discovery import StoredFile, find_files
from airflow_provider_mediquo.sources.files.formats import is_markup, unreadable_format
from airflow_provider_mediquo.sources.files.json_lines import read_json_lines
from airflow_provider_mediquo.sources.files.names import is_glob
from airflow_provider_mediquo.sources.files.parquet_reader import MAGIC as PARQUET
from airflow_provider_mediquo.sources.files.parquet_reader import read_parquet
from airflow_provider_mediquo.sources.files.tables import FolderColumns, folder_values

log = logging.getLogger(__name__)

_AT_ONCE = 1 << 16  # bytes
_HEAD = 4096  # bytes
_GZIP = b"\x1f\x8b"
_MARKS = {
    # Before UTF-16, because this mark begins with that of UTF-16.
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
_WIDE = ("utf-16", "utf-32")
_JSON_ARRAY = re.compile(r"\[\s*[{\[\]]")
_JSON = re.compile(r"(?:(?://[^\n]*|null[ \t\r]*)\n\s*)*\{")
_JSON_LINE_BREAK = re.compile(r"\{[^\n]*(?<=[{\[])[ \t\r]*\n")
_SCALARS = r'(?:\s*"[^"]*"\s*:\s*[^\s,{\[]+\s*,)*\s*"[^"]*"\s*:\s*'
_JSON_ENVELOPE = re.compile(rf"\{{{_SCALARS}(?:\{{{_SCALARS})?\[\s*\{{")


@dataclass(frozen=True)
class FileReadOptions:
    """How files are read. Raises ValueError if an option is invalid.

    :param mapping: checks the columns, and says which are fields of a patient.
    :param encoding: of text without a byte order mark.
    :param delimiter: of CSV; None: the one that fits the header.
    """

    mapping: ColumnMapping
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


def read_files(path: str, conn_id: str | None, options: FileReadOptions) -> Iterator[LocatedRecord]:
    """Yield the records of the files of a path, one file after the other.

    An EmptyPart stands for a file of text without a record. Parquet without rows yields nothing: it
    has its footer, so its export did not fail.
    """
    files = find_files(path, conn_id, options.mapping.is_read)
    for number, file in enumerate(files, 1):
        problem = ""
        try:
            yield from read_file(file, options, f"file {number:,} of {len(files):,}")
        except InvalidPatientsError as error:
            problem = f"{error}{_advice(file, files, path)}"
        if problem:
            raise InvalidPatientsError(problem)


def _advice(file: StoredFile, files: Sequence[StoredFile], path: str) -> str:
    """Say how to leave a file out, if its extension differs from that of the others."""
    own = PurePosixPath(file.key).suffix
    others = Counter(PurePosixPath(each.key).suffix for each in files)
    best = next((suffix for suffix, _ in others.most_common() if suffix not in ("", own)), "")
    if not best:
        return ""
    before = re.split(r"[*?\[]", path)[0].rpartition("/")[0]
    folder = before if is_glob(path) else path.rstrip("/")
    return f"\nIf it holds no members, leave it out with a glob: {escaped(folder)}/**/*{best}"


def read_file(file: StoredFile, options: FileReadOptions, which: str) -> Iterator[LocatedRecord]:
    """Yield the records of a file, with the values in the names of its folders.

    :param which: its number, because files in several folders may have the same name.

    Raises InvalidPatientsError for a file that holds no patients, SourceError for one that cannot
    be read to its end.
    """
    failure = ""
    values = folder_values(file.key)
    is_read = options.mapping.is_read
    name = file.shown(is_read)
    read = [*filter(is_read, values)]
    if read:
        name = f"{name} ({which})"
    log.info("Reading %s", name)
    if values:
        options = replace(options, mapping=FolderColumns(options.mapping, values))
    try:
        with file.open() as raw:
            records = _records(raw, name, options)
            both = map(partial(_with_values, values, read), records)
            yield from both if values else records
    except MediquoError:
        raise
    except Exception as error:  # noqa: BLE001  # each storage has its own errors
        failure = type(error).__name__
    if failure:  # outside the `except`, because such an error may hold what was read
        raise SourceError(f"{name} cannot be read (any further):\n{failure}.")


def _with_values(
    values: Mapping[str, str | None], read: Sequence[str], located: LocatedRecord
) -> LocatedRecord:
    record, location = located
    if not isinstance(record, dict):
        return located
    both = {**values, **record}
    is_clear = all(_is_same(both[name], values[name]) for name in read)
    return LocatedRecord(both if is_clear else Unreadable("record"), location)


def _is_same(value: Any, folders: str | None) -> bool:
    if isinstance(value, str | None) or folders is None:
        return bool(value == folders)
    return str(value).lower() == folders.lower()  # 2024, true


def _records(raw: Any, name: str, options: FileReadOptions) -> Iterator[LocatedRecord]:
    with io.BufferedReader(raw, _AT_ONCE) as stream:
        if not _head(stream).startswith(_GZIP):
            yield from _plain_records(stream, raw, name, options)
            return
        with io.BufferedReader(Unpacked(stream, name), _AT_ONCE) as unpacked:
            if _head(unpacked).startswith((PARQUET, _GZIP)):
                raise _no_records(name, "compressed twice.\nParquet and gzip need no other gzip")
            yield from _plain_records(unpacked, raw, name, options)


def _plain_records(
    stream: io.BufferedReader[Any], raw: Any, name: str, options: FileReadOptions
) -> Iterator[LocatedRecord]:
    head = _head(stream)
    if what := unreadable_format(head):
        raise _no_records(name, what)
    if head.startswith(PARQUET):
        yield from read_parquet(raw, name, options.mapping)
        return
    records = _text_records(stream, head, name, options)
    # Only the first is looked at: the others cost nothing more.
    yield next(records, LocatedRecord(EmptyPart(name), SourceLocation(name, 1)))
    yield from records


def _text_records(
    stream: io.BufferedReader[Any], head: bytes, name: str, options: FileReadOptions
) -> Iterator[LocatedRecord]:
    encoding = _encoding(head, name, options.encoding)
    begin = head.decode(encoding, "replace").lstrip()
    if is_markup(begin):
        raise _no_records(name, "HTML or XML")
    if _JSON_ARRAY.match(begin):
        raise _no_records(name, "a JSON array.\nWrite one object per line instead: JSON Lines")
    is_json = bool(_JSON.match(begin))
    if is_json and _JSON_LINE_BREAK.match(begin):
        raise _no_records(name, "JSON with line breaks in its objects.\nWrite one object per line")
    newline = "\n" if is_json else ""  # csv needs the line ends
    # Bytes that do not fit the encoding reject their record, and no other.
    errors = (
        "surrogatepass" if codecs.lookup(encoding).name.startswith(_WIDE) else "surrogateescape"
    )
    with io.TextIOWrapper(stream, encoding, errors, newline) as text:
        if is_json:
            records = read_json_lines(text, name)
            for first in records:
                _refuse_envelope(first.record, begin, name, options.mapping)
                yield first
                break  # the others cost nothing more
            yield from records
        else:
            yield from read_csv(text, name, options.mapping, options.delimiter)


def _encoding(head: bytes, name: str, said: str) -> str:
    """Return the encoding of a text: its mark counts more than what the user said."""
    if found := next((each for mark, each in _MARKS.items() if head.startswith(mark)), ""):
        return found
    if head and (wide := codecs.lookup(said).name) in _WIDE:
        raise InvalidPatientsError(
            f"{name} has no byte order mark.\nSet `encoding` to {wide}-le or {wide}-be, or to another "
            f"one if it is no {wide}."
        )
    return said


def _refuse_envelope(record: Any, begin: str, name: str, mapping: ColumnMapping) -> None:
    """Raise InvalidPatientsError if the first object of a file is around all records.

    :param begin: of the file; an object may be too long to be read.
    """
    fields = [*record] if isinstance(record, dict) else []
    if fields and mapping.is_transformed:
        return
    if _JSON_ENVELOPE.match(begin) and not {*mapping.fields(fields)} >= REQUIRED:
        raise _no_records(name, "a JSON object around a list.\nWrite one object per line")
    if fields and all(isinstance(value, dict | list) for value in record.values()):
        raise _no_records(name, "a JSON object of all records.\nWrite one object per line")


def _head(stream: io.BufferedReader[Any]) -> bytes:
    return stream.peek(_HEAD)[:_HEAD]


def _no_records(name: str, what: str) -> InvalidPatientsError:
    return InvalidPatientsError(
        f"{name} is {what}.\nSupported: CSV and JSON Lines (plain or gzip), and Parquet."
    )
