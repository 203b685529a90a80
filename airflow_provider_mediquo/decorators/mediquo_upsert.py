"""`@task.mediquo_upsert`: upserts the patients that a function returns or yields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    determine_kwargs,
    task_decorator_factory,
)
from airflow.sdk import ObjectStoragePath

from airflow_provider_mediquo.operators.base import MediquoUpsertBaseOperator
from airflow_provider_mediquo.operators.hidden import HiddenArgs, HiddenKwargs, hide, resolve

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, TaskDecorator

    from airflow_provider_mediquo.arguments import UpsertArguments

_ARGUMENTS = ("op_args", "op_kwargs")
_TEMPLATES = (str, ObjectStoragePath)


class MediquoUpsertDecoratedOperator(DecoratedOperator, MediquoUpsertBaseOperator):
    """Upserts the patients that a function returns or yields.

    The UI shows the number of arguments, not their values. Text arguments are rendered as
    templates. Text inside lists and mappings is not, because it may be patient data.
    """

    template_fields: Sequence[str] = (*_ARGUMENTS, *MediquoUpsertBaseOperator.template_fields)
    custom_operator_name = "@task.mediquo_upsert"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Sequence[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Unpack[UpsertArguments],
    ) -> None:
        super().__init__(
            python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, **kwargs
        )
        self.op_args = hide(self, self.op_args, HiddenArgs)
        self.op_kwargs = hide(self, self.op_kwargs, HiddenKwargs)

    def read_patients(self, context: Context) -> Iterable[Any]:
        """Call the function; arguments named after context variables are filled in."""
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
            if isinstance(value, _TEMPLATES) or hasattr(type(value), "template_fields"):
                return self.render_template(value, context, jinja_env, seen_oids)
            return resolve(value, context)

        if parent is self:
            self.op_args = HiddenArgs([render(value) for value in self.op_args])
            named = {name: render(value) for name, value in self.op_kwargs.items()}
            self.op_kwargs = HiddenKwargs(named)


def mediquo_upsert_task(
    python_callable: Callable[..., Any] | None = None, **kwargs: Unpack[UpsertArguments]
) -> TaskDecorator:
    """Upsert the patients that a function returns or yields; the task returns the ledger.

    The function runs inside the task, so no patient goes through XCom. Yielded records are read as
    a stream. Takes the options of MediquoUpsertBaseOperator and every argument of BaseOperator:
    `@task.mediquo_upsert(max_rejects=0.01, retries=2)`. With `multiple_outputs=True`, each entry of
    the ledger is also an XCom of its own.
    """
    kwargs.setdefault("multiple_outputs", False)  # or a return annotation would decide
    return task_decorator_factory(
        python_callable=python_callable,
        decorated_operator_class=MediquoUpsertDecoratedOperator,
        **kwargs,
    )
