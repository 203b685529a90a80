"""Wait in the triggerer until mediQuo shows patients."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, AirflowSensorTimeout
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_mediquo.hooks.mediquo import MediquoHook

if TYPE_CHECKING:
    from airflow_provider_mediquo.api.visibility.poller import VisibilityPoller

_VISIBLE, _TIMED_OUT, _FAILED = "visible", "timed out", "failed"
_NOT_CHECKED = "No triggerer checked during the wait."
_NO_CONNECTION = (
    "The triggerer cannot find the connection {!r}.\n"
    "Define it where the triggerer reads connections too, not only on the workers."
)


class MediquoPatientTrigger(BaseTrigger):
    """Checks repeatedly, within the rate limit. Never writes, because triggers may run twice.

    :param expected: code -> proof of what was written, or None if the patient only has to exist.
    :param poke_interval: seconds between two checks.
    :param deadline: when to give up, in ISO 8601 with a time zone. Absolute, because a duration
        would start again when the triggerer restarts.
    :param exponential_backoff: double the interval after each check, up to `max_wait`.
    :param max_wait: seconds.
    """

    def __init__(
        self,
        *,
        mediquo_conn_id: str,
        expected: dict[str, str | None],
        poke_interval: float,
        deadline: str,
        exponential_backoff: bool = False,
        max_wait: float | None = None,
    ) -> None:
        super().__init__()
        self.mediquo_conn_id = mediquo_conn_id
        self.expected = expected
        self.poke_interval = poke_interval
        self.deadline = deadline
        self.exponential_backoff = exponential_backoff
        self.max_wait = max_wait

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments to recreate the trigger."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "mediquo_conn_id": self.mediquo_conn_id,
                "expected": self.expected,
                "poke_interval": self.poke_interval,
                "deadline": self.deadline,
                "exponential_backoff": self.exponential_backoff,
                "max_wait": self.max_wait,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: visible, timed out, or failed."""
        yield TriggerEvent(await self._outcome())

    async def _outcome(self) -> dict[str, Any]:
        from airflow_provider_mediquo.api.errors import ConnectionSettingsError, MediquoError

        poller: VisibilityPoller | None = None
        try:
            async with asyncio.timeout(self._seconds_left()) as limit:
                poller = await sync_to_async(self._make_poller)()
                await self._wait(poller)
        except MediquoError as error:
            return _failed(type(error), str(error))
        except AirflowNotFoundException:
            return _failed(ConnectionSettingsError, _NO_CONNECTION.format(self.mediquo_conn_id))
        except Exception as error:
            if isinstance(error, TimeoutError) and limit.expired():
                return {"status": _TIMED_OUT, "detail": str(poller or _NOT_CHECKED)}
            self.log.exception("The trigger failed.")
            name = type(error).__name__
            return _failed(MediquoError, f"The trigger failed: {name}. See the triggerer's log.")
        finally:
            if poller:
                poller.close()
        return {"status": _VISIBLE}

    async def _wait(self, poller: VisibilityPoller) -> None:
        interval = self.poke_interval
        while not await poller.look_async():
            self.log.info("%s", poller)
            await asyncio.sleep(interval)
            if self.exponential_backoff:
                interval = min(interval * 2, self.max_wait or self.poke_interval * 1024)

    def _make_poller(self) -> VisibilityPoller:
        """Read the connection, which blocks: it asks the supervisor."""
        with _no_collection():
            from airflow_provider_mediquo.api.visibility.poller import VisibilityPoller

        return VisibilityPoller(MediquoHook(self.mediquo_conn_id).get_conn(), self.expected)

    def _seconds_left(self) -> float:
        deadline = datetime.fromisoformat(self.deadline)
        return max(0.0, (deadline - datetime.now(UTC)).total_seconds())


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep an import from triggering a full garbage collection.

    A collection stops every thread, including the event loop's, for 0.1 s with all that Airflow has
    loaded, and an import creates no garbage.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _failed(kind: type[Exception], detail: str) -> dict[str, Any]:
    return {"status": _FAILED, "kind": kind.__name__, "detail": detail}


def read_event(event: Mapping[str, Any] | None) -> None:
    """Return if the patients are visible. Any other event is an error, also an unknown one."""
    from airflow_provider_mediquo.api import errors

    found = event if isinstance(event, Mapping) else {}
    status, detail = found.get("status"), str(found.get("detail"))
    if status == _VISIBLE:
        return
    if status == _TIMED_OUT:
        raise AirflowSensorTimeout(f"Sensor has timed out.\n{detail}")
    if status == _FAILED:
        raise getattr(errors, str(found.get("kind")), errors.MediquoError)(detail)
    raise errors.MediquoError(f"The triggerer sent an unknown event ({status!r}).")
