"""Arguments that show as a count, because Airflow shows, logs and stores the text of task fields."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from airflow.providers.common.compat.sdk import BaseOperator, XComArg

from airflow_provider_mediquo.api.text import counted

T = TypeVar("T")


class HiddenPatients:
    """Patients, one at a time; `str` and `repr` say how many.

    Not a list, because Airflow would store each item of a list.

    :param given: a sequence of patients or of lists of patients. Iterating raises
        InvalidPatientsError if it is anything else.
    """

    def __init__(self, given: Any) -> None:
        self.given = given

    def __iter__(self) -> Iterator[Any]:
        from airflow_provider_mediquo.api.upload.source_reader import iterate_records

        for item in iterate_records(self.given):
            if isinstance(item, Sequence) and not isinstance(item, str | bytes):
                yield from item
            else:
                yield item

    def __length_hint__(self) -> int:
        return sum(map(_count, self.given)) if isinstance(self.given, list | tuple) else 0

    def __repr__(self) -> str:
        if not isinstance(self.given, list | tuple):
            return f"<patients from a {type(self.given).__name__}>"
        return f"<{counted(self.__length_hint__(), 'patient')}>"


class HiddenArgs(Sequence[Any]):
    """Positional arguments."""

    def __init__(self, args: Sequence[Any]) -> None:
        self._args = args

    def __getitem__(self, index: Any) -> Any:
        return self._args[index]

    def __len__(self) -> int:
        return len(self._args)

    def __repr__(self) -> str:
        return f"<{counted(len(self), 'argument')}>"


class HiddenKwargs(Mapping[str, Any]):
    """Keyword arguments."""

    def __init__(self, kwargs: Mapping[str, Any]) -> None:
        self._kwargs = kwargs

    def __getitem__(self, name: str) -> Any:
        return self._kwargs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kwargs)

    def __len__(self) -> int:
        return len(self._kwargs)

    def __repr__(self) -> str:
        return f"<{counted(len(self), 'argument')}>"


def hide(operator: BaseOperator, value: Any, how: Callable[[Any], T]) -> T:
    """Hide an operator's argument, but keep its dependencies on the tasks whose output it holds."""
    if not getattr(operator, "_BaseOperator__from_mapped", False):
        XComArg.apply_upstream_relationship(operator, value)
    return how(value)


def resolve(value: Any, context: Any) -> Any:
    """Replace Airflow's references (task output, DAG params, literals) by their values.

    Does what Airflow does for a template field, except that it renders no text.
    """
    if not isinstance(value, os.PathLike) and callable(getattr(value, "resolve", None)):
        return value.resolve(context)
    if isinstance(value, dict):
        return {name: resolve(item, context) for name, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, context) for item in value]
    if isinstance(value, tuple):
        items = [resolve(item, context) for item in value]
        return value._make(items) if hasattr(value, "_make") else tuple(items)
    if isinstance(value, set):
        return {resolve(item, context) for item in value}
    return value


def _count(item: Any) -> int:
    return len(item) if isinstance(item, list | tuple) else 1
