"""Wait in the triggerer until mediQuo shows patients."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSensorTimeout
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_mediquo.hooks.mediquo import MediquoHook

if TYPE_CHECKING:
    from airflow_provider_mediquo.api.visibility.poller import VisibilityPoller

_VISIBLE, _TIMED_OUT, _FAILED = "visible", "timed out", "failed"


class MediquoPatientTrigger(BaseTrigger):
    """Looks again and again, within the pace, and never writes: it may run twice.

    :param wanted: code -> proof of what was written, or None where it only has to exist.
    :param poke_interval: seconds between two looks.
    :param deadline: when to give up, as ISO 8601 with its zone; absolute, because a duration
        would begin anew when the triggerer restarts.
    :param exponential_backoff: double the seconds after each look, to `max_wait` at most.
    """

    def __init__(
        self,
        *,
        mediquo_conn_id: str,
        wanted: dict[str, str | None],
        poke_interval: float,
        deadline: str,
        exponential_backoff: bool = False,
        max_wait: float | None = None,
    ) -> None:
        super().__init__()
        self.mediquo_conn_id = mediquo_conn_id
        self.wanted = wanted
        self.poke_interval = poke_interval
        self.deadline = deadline
        self.exponential_backoff = exponential_backoff
        self.max_wait = max_wait

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what it is made of anew from: names, numbers, codes and proofs."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "mediquo_conn_id": self.mediquo_conn_id,
                "wanted": self.wanted,
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
        from airflow_provider_mediquo.api.errors import MediquoError

        watch: VisibilityPoller | None = None
        try:
            async with asyncio.timeout(self._seconds_left()) as limit:
                watch = await sync_to_async(self._make_watch)()
                await self._wait(watch)
        except TimeoutError:
            if not limit.expired():
                raise
            detail = str(watch) if watch else "The wait ended while no triggerer was looking."
            return {"status": _TIMED_OUT, "detail": detail}
        except MediquoError as error:
            return {"status": _FAILED, "kind": type(error).__name__, "detail": str(error)}
        finally:
            if watch:
                watch.close()
        return {"status": _VISIBLE}

    async def _wait(self, watch: VisibilityPoller) -> None:
        interval = self.poke_interval
        while not await watch.look_async():
            self.log.info("%s", watch)
            await asyncio.sleep(interval)
            if self.exponential_backoff:
                interval = min(interval * 2, self.max_wait or self.poke_interval * 1024)

    def _make_watch(self) -> VisibilityPoller:
        """Read the connection, in a thread: it asks the supervisor."""
        with _no_collection():
            from airflow_provider_mediquo.api.visibility.poller import VisibilityPoller

        return VisibilityPoller(MediquoHook(self.mediquo_conn_id).get_conn(), self.wanted)

    def _seconds_left(self) -> float:
        deadline = datetime.fromisoformat(self.deadline)
        return max(0.0, (deadline - datetime.now(UTC)).total_seconds())


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep an import from setting off a full garbage collection.

    A collection stops every thread, the event loop's too: 0.1 s for all that Airflow has loaded,
    and none of what an import makes is garbage.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def read_event(event: Mapping[str, Any] | None) -> None:
    """Return if the patients are visible; anything else, the unknown too, is an error."""
    from airflow_provider_mediquo.api import errors

    status, detail = (event or {}).get("status"), str((event or {}).get("detail"))
    if status == _VISIBLE:
        return
    if status == _TIMED_OUT:
        raise AirflowSensorTimeout(f"Sensor has timed out. {detail}")
    kind = getattr(errors, str((event or {}).get("kind")), errors.MediquoError)
    raise kind(
        detail if status == _FAILED else f"The triggerer sent an unknown event ({status!r})."
    )
