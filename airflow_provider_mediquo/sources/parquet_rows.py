"""Parquet, through pyarrow. https://parquet.apache.org"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from airflow_provider_mediquo.api.errors import SourceError
from airflow_provider_mediquo.api.header import Header
from airflow_provider_mediquo.api.placed import Place, Placed, Unreadable

MAGIC = b"PAR1"

_AT_ONCE = 1000  # rows
_BUFFER = 1 << 20  # bytes of each column; without it pyarrow takes in a whole row group


def read_parquet(raw: Any, name: str, header: Header) -> Iterator[Placed]:
    """Yield each row as a mapping of columns to Python's own values; its line is its number.

    :param raw: the file, a stream of bytes that can seek.
    :param name: of the file.
    :param header: checks the columns, and says which are fields of a patient.
    """
    with _open(raw, name) as file:
        names = file.schema_arrow.names
        header.check(names, name)
        wanted = [name for name, field in zip(names, header.fields(names), strict=True) if field]
        batches = file.iter_batches(_AT_ONCE, columns=wanted, use_threads=False)
        rows = (row for batch in batches for row in _rows(batch))
        for number, row in enumerate(rows, 1):
            yield Placed(row, Place(name, number))


def _rows(batch: Any) -> list[Any]:
    plain = _without_nanoseconds(batch)
    try:
        return _values(plain)
    except Exception:  # noqa: BLE001  # text that is none, a day after the year 9999: of one row
        return [_row(plain.slice(number, 1)) for number in range(plain.num_rows)]


def _row(batch: Any) -> Any:
    try:
        return _values(batch)[0]
    except Exception:  # noqa: BLE001  # as above
        return Unreadable("record")


def _values(batch: Any) -> list[dict[str, Any]]:
    # Only where there is a map, because this makes all of it six times slower.
    maps = "strict" if any("map<" in str(field.type) for field in batch.schema) else None
    rows: list[dict[str, Any]] = batch.to_pylist(maps_as_pydicts=maps)
    return rows


def _without_nanoseconds(batch: Any) -> Any:
    """Round times to what Python's own can hold; others would need pandas."""
    arrow = import_module("pyarrow")
    for at, field in enumerate(batch.schema):
        if arrow.types.is_timestamp(field.type) and field.type.unit == "ns":
            kind = arrow.timestamp("us", field.type.tz)
            batch = batch.set_column(at, field.name, batch.column(at).cast(kind, safe=False))
    return batch


def _open(raw: Any, name: str) -> Any:
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError as error:
        raise SourceError(
            f"{name} is Parquet, which needs pyarrow: "
            "pip install 'airflow-provider-mediquo[parquet]'."
        ) from error
    return parquet.ParquetFile(
        raw,
        buffer_size=_BUFFER,
        pre_buffer=False,
        coerce_int96_timestamp_unit="us",  # Spark's times: nanoseconds end in the year 2262
    )
