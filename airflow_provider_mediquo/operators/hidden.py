"""Arguments whose text is a count, for Airflow shows, logs and stores the text of a task's fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from airflow.providers.common.compat.sdk import BaseOperator, XComArg

T = TypeVar("T")


class HiddenPatients:
    """Patients, one after the other; `str` and `repr` say how many.

    Not a list, which Airflow would store item by item.

    :param given: a sequence whose items are patients or lists of patients, read when iterated;
        what is none raises InvalidPatientsError then.
    """

    def __init__(self, given: Any) -> None:
        self.given = given

    def __iter__(self) -> Iterator[Any]:
        from airflow_provider_mediquo.api.upload.validation import iterate_records

        for item in iterate_records(self.given):
            if isinstance(item, Sequence) and not isinstance(item, str | bytes):
                yield from item
            else:
                yield item

    def __length_hint__(self) -> int:
        return sum(map(_count, self.given)) if isinstance(self.given, list | tuple) else 0

    def __repr__(self) -> str:
        if not isinstance(self.given, list | tuple):
            return f"<patients of a {type(self.given).__name__}>"
        return f"<{self.__length_hint__():,} patients>"


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


def hide(operator: BaseOperator, value: Any, how: Callable[[Any], T]) -> T:
    """Hide an argument of an operator, which still comes after the tasks whose output is in it."""
    if not getattr(operator, "_BaseOperator__from_mapped", False):
        XComArg.apply_upstream_relationship(operator, value)
    return how(value)


def resolve(value: Any, context: Any) -> Any:
    """Put what other tasks returned in its place, and render nothing."""
    if isinstance(value, XComArg):
        return value.resolve(context)
    if next(XComArg.iter_xcom_references(value), None) is None:
        return value
    if isinstance(value, dict):
        return {name: resolve(item, context) for name, item in value.items()}
    return [resolve(item, context) for item in value]


def _count(item: Any) -> int:
    return len(item) if isinstance(item, list | tuple) else 1
