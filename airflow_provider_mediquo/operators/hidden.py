"""Arguments whose text is a count, for Airflow shows, logs and stores the text of a task's fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import XComArg


class HiddenPatients:
    """Patients, one after the other; `str` and `repr` say how many.

    Not a list, which Airflow would store item by item.

    :param given: a sequence whose items are patients or lists of patients, read when iterated.
    """

    def __init__(self, given: Any) -> None:
        self._given = given

    def __iter__(self) -> Iterator[Any]:
        for item in self._given:
            if isinstance(item, Sequence) and not isinstance(item, str | bytes):
                yield from item
            else:
                yield item

    def __repr__(self) -> str:
        if not isinstance(self._given, list | tuple):
            return f"<patients of a {type(self._given).__name__}>"
        return f"<{sum(map(_count, self._given)):,} patients>"


class HiddenArgs(Sequence[Any]):
    """Positional arguments."""

    def __init__(self, args: Sequence[Any]) -> None:
        self._args = args

    def __getitem__(self, index: Any) -> Any:
        return self._args[index]

    def __len__(self) -> int:
        return len(self._args)

    def __repr__(self) -> str:
        return f"<{len(self):,} arguments>"


class HiddenKwargs(Mapping[str, Any]):
    """Arguments by name."""

    def __init__(self, kwargs: Mapping[str, Any]) -> None:
        self._kwargs = kwargs

    def __getitem__(self, name: str) -> Any:
        return self._kwargs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kwargs)

    def __len__(self) -> int:
        return len(self._kwargs)

    def __repr__(self) -> str:
        return f"<{len(self):,} arguments>"


def is_literal(value: Any) -> bool:
    """Whether nothing in it is to come from another task."""
    return next(XComArg.iter_xcom_references(value), None) is None


def resolve(value: Any, context: Any) -> Any:
    """Put what other tasks returned in its place, and render nothing."""
    if isinstance(value, XComArg):
        return value.resolve(context)
    if isinstance(value, list | tuple) and not is_literal(value):
        return [resolve(item, context) for item in value]
    if isinstance(value, dict) and not is_literal(value):
        return {name: resolve(item, context) for name, item in value.items()}
    return value


def _count(item: Any) -> int:
    return len(item) if isinstance(item, list | tuple) else 1
