"""Reads a source, and can be interrupted while it waits for one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from airflow_provider_mediquo.api.errors import InvalidPatientsError

_OF_A_DATAFRAME = ("__arrow_c_stream__", "__dataframe__")  # pandas 2.1 has only the second


class Halted(BaseException):
    """Ends the reading loop; a BaseException, so that no source catches it by accident."""


class SourceReader:
    """Reads one source.

    :param check: raises Halted if the run has ended; called before each record.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._thread: int | None = None  # the thread that is inside the source right now

    def records(self, source: Iterator[Any]) -> Iterator[Any]:
        """Yield the records of a source."""
        thread = threading.get_ident()
        while True:
            self._thread = thread
            try:
                self._check()  # inside `try`, so that no kill is missed
                record = next(source)
            except StopIteration:
                return
            finally:
                self._thread = None
            yield record

    def interrupt(self) -> None:
        """Raise Halted if this thread is inside the source, which could wait for long.

        A signal handler calls it, so it takes no lock.
        """
        if self._thread == threading.get_ident():
            self._thread = None  # once: closing the source must not be interrupted
            raise Halted


def iterate_records(patients: Iterable[Any]) -> Iterator[Any]:
    """Return an iterator over records; raises InvalidPatientsError for anything else."""
    if isinstance(patients, str | bytes | Mapping) or not isinstance(patients, Iterable):
        raise InvalidPatientsError(
            "`patients` must be a list, a generator or another iterable of patients (mappings).\n"
            f"{_what_is_wrong(patients)}"
        )
    # A Series of patients has no columns.
    if hasattr(patients, "columns") and any(hasattr(patients, each) for each in _OF_A_DATAFRAME):
        raise InvalidPatientsError(
            "`patients` must be rows, and a DataFrame iterates over its columns.\n"
            'Convert it: `df.to_dict("records")` in pandas, `df.to_dicts()` in Polars.'
        )
    return iter(patients)


def _what_is_wrong(patients: Any) -> str:
    if patients is None:
        return "This is None: a function must return or yield them."
    if isinstance(patients, Mapping):
        return f"This is a {type(patients).__name__}: put a single patient into a list."
    return f"This is a {type(patients).__name__}."
