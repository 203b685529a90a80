"""A report of JSON Lines; what cannot be written to it is logged instead."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from airflow_provider_mediquo.api.upload.reject_files import RejectFile

log = logging.getLogger(__name__)

Line = Mapping[str, Any]
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class LineWriter:
    """Writes lines down, from any number of threads; in an object store a little later.

    :param file: None: all lines are logged.
    :param log_lines: logs what is not in the file.
    """

    def __init__(
        self, file: RejectFile | None, log_lines: Callable[[Sequence[Line]], None]
    ) -> None:
        self.written_to: str | None = None
        """The file, if anything is in it."""
        self.unwritten = 0
        """Lines that the file did not take."""
        self._file = file
        self._has_file = file is not None
        self._log_lines = log_lines
        self._waiting: list[Line] = []  # for the next write
        self._lock = threading.Lock()
        self._writing = threading.Lock()  # a slow store does not block those that only add

    def add(self, lines: Iterable[Line]) -> None:
        """Write lines down, or keep them for the next write."""
        with self._lock:
            self._waiting += lines
            file = self._file  # once: another thread may find that it cannot be written
            is_due = not file or len(self._waiting) >= file.lines_at_once
        if is_due:
            self.flush()

    def flush(self) -> None:
        """Write down what is waiting."""
        with self._writing:
            with self._lock:
                lines, self._waiting = self._waiting, []
            if lines and not (self._file and self._is_written(self._file, lines)):
                self.unwritten += len(lines) if self._has_file else 0
                self._log_lines(lines)

    def _is_written(self, file: RejectFile, lines: Sequence[Line]) -> bool:
        try:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
        except Exception as error:  # noqa: BLE001  # each store has errors of its own
            log.error("Cannot write %s (%s): its lines are logged instead.", file.path, _why(error))
            self._file = None
            return False
        self.written_to = str(file.path)
        return True


def _why(error: Exception) -> str:
    code = error.errno if isinstance(error, OSError) else None
    if code is None:  # its text is the store's own
        return type(error).__name__
    return f"{'disk full' if code in _FULL else type(error).__name__}: {os.strerror(code)}"
