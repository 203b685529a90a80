"""The files that reject reports are written to; what they do not take is logged instead."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

from airflow_provider_mediquo.api import bounded
from airflow_provider_mediquo.api.errors import MediquoError
from airflow_provider_mediquo.api.text import shown

log = logging.getLogger(__name__)

Line = Mapping[str, Any]
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_STORE_TIMEOUT = 60.0  # seconds, to write a part
_SHUTDOWN_GRACE = 3.0  # seconds, once the task is being killed
MAX_NAME_BYTES = 200  # of a file name; file systems take 255
NO_NAME = re.compile(r"[\x00-\x1f\x7f/\\]|^\.{1,2}$")


class RejectFile(ABC):
    """Where lines are added; append-only.

    :param path: of the file.
    """

    lines_at_once = 1

    def __init__(self, path: Any) -> None:
        self.path = path
        self.is_hurried = False
        """Set when the task is being killed: a plain flag, because a signal handler sets it."""

    @abstractmethod
    def check(self) -> None:
        """Raise MediquoError if it is certain that nothing can be written."""

    @abstractmethod
    def write(self, lines: str) -> None:
        """Add lines."""

    def _bounded(self, act: Callable[[], object]) -> None:
        """Call it in a thread that is abandoned if it takes too long: any storage may hang."""
        bounded.call(
            act,
            "mediquo-store",
            lambda: _SHUTDOWN_GRACE if self.is_hurried else _STORE_TIMEOUT,
        )


class LocalFile(RejectFile):
    """A file on the worker's disk; its folders are created with the first line."""

    path: Path

    def check(self) -> None:
        """Look at the folder, or at the first one above it that exists."""
        problem = ""
        try:
            self._bounded(self._look)
        except TimeoutError:
            problem = " (no answer)"
        except OSError as error:  # a folder above it may not be searched
            problem = f" ({_why(error)})"
        if problem:
            raise _not_writable(self.path.parent, problem)

    def _look(self) -> None:
        there = next(folder for folder in self.path.absolute().parents if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise _not_writable(there)

    def write(self, lines: str) -> None:
        """Append them."""
        self._bounded(partial(self._append, lines))

    def _append(self, lines: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        size = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(lines)
        except OSError:
            with suppress(OSError):  # a full disk takes part of a line
                os.truncate(self.path, size)
            raise


class StoredParts(RejectFile):
    """A folder of an object store, which cannot append: each write is an object of its own."""

    lines_at_once = 1000

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        # Unique names, so no existence check is needed.
        self._names = (f"part-{uuid4().hex[:8]}-{number:05}.jsonl" for number in count(1))

    def check(self) -> None:
        """Ask the store; a folder that may not be listed may still be writable."""
        problem = None
        try:
            self._bounded(self.path.exists)
        except PermissionError:
            pass
        except Exception as error:  # noqa: BLE001  # each store has errors of its own
            problem = f" ({type(error).__name__}: {shown(str(error))})"
        if problem:
            raise _not_writable(self.path, problem)

    def write(self, lines: str) -> None:
        """Write them as a new part."""
        self._bounded(partial(_put, self.path / next(self._names), lines.encode()))


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
        self.keep(lines)
        self.write_if_due()

    def keep(self, lines: Iterable[Line]) -> None:
        """Take lines for the next write."""
        new = [*lines]
        with self._lock:
            self._waiting += new

    def write_if_due(self) -> None:
        """Write down what is waiting, if it is enough for a write."""
        with self._lock:
            file = self._file  # once: another thread may find that it cannot be written
            is_due = not file or len(self._waiting) >= file.lines_at_once
        if is_due:
            self.flush()

    def flush(self) -> None:
        """Write down what is waiting."""
        with self._writing:
            lines, is_done = list[Line](), False
            try:
                with self._lock:
                    lines, self._waiting = self._waiting, []
                is_done = not lines or bool(self._file and self._is_written(self._file, lines))
            finally:  # a time limit may strike meanwhile
                if lines and not is_done:
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


def as_name(text: str) -> str:
    """Return a safe name of a file or folder for a text."""
    name = NO_NAME.sub(lambda found: "".join(f"%{ord(each):02X}" for each in found[0]), text)
    content = name.encode(errors="replace")
    if len(content) <= MAX_NAME_BYTES:
        return content.decode()
    return f"{content[:MAX_NAME_BYTES].decode(errors='ignore')}-{sha256(content).hexdigest()[:16]}"


def _put(part: Any, content: bytes) -> None:
    try:
        with part.open("wb") as file:
            file.write(content)
    except OSError:
        with suppress(Exception):  # a full disk takes part of a line; each store has its errors
            part.unlink()
        raise


def _not_writable(where: object, why: str = "") -> MediquoError:
    return MediquoError(
        f"`rejects_path`: cannot write to {where}.\nNothing was sent. Correct that{why}, or choose "
        "another folder."
    )


def _why(error: Exception) -> str:
    code = error.errno if isinstance(error, OSError) else None
    if code is None:  # its text is the store's own
        return type(error).__name__
    return f"{'disk full' if code in _FULL else type(error).__name__}: {os.strerror(code)}"
