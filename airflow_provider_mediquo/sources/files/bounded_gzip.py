"""Decompresses gzip, and stops at decompression bombs: ten megabytes can hold ten gigabytes."""

from __future__ import annotations

import gzip
import io
from typing import Any

from airflow_provider_mediquo.api.errors import SourceError

FREE = 16 << 20  # bytes that are always read; even blank lines take seconds
MOST = 500  # times the compressed size. Patients reach 5 to 50, the format allows 1,030


class Unpacked(io.RawIOBase):
    """The bytes in a gzip stream; raises SourceError once they are far too many for its size.

    :param name: of the file.
    """

    def __init__(self, packed: io.BufferedReader[Any], name: str) -> None:
        self._packed = _Counted(packed)
        self._file = gzip.GzipFile(fileobj=self._packed, mode="rb")  # type: ignore[call-overload]  # wants more than it uses
        self._name = name
        self._count = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read a block into the buffer; return its size in bytes."""
        count: int = self._file.readinto(buffer)
        self._count += count
        if self._count > max(FREE, MOST * self._packed.count):
            raise SourceError(
                f"{self._name} cannot be read any further:\nit is gzip and holds more than "
                f"{MOST} times its own size, which no list of patients does. The lines so far were "
                "read. If it is blanks, write them without padding, or deliver the file uncompressed."
            )
        return count

    def close(self) -> None:
        """Close what unpacks it."""
        self._file.close()
        super().close()


class _Counted:
    def __init__(self, file: io.BufferedReader[Any]) -> None:
        self.count = 0
        self._file = file

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self.count += len(block)
        return block
