"""What a template leaves of an option."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


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


def sync_name_of(context: Context) -> str:
    """Return the default of `sync_name`; a mapped task has none."""
    ti = context["ti"]
    if ti.map_index is not None and ti.map_index >= 0:
        raise AirflowFailException(
            "A mapped task with a state needs a `sync_name` for each of its tasks, such as "
            "sync_name='members-{{ ti.map_index }}': each is a sync of its own."
        )
    return f"{ti.dag_id}.{ti.task_id}"
