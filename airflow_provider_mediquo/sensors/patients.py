"""Wait until mediQuo shows patients."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import cached_property
from types import NoneType
from typing import TYPE_CHECKING, Any, Self, Unpack

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    conf,
)

from airflow_provider_mediquo.api.client.stop_flag import StopFlag
from airflow_provider_mediquo.codes import TextCodes
from airflow_provider_mediquo.hooks.mediquo import MediquoHook, fail_without_retry
from airflow_provider_mediquo.sensors.written import (
    expected_of,
    ledgers_of,
    listed,
    put_in_doubt,
    stable,
)
from airflow_provider_mediquo.triggers.patients import MediquoPatientTrigger, read_event

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_mediquo.api.visibility.poller import VisibilityPoller
    from airflow_provider_mediquo.arguments import SensorArguments

_TRIGGER_FAILED = "__fail__"
"""The method that Airflow resumes when a trigger crashed or no triggerer ran it in time."""

_GRACE = timedelta(minutes=1)
"""How late a triggerer may be before the scheduler ends the wait."""

_MIN_FIRST_LOOK = 1.0
"""Seconds. So that a sensor looks at least once, however short its `timeout` or `poke_interval`."""


class MediquoPatientSensor(TextCodes, BaseSensorOperator):
    """Wait until patients are visible: mediQuo accepts a write before it shows it.

    Pass either `written` or `codes`. Temporary errors are retried until `timeout`. Wrong keys or
    settings fail at once, also with `soft_fail`.

    :param written: the ledger that an upsert returned, or a list of ledgers. Each patient in the
        sample must show what was written.
    :param codes: one code or several. The patients only have to exist. For templates, a list with one for
        each code.
    :param mediquo_conn_id: ID of a connection of type `mediquo`.
    :param deferrable: wait in the triggerer instead of holding a worker slot.
    :param poke_interval: seconds between two checks.
    :param timeout: seconds after which the task fails and reports the codes that are not visible.
        0 checks once.

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
        **kwargs: Unpack[SensorArguments],
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=timeout, **kwargs)
        if (written is None) == (codes is None):
            raise ValueError("Pass either `written` or `codes`")
        self._by_code = written is None
        self.written = stable(written)
        self.codes = stable(codes)
        self.mediquo_conn_id = mediquo_conn_id
        self.deferrable = deferrable
        self._until = math.inf
        self._killed = StopFlag()

    def execute(self, context: Context) -> None:
        """Wait on the worker, or check once and wait in the triggerer."""
        with fail_without_retry(), closing(self._poller):
            if not self.deferrable or not self.timeout:
                self._limit_look(self.timeout or math.inf)
                self._wait_here(context)
                return
            # The triggerer can check the rest: free the worker soon.
            self._limit_look(min(self.timeout, self.poke_interval))
            if not self.poke(context):
                self._check_killed()
                self._defer()

    def poke(self, context: Context) -> bool:
        """Check once."""
        if self._poller.look(self._until):
            return True
        self.log.info("%s", self._poller)
        return False

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> None:
        """Return if the triggerer saw the patients, else raise."""
        read_event(event)

    def prepare_for_execution(self) -> Self:
        """Return a copy for one try. Where all tries share a process, a kill ends only its own."""
        other = super().prepare_for_execution()
        other._killed = StopFlag(self._killed)
        return other

    def on_kill(self) -> None:
        """Stop the request in progress, or the wait for the next one.

        A signal handler calls it, so it raises nothing: a logger that it interrupts would catch that.
        """
        self._killed.set()

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        """Continue after the triggerer."""
        with fail_without_retry():
            try:
                return super().resume_execution(next_method, next_kwargs, context)
            except AirflowException as error:
                if _is_timeout(error):
                    self._put_in_doubt()
                if next_method != _TRIGGER_FAILED:
                    raise
                failure = self._failure_of_trigger(error)
            raise failure

    def _limit_look(self, seconds: float) -> None:
        self._until = time.monotonic() + max(seconds, _MIN_FIRST_LOOK)

    def _wait_here(self, context: Context) -> None:
        try:
            super().execute(context)
        except (AirflowSensorTimeout, AirflowSkipException) as error:
            detailed = type(error)(f"{error}\n{self._poller}")
            # `soft_fail` and `never_fail` skip after other errors, too.
            is_timeout = isinstance(
                error.__cause__, (AirflowSensorTimeout, AirflowTaskTimeout, NoneType)
            )
        except AirflowTaskTimeout:
            self._put_in_doubt()
            raise
        else:
            return
        if is_timeout:
            self._put_in_doubt()
        raise detailed

    def _put_in_doubt(self) -> None:
        put_in_doubt(ledgers_of(self.written), self._killed)

    def _get_next_poke_interval(self, *args: Any) -> float:
        """Wait here if Airflow would sleep now: its sleep cannot be ended."""
        seconds = super()._get_next_poke_interval(*args)
        if not self.reschedule:
            self._killed.wait(seconds)
            seconds = 0.0
        self._check_killed()
        return seconds

    def _check_killed(self) -> None:
        if self._killed.is_set():
            raise _stopped()

    def _defer(self) -> None:
        wait = timedelta(seconds=self.timeout)
        self.defer(
            trigger=MediquoPatientTrigger(
                mediquo_conn_id=self.mediquo_conn_id,
                expected=self._expected,
                poke_interval=self.poke_interval,
                deadline=(datetime.now(UTC) + wait).isoformat(),
                exponential_backoff=self.exponential_backoff,
                max_wait=self.max_wait.total_seconds() if self.max_wait else None,
            ),
            method_name="execute_complete",
            timeout=wait + _GRACE,
        )

    def _failure_of_trigger(self, error: AirflowException) -> Exception:
        """Return what to raise; `soft_fail` may skip a timeout, but not a crash."""
        from airflow_provider_mediquo.api.errors import MediquoError

        is_skip = isinstance(error, AirflowSkipException)
        if _is_timeout(error):
            return type(error)(
                "Trigger timeout: no triggerer finished the wait in time.\n"
                "Check that `airflow triggerer` runs, is healthy and has free capacity."
            )
        if is_skip and self.never_fail:
            return error
        return MediquoError("The trigger crashed. See its traceback above and the triggerer's log.")

    @cached_property
    def _hook(self) -> MediquoHook:
        hook = MediquoHook(self.mediquo_conn_id)
        hook.killed = self._killed
        return hook

    @cached_property
    def _poller(self) -> VisibilityPoller:
        from airflow_provider_mediquo.api.visibility.poller import VisibilityPoller

        try:
            return VisibilityPoller(self._hook.get_conn(), self._expected)
        except ValueError as error:
            problem = str(error)
        raise AirflowFailException(problem)

    @cached_property
    def _expected(self) -> dict[str, str | None]:
        """Code -> proof of what was written, or None."""
        if self._by_code:
            return dict.fromkeys(listed(self.codes))
        return expected_of(ledgers_of(self.written))


def _is_timeout(error: AirflowException) -> bool:
    is_skip = isinstance(error, AirflowSkipException)
    return isinstance(error.__cause__ if is_skip else error, AirflowSensorTimeout)


def _stopped() -> Exception:
    from airflow_provider_mediquo.api.errors import StoppedError

    return StoppedError("Stopped between two checks. Safe to run again.")
