"""`HttpOperator`, mapped over chunks of patients."""

from __future__ import annotations

from airflow.providers.http.operators.http import HttpOperator
from airflow.sdk import dag, task


@dag(schedule=None, params={"count": 100})
def http_operator_mapped() -> None:
    @task
    def bodies(params: dict[str, int]) -> list[str]:
        import json

        from patients import chunks

        return [json.dumps({"patients": chunk}) for chunk in chunks(params["count"])]

    HttpOperator.partial(
        task_id="upsert",
        http_conn_id="mediquo_http",
        method="PUT",
        endpoint="patients",
        headers={"Content-Type": "application/json"},
    ).expand(data=bodies())


http_operator_mapped()
