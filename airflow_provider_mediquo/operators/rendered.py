"""What a template leaves of an option."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException


@contextmanager
def failing_on_value_errors() -> Iterator[None]:
    """Fail without a retry if an option is invalid."""
    from airflow_provider_mediquo.api.errors import MediquoError

    problem = None
    try:
        yield
    except ValueError as error:
        if isinstance(error, MediquoError):
            raise
        problem = str(error)
    if problem is not None:
        raise AirflowFailException(problem)


def none_if_rendered(value: Any) -> Any:
    """Return None for the text that a template makes of None, else the value."""
    return None if isinstance(value, str) and value.strip() == "None" else value


def rendered_number(value: Any) -> Any:
    """Return the number that a template rendered to; UploadOptions checks everything else."""
    value = none_if_rendered(value)
    if isinstance(value, str):
        for kind in (int, float):
            with suppress(ValueError):
                return kind(value)
    return value
