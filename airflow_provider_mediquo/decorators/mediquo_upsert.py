"""`@task.mediquo_upsert`: a function that gives patients, and they are upserted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_provider_mediquo.operators.hidden import HiddenArgs, HiddenKwargs, hide, resolve
from airflow_provider_mediquo.operators.patients import MediquoUpsertBaseOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, TaskDecorator

_ARGUMENTS = ("op_args", "op_kwargs")


class MediquoUpsertDecoratedOperator(DecoratedOperator, MediquoUpsertBaseOperator):
    """Upserts what a function returns or yields; its arguments are shown as a count.

    Text among the arguments is rendered as a template, text inside lists and mappings is not: it
    may be a patient's.
    """

    template_fields: Sequence[str] = (*_ARGUMENTS, *MediquoUpsertBaseOperator.template_fields)
    custom_operator_name = "@task.mediquo_upsert"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Sequence[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, **kwargs
        )
        self.op_args = hide(self, self.op_args, HiddenArgs)
        self.op_kwargs = hide(self, self.op_kwargs, HiddenKwargs)

    def read_patients(self, context: Context) -> Iterable[Any]:
        """Call the function, with those of its arguments that name a part of the context."""
        known = {**context, **self.op_kwargs}
        kwargs = determine_kwargs(self.python_callable, self.op_args, known)
        patients: Iterable[Any] = self.python_callable(*self.op_args, **kwargs)
        return patients

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Any,
        jinja_env: Any,
        seen_oids: set[int],
    ) -> None:
        others = [name for name in template_fields if name not in _ARGUMENTS]
        super()._do_render_template_fields(parent, others, context, jinja_env, seen_oids)

        def render(value: Any) -> Any:
            if isinstance(value, str):
                return self.render_template(value, context, jinja_env, seen_oids)
            return resolve(value, context)

        if parent is self:
            self.op_args = HiddenArgs([render(value) for value in self.op_args])
            named = {name: render(value) for name, value in self.op_kwargs.items()}
            self.op_kwargs = HiddenKwargs(named)


def mediquo_upsert_task(
    python_callable: Callable[..., Any] | None = None, **kwargs: Any
) -> TaskDecorator:
    """Upsert the patients that a function returns or yields; the task returns the ledger.

    The function runs inside the task, so no patient goes through XCom, and what it yields is read
    as a stream. It takes the options of MediquoUpsertBaseOperator:
    `@task.mediquo_upsert(max_rejects=0.01)`.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=False,
        decorated_operator_class=MediquoUpsertDecoratedOperator,
        **kwargs,
    )
