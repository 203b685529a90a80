"""Where the records that are not in mediQuo are written down, as it happens."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self
from uuid import uuid4

from airflow_provider_mediquo.api.errors import MediquoError
from airflow_provider_mediquo.api.fields import RULES
from airflow_provider_mediquo.api.ledger import Rejection

log = logging.getLogger(__name__)

SHOWN = 20
"""Rejected records that are logged where there is no file."""

_STORE_TIMEOUT = 60.0  # seconds, to write a part
_LAST_WORDS = 3.0  # seconds, once the task is being killed
_LOOK_UP = 0.1  # seconds
_MOST_NAME = 200  # bytes of a file's name; file systems take 255
_NO_NAME = re.compile(r"[\x00-\x1f\x7f/\\]|^\.{1,2}$")
_MOST_KINDS = 500  # of problems that are counted: names of unknown fields are the source's own


class RejectsFile(ABC):
    """What lines are added to; never is anything overwritten.

    :param path: of the file.
    """

    lines_at_once = 1

    def __init__(self, path: Any) -> None:
        self.path = path
        self.is_late = Event()
        """Set when the task is being killed."""

    @abstractmethod
    def check(self) -> None:
        """Raise MediquoError where it can be known that nothing can be written."""

    @abstractmethod
    def write(self, lines: str) -> None:
        """Add lines."""

    def _bounded(self, act: Callable[[], object]) -> None:
        """Do it in a thread that is left behind if it takes too long: any storage may hang."""
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
            trying.join(_LOOK_UP)
            left = min(left, _LAST_WORDS if self.is_late.is_set() else left) - _LOOK_UP
        if trying.is_alive():
            failures.append(TimeoutError("no answer"))
        if failures:
            raise failures[0]


class LocalFile(RejectsFile):
    """A file on the worker's disk; its folders are made with the first line."""

    path: Path

    def check(self) -> None:
        """Look at the folder, or the first one above it that is there."""
        is_silent = False
        try:
            self._bounded(self._look)
        except TimeoutError:
            is_silent = True
        if is_silent:
            raise _nothing_can_be_written(self.path.parent, " (no answer)")

    def _look(self) -> None:
        there = next(folder for folder in self.path.absolute().parents if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise _nothing_can_be_written(there)

    def write(self, lines: str) -> None:
        """Append them."""
        self._bounded(partial(self._append, lines))

    def _append(self, lines: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(lines)


class StoredParts(RejectsFile):
    """A folder of an object store, which cannot append: each write is an object of its own."""

    lines_at_once = 1000

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        # Under a name that nobody else gives, so that nobody has to look what is there.
        self._names = (f"part-{uuid4().hex[:8]}-{number:05}.jsonl" for number in count(1))

    def check(self) -> None:
        """Look whether the store answers; what may not be listed may still be written."""
        problem = None
        try:
            self._bounded(self.path.exists)
        except PermissionError:
            pass
        except Exception as error:  # noqa: BLE001  # each store has errors of its own
            problem = f" ({type(error).__name__}: {error})"
        if problem:
            raise _nothing_can_be_written(self.path, problem)

    def write(self, lines: str) -> None:
        """Write them to a part of their own."""
        self._bounded(partial(_put, self.path / next(self._names), lines.encode()))


class RejectLog:
    """A file of JSON lines, or the first lines in the log.

    :param file: what cannot be written to it is logged instead, all of it.
    """

    def __init__(self, file: RejectsFile | None = None) -> None:
        self.kinds: Counter[str] = Counter()
        self._file = file
        self._waiting: list[Rejection] = []  # for the next write
        self._written_to: str | None = None
        self._lock = threading.Lock()
        self._writing = threading.Lock()  # a slow store holds up none that only adds
        self._left_to_log: float = math.inf if file else SHOWN

    def __enter__(self) -> Self:
        if self._file:
            self._file.check()
        return self

    def __exit__(self, *failure: object) -> None:
        self.flush()

    def hurry(self) -> None:
        """Take little time from now on: the task is being killed."""
        if self._file:
            self._file.is_late.set()

    @property
    def written_to(self) -> str | None:
        """The file, if anything is in it."""
        return self._written_to

    def add(self, *rejections: Rejection) -> None:
        """Write them down, a line each; to an object store soon."""
        with self._lock:
            for rejection in rejections:
                self._count(rejection)
            self._waiting += rejections
            is_due = not self._file or len(self._waiting) >= self._file.lines_at_once
        if is_due:
            self.flush()

    def flush(self) -> None:
        """Write down what waits."""
        with self._writing:
            with self._lock:
                rejections, self._waiting = self._waiting, []
            if rejections and not (self._file and self._is_written(self._file, rejections)):
                self._log(rejections)

    def _is_written(self, file: RejectsFile, rejections: Sequence[Rejection]) -> bool:
        try:
            file.write("".join(json.dumps(each.as_dict()) + "\n" for each in rejections))
        except Exception as error:  # noqa: BLE001  # each store has errors of its own
            name = type(error).__name__
            log.error("%s cannot be written (%s): rejects are logged.", file.path, name)
            self._file = None
            return False
        self._written_to = str(file.path)
        return True

    def _count(self, rejection: Rejection) -> None:
        kinds = [f"{name} {RULES[rule]}" for name, rule in rejection.problems.items()]
        status = f" {rejection.status}" if rejection.status else ""
        for kind in kinds or [f"{rejection.refused_by}{status}"]:
            if kind in self.kinds or len(self.kinds) < _MOST_KINDS:
                self.kinds[kind] += 1

    def _log(self, rejections: Sequence[Rejection]) -> None:
        # All of the unsettled: without a file this is the only place that names them.
        if unsettled := [r.code for r in rejections if r.refused_by == "unsettled"]:
            log.warning("Unsettled, to be sent again: %s", json.dumps(unsettled))
        for rejection in (r for r in rejections if r.refused_by != "unsettled"):
            if not self._left_to_log:
                return
            self._left_to_log -= 1
            log.warning("Rejected: %s", json.dumps(rejection.as_dict()))
            if not self._left_to_log:
                log.warning("More rejects are only counted: set `rejects_path` to keep them all.")


def as_name(text: str) -> str:
    """Return the name of a file or folder for it, the same as far as it can be one."""
    name = _NO_NAME.sub(lambda found: "".join(f"%{ord(each):02X}" for each in found[0]), text)
    content = name.encode(errors="replace")
    if len(content) <= _MOST_NAME:
        return content.decode()
    return f"{content[:_MOST_NAME].decode(errors='ignore')}-{sha256(content).hexdigest()[:16]}"


def _put(part: Any, content: bytes) -> None:
    with part.open("wb") as file:
        file.write(content)


def _nothing_can_be_written(where: object, why: str = "") -> MediquoError:
    return MediquoError(
        f"`rejects_path`: nothing can be written in {where} from this worker{why}, so nothing was "
        "sent. Mend that, or give another folder."
    )
