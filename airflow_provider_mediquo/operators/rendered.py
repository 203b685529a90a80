"""Checks and converts options after templates are rendered."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context

NO_LIMIT = ("max_without_plan", "max_unsubscribed")
"""Options for which None means no limit."""

_MAY_BE_NONE = ("rejects_path", "as_of", "warn_rejects")  # a manual run may have no interval, say


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


def check_rendered(options: Mapping[str, Any], nones: Collection[str]) -> None:
    """Raise ValueError if a template rendered to nothing: what it protects would be off, silently.

    :param options: what they were rendered to.
    :param nones: those that are None in the DAG itself.
    """
    for name, value in options.items():
        is_nothing = value is None or (isinstance(value, str) and not value.strip())
        if is_nothing and name not in {*nones, *_MAY_BE_NONE}:
            no_limit = " For no limit, write None in the DAG itself." if name in NO_LIMIT else ""
            raise ValueError(
                f"`{name}` was rendered to None or to nothing: a key of `conf`, a parameter or an "
                "XCom is missing.\nGive the template a default, such as "
                "{{ dag_run.conf.get('my_key', 0.01) }}." + no_limit
            )


def nones_of(task: BaseOperator, nones: Collection[str]) -> Collection[str]:
    """Return the options that are None in the DAG itself; what `expand` gives is data.

    :param nones: the options that the operator was made with as None.
    """
    in_dag = _given_to_all(task)
    if in_dag is None:
        return nones
    return {name for name in nones if name not in NO_LIMIT or in_dag.get(name, 0) is None}


def sync_name_of(task: BaseOperator, context: Context, name: str | None) -> str:
    """Return the name of a task's sync, by default the task's own.

    The tasks of a mapped one must not share a name: each would treat the members of the others
    as missing.

    :param name: what `sync_name` was rendered to.
    """
    ti = context["ti"]
    default = f"{ti.dag_id}.{ti.task_id}"
    is_mapped = ti.map_index is not None and ti.map_index >= 0
    if is_mapped and name in (None, "", default, _constant(task, "sync_name")):
        raise AirflowFailException(
            "A mapped task with a state needs a `sync_name` for each of its tasks: each is a sync of "
            "its own.\nName each part of the members, the same every night, for example with "
            "expand_kwargs([{'path': 'north.csv', 'sync_name': 'members-north'}, ...]). Use the map index "
            "in the name only if each index always reads the same members."
        )
    return name or default


def _constant(task: BaseOperator, option: str) -> str | None:
    """Return an option that is the same text for each task of a mapped one, else None."""
    in_dag = _given_to_all(task)
    if in_dag is None:  # in a mapped group
        dag = task.get_dag()
        in_dag = vars(dag.task_dict[task.task_id]) if dag else {}
    text = in_dag.get(option)
    return text if isinstance(text, str) and "{{" not in text and "{%" not in text else None


def _given_to_all(task: BaseOperator) -> Mapping[str, Any] | None:
    """Return the arguments that all tasks of a mapped one have; None if it is not mapped itself."""
    dag = task.get_dag()
    mapped: Any = dag and dag.task_dict.get(task.task_id)
    if not hasattr(mapped, "partial_kwargs"):
        return None
    # Airflow adds the default arguments only when it makes the task.
    defaults = {**mapped.dag.default_args, **mapped.task_group.default_args}
    return {**defaults, **mapped.partial_kwargs}
