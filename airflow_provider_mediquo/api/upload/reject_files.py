"""The files that reject reports are written to."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

from airflow_provider_mediquo.api.errors import MediquoError

_STORE_TIMEOUT = 60.0  # seconds, to write a part
_SHUTDOWN_GRACE = 3.0  # seconds, once the task is being killed
_POLL_SECONDS = 0.1
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
        failures: list[Exception] = []

        def try_it() -> None:
            try:
                act()
            except Exception as error:  # noqa: BLE001  # raised in the thread that waits
                failures.append(error)

        trying = Thread(target=try_it, name="mediquo-store", daemon=True)
        trying.start()
        left = _STORE_TIMEOUT
        while trying.is_alive() and left > 0:
            trying.join(_POLL_SECONDS)
            left = min(left, _SHUTDOWN_GRACE if self.is_hurried else left) - _POLL_SECONDS
        if trying.is_alive():
            failures.append(TimeoutError("no answer"))
        if failures:
            raise failures[0]


class LocalFile(RejectFile):
    """A file on the worker's disk; its folders are created with the first line."""

    path: Path

    def check(self) -> None:
        """Look at the folder, or at the first one above it that exists."""
        is_silent = False
        try:
            self._bounded(self._look)
        except TimeoutError:
            is_silent = True
        if is_silent:
            raise _not_writable(self.path.parent, " (no answer)")

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
            problem = f" ({type(error).__name__}: {error})"
        if problem:
            raise _not_writable(self.path, problem)

    def write(self, lines: str) -> None:
        """Write them as a new part."""
        self._bounded(partial(_put, self.path / next(self._names), lines.encode()))


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
        f"`rejects_path`: cannot write to {where}\nfrom this worker{why}. Nothing was sent. Fix it "
        "or choose another folder."
    )
