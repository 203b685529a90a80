"""Finds the encrypted columns of a Parquet file: reading one in pyarrow aborts the process.

https://github.com/apache/parquet-format: a footer is a struct in Thrift's compact protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_ROW_GROUPS, _COLUMNS, _CRYPTO_METADATA = 4, 1, 8  # of FileMetaData, RowGroup, ColumnChunk
_BOOLEANS, _BYTE, _INTEGERS, _BINARY, _LISTS, _STRUCT = (1, 2), 3, (4, 5, 6), 8, (9, 10), 12
_SIZES = {_BYTE: 1, 7: 8}  # in bytes; 7 is a double
_TAIL = 8  # bytes: the size of the footer, and the magic


def encrypted_columns(raw: Any) -> set[int]:
    """Return the numbers of the columns that are encrypted in any row group.

    :param raw: the file, a stream of bytes that can seek.
    """
    raw.seek(-_TAIL, 2)
    size = int.from_bytes(raw.read(4), "little")
    raw.seek(-_TAIL - size, 2)
    footer = _Thrift(raw.read(size))
    found: set[int] = set()
    for field, kind in footer.fields():
        if field != _ROW_GROUPS:
            footer.value(kind)
            continue
        for group in footer.values():
            chunks = enumerate(group.get(_COLUMNS) or ())
            found |= {number for number, chunk in chunks if _CRYPTO_METADATA in chunk}
    return found


class _Thrift:
    """Reads structs as field -> value; plain values are read as None."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def fields(self) -> Iterator[tuple[int, int]]:
        """Yield number and kind of each field of a struct; its value must be read then."""
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer() // 2
            yield number, head & 15

    def values(self) -> Iterator[Any]:
        """Yield the values of a list."""
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._integer()
        kind = head & 15
        for _ in range(count):
            yield self.value(_BYTE if kind in _BOOLEANS else kind)

    def value(self, kind: int) -> Any:
        """Return a value."""
        if kind == _STRUCT:
            return {number: self.value(of) for number, of in self.fields()}
        if kind in _LISTS:
            return [*self.values()]
        if kind in _INTEGERS:
            self._integer()
        elif kind == _BINARY:
            size = self._integer()
            self._at += size
        elif kind in _SIZES:
            self._at += _SIZES[kind]
        elif kind not in _BOOLEANS:  # whose kind is their value
            raise ValueError
        return None

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _integer(self) -> int:
        value = shift = 0
        while (byte := self._byte()) > 127:
            value |= (byte & 127) << shift
            shift += 7
        return value | byte << shift
