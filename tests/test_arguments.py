"""Options and arguments are spelled out: a type checker finds a misspelt one.

mypy checks this file. It complains about a `type: ignore` that no longer hides an error.
"""

import inspect
import re
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import pytest
from airflow.providers.common.compat.sdk import BaseOperator, BaseSensorOperator

from airflow_provider_mediquo.api.upload.options import UploadArguments, UploadOptions
from airflow_provider_mediquo.arguments import (
    MediquoArguments,
    SensorArguments,
    TaskArguments,
    UpsertArguments,
)
from airflow_provider_mediquo.decorators.mediquo_upsert import mediquo_upsert_task
from airflow_provider_mediquo.hooks.mediquo import MediquoHook
from airflow_provider_mediquo.operators.base import MediquoUpsertBaseOperator
from airflow_provider_mediquo.operators.patients import (
    MediquoGetPatientOperator,
    MediquoUpsertPatientsOperator,
)
from airflow_provider_mediquo.sensors.patients import MediquoPatientSensor
from airflow_provider_mediquo.transfers.file_to_mediquo import FileToMediquoOperator
from airflow_provider_mediquo.transfers.sql_to_mediquo import SqlToMediquoOperator

OPTIONS = {option.name for option in fields(UploadOptions)}
CALLBACKS = {"on_warn_callback"}  # of tasks alone
NO_DEFAULTS: Any = {
    "max_rejects": 1,
    "rejects_path": "rejects",
    "max_without_plan": 2,
    "columns": {"a": None},
    "chunk_size": 3,
    "max_in_flight": 4,
    "transform": dict,
    "omit_invalid": True,
    "phone_region": "ES",
    "min_records": 5,
    "state_conn_id": "state",
    "sync_name": "members",
    "on_missing": "unsubscribe",
    "max_unsubscribed": 6,
    "resend_after": timedelta(days=7),
    "receipts_for": timedelta(days=8),
    "as_of": "2026-01-02",
    "dry_run": True,
    "unsubscribed_report": True,
    "warn_rejects": 9,
}


def parameters(function: Any) -> dict[str, inspect.Parameter]:
    found = inspect.signature(function).parameters
    return {name: found[name] for name in found if name not in ("self", "args", "kwargs")}


def documented_default(page: str, name: str) -> str:
    """The last cell of the name's row, up to a colon."""
    text = (Path(__file__).parents[1] / "docs" / page).read_text(encoding="utf-8")
    row = re.search(rf"^\| `{name}` \|.*\| ([^|]+) \|$", text, re.MULTILINE)
    assert row, name
    return row[1].partition(":")[0].strip("`")


def mypy_accepts_options_and_arguments_of_airflow() -> None:
    MediquoHook().upsert_patients([], max_rejects=0.01, max_without_plan=None, rejects_name="a")
    MediquoUpsertPatientsOperator(task_id="a", patients=[], max_rejects="{{ 1 }}", retries=3)
    SqlToMediquoOperator(task_id="a", sql_conn_id="a", sql="a", chunk_size=50, pool="a")
    FileToMediquoOperator(task_id="a", path="a", columns={"a": None}, mediquo_conn_id="a")
    MediquoGetPatientOperator(task_id="a", code="a", fields=["code"], retries=3)
    MediquoPatientSensor(task_id="a", codes="a", soft_fail=True, mode="reschedule", retries=3)
    mediquo_upsert_task(max_rejects=1, retries=3)


def mypy_refuses_what_is_misspelt() -> None:
    MediquoHook().upsert_patients([], max_reject=1)  # type: ignore[call-arg]
    MediquoHook().upsert_patients([], max_rejects="1")  # type: ignore[arg-type]
    MediquoUpsertPatientsOperator(task_id="a", patients=[], max_reject=1)  # type: ignore[call-arg]
    MediquoUpsertPatientsOperator(task_id="a", patients=[], columns="a")  # type: ignore[arg-type]
    SqlToMediquoOperator(task_id="a", sql_conn_id="a", sql="a", chunk=50)  # type: ignore[call-arg]
    FileToMediquoOperator(task_id="a", path="a", retires=3)  # type: ignore[call-arg]
    MediquoGetPatientOperator(task_id="a", code="a", field=["code"])  # type: ignore[call-arg]
    MediquoPatientSensor(task_id="a", codes="a", soft_fial=True)  # type: ignore[call-arg]
    mediquo_upsert_task(max_reject=1)  # type: ignore[call-arg]


def test_each_option_is_an_argument_of_the_hook_with_the_same_type() -> None:
    of_options = {name: get_type_hints(UploadOptions)[name] for name in OPTIONS}
    assert get_type_hints(UploadArguments) == of_options


def test_each_option_is_an_argument_of_every_upsert() -> None:
    ours = {*UpsertArguments.__annotations__} - {*MediquoArguments.__annotations__}
    assert ours == OPTIONS | CALLBACKS
    assert {*parameters(MediquoUpsertBaseOperator.__init__)} == OPTIONS | CALLBACKS


def test_each_option_has_the_same_default_at_the_hook_and_at_an_operator() -> None:
    of_operators = parameters(MediquoUpsertBaseOperator.__init__)
    for option in fields(UploadOptions):
        assert of_operators[option.name].default == option.default, option.name


def test_each_option_of_an_operator_reaches_the_upload() -> None:
    given = UploadOptions(**NO_DEFAULTS)
    assert not [name for name in OPTIONS if getattr(given, name) == getattr(UploadOptions(), name)]
    operator = MediquoUpsertPatientsOperator(task_id="a", patients=[], **NO_DEFAULTS)
    context: Any = {"ti": SimpleNamespace(dag_id="clinic", task_id="a", map_index=-1)}
    assert operator._options(context) == given


@pytest.mark.parametrize("option", fields(UploadOptions), ids=lambda option: option.name)
def test_the_docs_give_exactly_that_default(option: Any) -> None:
    default = "none" if option.default is None else str(option.default)
    default = default.removesuffix(", 0:00:00")  # of a timedelta
    assert documented_default("operators.md", option.name) == default


@pytest.mark.parametrize("name", ["mediquo_conn_id", "poke_interval", "timeout"])
def test_the_docs_give_exactly_that_default_of_the_sensor(name: str) -> None:
    default = parameters(MediquoPatientSensor.__init__)[name].default
    assert documented_default("sensor.md", name) == str(default)


@pytest.mark.parametrize(
    ("listed", "operator", "spelled_out"),
    [
        (TaskArguments, BaseOperator, set()),
        (SensorArguments, BaseSensorOperator, {"poke_interval", "timeout"}),
    ],
)
def test_every_argument_of_airflows_own_class_is_listed(
    listed: Any, operator: Any, spelled_out: set[str]
) -> None:
    assert {*parameters(operator.__init__)} - spelled_out <= {*listed.__annotations__}
