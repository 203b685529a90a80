"""This provider, as a task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow.sdk import dag, task


@dag(schedule=None, params={"count": 100})
def provider_task() -> None:
    @task.mediquo_upsert
    def upsert(params: dict[str, int]) -> Iterator[dict[str, Any]]:
        from patients import patients

        yield from patients(params["count"])

    upsert()


provider_task()
