"""Calls the user's `transform`, and says what may be wrong where it fails for every record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_mediquo.api.text import counted, listed
from airflow_provider_mediquo.api.upload.options import UploadOptions


class Transformation:
    """Counts how `transform` fails; only the class of its errors is shown."""

    def __init__(self, options: UploadOptions) -> None:
        self._function: Any = options.transform  # not called without one
        self._columns = [*(options.columns or {})]
        self._count = 0
        self._error: type[Exception] | None = None  # that each call so far raised
        self._first: Any = None

    def __call__(self, record: Any) -> Any:
        """Return what the function makes of a record, or raise its error."""
        self._count += 1
        try:
            made = self._function(record)
        except Exception as error:
            if self._count == 1:
                self._error, self._first = type(error), record
            elif type(error) is not self._error:
                self._error = None
            raise
        self._error = None
        return made

    @property
    def finds_nothing(self) -> bool:
        """Whether it found no column for any record, as with a wrong header or delimiter."""
        return self._error is not None and issubclass(self._error, LookupError)

    def problem(self) -> str:
        """Return what happened, if each call so far raised the same error."""
        if self._error is None:
            return ""
        text = (
            f"`transform` raised {self._error.__name__} for every record so far ({self._count:,})."
        )
        if not self.finds_nothing or not isinstance(self._first, Mapping):
            return f"{text}\nTest the function with such a record."
        lacking = [name for name in self._columns if name not in self._first]
        without = f", and no {listed(lacking)}" if lacking else ""
        return (
            f"{text}\nThe first has {counted(len(self._first), 'column')}{without}. "
            "Check its header, and for a file `delimiter` and `encoding`."
        )
