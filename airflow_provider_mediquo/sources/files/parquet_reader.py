"""Parquet, through pyarrow. https://parquet.apache.org"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from itertools import chain, islice
from typing import Any

from airflow_provider_mediquo.api.errors import InvalidPatientsError, SourceError
from airflow_provider_mediquo.api.patients.limits import MAX_RECORD_BYTES
from airflow_provider_mediquo.api.records import LocatedRecord, SourceLocation
from airflow_provider_mediquo.sources.columns import ColumnMapping
from airflow_provider_mediquo.sources.empty_rows import is_empty
from airflow_provider_mediquo.sources.files.bounded_gzip import FREE, MOST
from airflow_provider_mediquo.sources.files.parquet_footer import encrypted_columns

log = logging.getLogger(__name__)

MAGIC = b"PAR1"

_AT_ONCE = 1000  # rows
MAX_UNPACKED_BYTES = 64 << 20  # of a batch
MAX_LIST_VALUES = 1 << 24  # of the lists in a row group, beyond one a row: a row may hold them all
_BUFFER = 1 << 20  # bytes of each column; without it pyarrow loads a whole row group


def read_parquet(raw: Any, name: str, mapping: ColumnMapping) -> Iterator[LocatedRecord]:
    """Yield each row as a mapping of columns to Python's own values; its line is its number.

    Rows without a value are skipped.

    :param raw: the file, a stream of bytes that can seek.
    :param name: of the file.
    :param mapping: checks the columns, and says which are fields of a patient.
    """
    with _open(raw, name) as file:
        names = file.schema_arrow.names
        mapping.check(names, name)
        if not file.metadata.num_rows:
            log.warning("%s is empty: it has only columns.", name)
        fields = mapping.fields(names)
        columns = [name for name, each in zip(names, fields, strict=True) if each is not None]
        _check_encryption(raw, file, columns, name)
        rows = chain.from_iterable(map(_rows, _batches(raw, file, columns, name)))
        for number, row in enumerate(rows, 1):
            if is_empty(row):
                continue
            yield LocatedRecord(row, SourceLocation(name, number))


def _batches(raw: Any, file: Any, columns: Sequence[str], name: str) -> Iterator[Any]:
    paths = _paths(file)
    with _open(raw, name, read_dictionary=paths) as dictionaries:
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            # Only of the columns that are read: the others may be encrypted.
            chunks = [group.column(at) for at, path in enumerate(paths) if _is_of(path, columns)]
            _check_sizes(chunks, group.num_rows, name)
            longest = _longest(dictionaries, number, chunks) + sum(map(_unknown, chunks))
            at_once = min(max(MAX_UNPACKED_BYTES // max(longest, 1), 1), _AT_ONCE)
            left = group.num_rows
            for batch in file.iter_batches(at_once, [number], columns, use_threads=False):
                left -= batch.num_rows
                yield batch
            if left:  # pyarrow ends with the shortest column
                raise SourceError(
                    f"{name} cannot be read any further:\nit is damaged. A row group has "
                    f"{group.num_rows:,} rows, and {group.num_rows - left:,} can be read."
                )


def _paths(file: Any) -> list[str]:
    return [file.schema.column(at).path for at in range(len(file.schema))]


def _is_of(path: str, columns: Sequence[str]) -> bool:
    return any(f"{path}.".startswith(f"{name}.") for name in columns)


def _check_encryption(raw: Any, file: Any, columns: Sequence[str], name: str) -> None:
    encrypted = encrypted_columns(raw)
    if any(at in encrypted and _is_of(path, columns) for at, path in enumerate(_paths(file))):
        raise InvalidPatientsError(
            f"{name} has encrypted columns.\nThey cannot be read: export it without encryption, or "
            "drop them with None in `columns`."
        )


def _check_sizes(chunks: Sequence[Any], rows: int, name: str) -> None:
    """Raise SourceError for a row group that is too large: pages are decompressed whole."""
    unpacked = sum(chunk.total_uncompressed_size for chunk in chunks)
    packed = sum(chunk.total_compressed_size for chunk in chunks)
    values = sum(max(0, chunk.num_values - rows) for chunk in chunks)
    problem = ""
    if unpacked > max(MAX_UNPACKED_BYTES, MAX_RECORD_BYTES * rows):
        problem = "its rows take more than 64 KiB each, unpacked"
    elif unpacked > max(FREE, MOST * packed):
        problem = f"it holds more than {MOST} times its own size"
    elif values > MAX_LIST_VALUES:
        problem = "lists in it hold more than 16 million values in one row group"
    if problem:
        raise SourceError(f"{name} cannot be read (any further):\n{problem}.")


def _longest(dictionaries: Any, group: int, chunks: Iterable[Any]) -> int:
    """Return the bytes of a row that has the longest text of each dictionary.

    A dictionary stores each value once, however many rows have it: 5 KB of file can be 10 GB. A
    file need not say which columns have a dictionary.
    """
    paths = [chunk.path_in_schema for chunk in chunks if _may_have_dictionary(chunk)]
    batches = dictionaries.iter_batches(1, [group], paths, use_threads=False) if paths else iter(())
    return sum(sum(map(_longest_of, batch.columns)) for batch in islice(batches, 1))


def _may_have_dictionary(chunk: Any) -> bool:
    return not _unknown(chunk) and "DELTA_LENGTH_BYTE_ARRAY" not in chunk.encodings


def _longest_of(array: Any) -> int:
    types, compute = import_module("pyarrow").types, import_module("pyarrow.compute")
    kind = array.type
    if types.is_dictionary(kind):
        return compute.max(compute.binary_length(array.dictionary)).as_py() or 0
    if types.is_struct(kind):
        return sum(map(_longest_of, array.flatten()))
    if types.is_map(kind):
        return _longest_of(array.keys) + _longest_of(array.items)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _longest_of(array.values)
    return int(kind.byte_width) if types.is_fixed_size_binary(kind) else 0


def _unknown(chunk: Any) -> int:
    """Return the most bytes that a value may have, if its length cannot be looked up.

    Such a value shares a prefix with the one before it, or pyarrow cannot read its dictionary.
    """
    encodings = {*chunk.encodings}
    has_both = "DELTA_LENGTH_BYTE_ARRAY" in encodings and any("DICTIONARY" in e for e in encodings)
    is_unknown = has_both or "DELTA_BYTE_ARRAY" in encodings
    return int(chunk.total_uncompressed_size) if is_unknown else 0


def _rows(batch: Any) -> list[Any]:
    plain = _with_texts(_without_nanoseconds(batch))
    try:
        return _values(plain)
    except Exception:  # noqa: BLE001  # one row has invalid text, or a day after the year 9999
        return [_row(plain.slice(number, 1)) for number in range(plain.num_rows)]


def _row(batch: Any) -> dict[str, Any]:
    return {name: _cell(batch.select([at])) for at, name in enumerate(batch.schema.names)}


def _cell(batch: Any) -> Any:
    try:
        return next(iter(_values(batch)[0].values()))
    except Exception:  # noqa: BLE001  # as above
        return ...  # which is no value of any field: the field's rule rejects it


def _values(batch: Any) -> list[dict[str, Any]]:
    # Only if there is a map, because this makes reading six times slower.
    maps = "strict" if any("map<" in str(field.type) for field in batch.schema) else None
    rows: list[dict[str, Any]] = batch.to_pylist(maps_as_pydicts=maps)
    return rows


def _without_nanoseconds(batch: Any) -> Any:
    """Round times to microseconds, as in Python; nanoseconds would need pandas."""
    arrow = import_module("pyarrow")
    for at, field in enumerate(batch.schema):
        if arrow.types.is_timestamp(field.type) and field.type.unit == "ns":
            kind = arrow.timestamp("us", field.type.tz)
            batch = batch.set_column(at, field.name, batch.column(at).cast(kind, safe=False))
    return batch


def _with_texts(batch: Any) -> Any:
    """Read bytes as text, because Impala and others write it so; invalid text fails later."""
    types = import_module("pyarrow").types
    for at, field in enumerate(batch.schema):
        column = batch.column(at)
        if types.is_dictionary(field.type):
            values = field.type.value_type
            column = column if _text_type(values) == values else column.dictionary_decode()
        kind = _text_type(column.type)
        if kind != column.type:
            batch = batch.set_column(at, field.name, column.view(kind))
    return batch


def _text_type(kind: Any) -> Any:
    """Return a type with text for bytes, also inside lists, structs and maps."""
    arrow = import_module("pyarrow")
    types = arrow.types
    if types.is_struct(kind):
        return arrow.struct([each.with_type(_text_type(each.type)) for each in kind])
    if types.is_map(kind):
        return arrow.map_(_text_type(kind.key_type), _text_type(kind.item_type))
    if types.is_list(kind) or types.is_large_list(kind):
        make = arrow.list_ if types.is_list(kind) else arrow.large_list
        return make(kind.value_field.with_type(_text_type(kind.value_type)))
    texts = {
        arrow.binary(): arrow.string(),
        arrow.large_binary(): arrow.large_string(),
        arrow.binary_view(): arrow.string_view(),
    }
    return texts.get(kind, kind)


def _open(raw: Any, name: str, **options: Any) -> Any:
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError as error:
        raise SourceError(
            f"{name} is Parquet, which needs pyarrow:\n"
            "pip install 'airflow-provider-mediquo[parquet]'."
        ) from error
    return parquet.ParquetFile(
        raw,
        buffer_size=_BUFFER,
        pre_buffer=False,
        page_checksum_verification=True,
        coerce_int96_timestamp_unit="us",  # Spark's times: nanoseconds end in the year 2262
        **options,
    )
