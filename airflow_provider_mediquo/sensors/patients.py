"""Wait until mediQuo shows patients."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    conf,
)

from airflow_provider_mediquo.hooks.mediquo import MediquoHook, fail_without_retry
from airflow_provider_mediquo.triggers.patients import MediquoPatientTrigger, read_event

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_mediquo.api.visibility.poller import VisibilityPoller

_GRACE = timedelta(minutes=1)
"""What a triggerer may be late by before the scheduler ends the wait in its place."""


class MediquoPatientSensor(BaseSensorOperator):
    """Wait until patients are visible: mediQuo applies a write later than it says "Success".

    Give one of `written` and `codes`. An answer that fails for a passing reason is waited out;
    wrong keys or settings fail at once, also with `soft_fail`.

    :param written: what an upsert returned, or a list of that: each patient in its sample has to
        show what was written.
    :param codes: one code or many, which only have to exist.
    :param mediquo_conn_id: a connection of the type `mediquo`.
    :param deferrable: wait in the triggerer, without holding a worker.
    :param poke_interval: seconds between two looks.
    :param timeout: seconds after which the task fails and says which codes are not visible.

    https://sdk.mediquo.com/docs/patients#get-patient
    """

    template_fields: Sequence[str] = ("mediquo_conn_id", "written", "codes")
    ui_color = "#e6f5d0"

    def __init__(
        self,
        *,
        written: Mapping[str, Any] | Iterable[Mapping[str, Any]] | XComArg | None = None,
        codes: str | Iterable[str] | XComArg | None = None,
        mediquo_conn_id: str = MediquoHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: timedelta | float = 10,
        timeout: timedelta | float = 15 * 60,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=timeout, **kwargs)
        if (written is None) == (codes is None):
            raise ValueError("Give either `written` or `codes`")
        self._by_code = written is None
        self.written = written
        self.codes = codes
        self.mediquo_conn_id = mediquo_conn_id
        self.deferrable = deferrable
        self._until = math.inf

    def execute(self, context: Context) -> None:
        """Wait here, or look once and wait in the triggerer."""
        now = time.monotonic()
        # What is not visible in a first look may as well be waited for in the triggerer.
        self._until = now + min(self.timeout, self.poke_interval if self.deferrable else math.inf)
        with fail_without_retry(), closing(self._watch):
            if not self.deferrable:
                self._wait_here(context)
            elif not self.poke(context):
                self._defer()

    def poke(self, context: Context) -> bool:
        """Look once."""
        if self._watch.look(self._until):
            return True
        self.log.info("%s", self._watch)
        return False

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> None:
        """Pass on what the triggerer saw."""
        read_event(event)

    def on_kill(self) -> None:
        """End the request under way."""
        self._hook.stop()

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        """Come back from the triggerer."""
        with fail_without_retry():
            return super().resume_execution(next_method, next_kwargs, context)

    def _wait_here(self, context: Context) -> None:
        detailed = None
        try:
            super().execute(context)
        except (AirflowSensorTimeout, AirflowSkipException) as error:
            detailed = type(error)(f"{error} {self._watch}")
        if detailed:
            raise detailed

    def _defer(self) -> None:
        wait = timedelta(seconds=self.timeout)
        self.defer(
            trigger=MediquoPatientTrigger(
                mediquo_conn_id=self.mediquo_conn_id,
                wanted=self._wanted,
                poke_interval=self.poke_interval,
                deadline=(datetime.now(UTC) + wait).isoformat(),
                exponential_backoff=self.exponential_backoff,
                max_wait=self.max_wait.total_seconds() if self.max_wait else None,
            ),
            method_name="execute_complete",
            timeout=wait + _GRACE,
        )

    @cached_property
    def _hook(self) -> MediquoHook:
        return MediquoHook(self.mediquo_conn_id)

    @cached_property
    def _watch(self) -> VisibilityPoller:
        from airflow_provider_mediquo.api.visibility.poller import VisibilityPoller

        try:
            return VisibilityPoller(self._hook.get_conn(), self._wanted)
        except ValueError as error:
            problem = str(error)
        raise AirflowFailException(problem)

    @cached_property
    def _wanted(self) -> dict[str, str | None]:
        """Code -> proof of what was written, or None."""
        if self._by_code:
            return dict.fromkeys(_listed(self.codes))
        ledgers: Any = [self.written] if isinstance(self.written, Mapping) else self.written
        wanted: dict[str, str | None] = {}
        for ledger in ledgers if isinstance(ledgers, Iterable) else (ledgers,):
            if not isinstance(ledger, Mapping) or not isinstance(ledger.get("sample"), Mapping):
                raise AirflowFailException(
                    "`written` must be what an upsert returned, or a list of that: "
                    "written=upsert.output, where upsert is the task."
                )
            wanted |= ledger["sample"]
        if not wanted:
            self.log.warning("Nothing to wait for: no patient is in the sample of `written`.")
        return wanted


def _listed(codes: Any) -> list[Any]:
    if isinstance(codes, str):
        return [codes]
    is_list = isinstance(codes, Iterable) and not isinstance(codes, Mapping)
    found = list(codes) if is_list else []
    if not is_list or not all(isinstance(code, Hashable) for code in found):
        raise AirflowFailException(
            f"`codes` must be a code or a list of codes; this is a {type(codes).__name__}."
        )
    return found
