"""What Airflow reads about the provider, and what reading it costs."""

import json
import pkgutil
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path

import airflow
import jsonschema
import pytest
from airflow.providers_manager import ProvidersManager

import airflow_provider_mediquo
from airflow_provider_mediquo.get_provider_info import get_provider_info

PACKAGE = Path(airflow_provider_mediquo.__file__).parent
INFO = get_provider_info()
ROLES = ("hooks", "operators", "sensors", "triggers")
MODULES = [
    name for _, name, _ in pkgutil.walk_packages([str(PACKAGE)], "airflow_provider_mediquo.")
]
IMPORTED_WHEN_USED = tuple(
    f"airflow_provider_mediquo.{part}"
    for part in ("api", "hooks.receipts", "hooks.reports", "hooks.state", "sandbox", "sources")
)
NAMES_FROM_AIRFLOW = """
from airflow.providers.common.compat.sdk import (
    AirflowFailException, AirflowPlugin, AirflowSensorTimeout, AirflowSkipException, BaseHook,
    BaseOperator, BaseOperatorLink, BaseSensorOperator, DecoratedOperator, XComArg, conf,
    determine_kwargs, task_decorator_factory,
)
from airflow.sdk import BaseNotifier
from airflow.sdk.log import mask_secret
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async
"""


def test_it_is_what_airflow_wants_it_to_be():
    path = Path(airflow.__file__).with_name("provider_info.schema.json")
    jsonschema.validate(INFO, json.loads(path.read_text(encoding="utf-8")))


def test_it_is_under_the_name_of_the_distribution():
    (entry_point,) = distribution(INFO["package-name"]).entry_points.select(
        group="apache_airflow_provider"
    )
    assert entry_point.load() is get_provider_info
    assert INFO["versions"] == [airflow_provider_mediquo.__version__]


def test_airflow_finds_the_provider():
    found = ProvidersManager().providers[INFO["package-name"]]
    assert found.version == airflow_provider_mediquo.__version__
    assert found.data["name"] == "mediQuo"


@pytest.mark.parametrize("role", ROLES)
def test_every_module_of_a_role_is_listed_and_nothing_else(role):
    listed = {name for entry in INFO[role] for name in entry["python-modules"]}
    helpers = {
        "airflow_provider_mediquo.hooks.connection",
        "airflow_provider_mediquo.hooks.database",
        "airflow_provider_mediquo.hooks.form",
        "airflow_provider_mediquo.hooks.receipts",
        "airflow_provider_mediquo.hooks.reports",
        "airflow_provider_mediquo.hooks.state",
        "airflow_provider_mediquo.operators.base",
        "airflow_provider_mediquo.operators.hidden",
        "airflow_provider_mediquo.operators.ledgers",
        "airflow_provider_mediquo.operators.task_names",
        "airflow_provider_mediquo.operators.link",
        "airflow_provider_mediquo.operators.rendered",
        "airflow_provider_mediquo.sensors.written",
    }
    assert listed == {n for n in MODULES if f".{role}." in n} - helpers
    for name in listed:
        import_module(name)


def test_every_transfer_is_listed():
    listed = {entry["python-module"] for entry in INFO["transfers"]}
    assert listed == {name for name in MODULES if ".transfers." in name}
    for name in listed:
        import_module(name)


@pytest.mark.parametrize(
    "path",
    [
        *(entry["hook-class-name"] for entry in INFO["connection-types"]),
        *(entry["class-name"] for entry in INFO["task-decorators"]),
        *INFO["notifications"],
        *INFO["extra-links"],
    ],
)
def test_every_class_that_is_named_can_be_imported(path):
    module, _, name = path.rpartition(".")
    assert callable(getattr(import_module(module), name))


def test_airflow_offers_the_decorator():
    from airflow.sdk import task

    from airflow_provider_mediquo.decorators.mediquo_upsert import mediquo_upsert_task

    assert task.mediquo_upsert is mediquo_upsert_task


def test_reading_it_imports_nothing(python):
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "from airflow_provider_mediquo.get_provider_info import get_provider_info\n"
        "get_provider_info()\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - sys.stdlib_module_names))"
    )
    assert python(code, "-W", "error").strip() == "['airflow_provider_mediquo']"


# In one process, because importing Airflow takes seconds. The modules of ours come in the order in which
# each has the fewest packages there already; each warning of one of them is an error.
IMPORT = """
import json, sys, warnings
from importlib import import_module

def imported(*modules):
    before = {*sys.modules}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in modules:
            import_module(name)
    new = {name.partition(".")[0] for name in {*sys.modules} - before}
    return sorted(new - sys.stdlib_module_names)

from airflow.providers.common.compat.sdk import AirflowPlugin
page = imported("airflow_provider_mediquo.plugins.mediquo_page")
exec(NAMES_FROM_AIRFLOW)
parsing = imported(*PARSED)
has_client = "airflow_provider_mediquo.api.client.client" in sys.modules
import requests, marshmallow, pendulum, tenacity, urllib3
import fastapi, pydantic, starlette, uvicorn
imported(*OTHERS)
print(json.dumps([page, parsing, has_client]))
"""


@pytest.fixture(scope="module")
def imported(python):
    """The packages that the page imports, those that a DAG adds, and whether it has our client."""
    parsed = [name for name in MODULES if not name.startswith(IMPORTED_WHEN_USED)]
    others = [name for name in MODULES if name not in parsed and not name.endswith("__main__")]
    names = {"PARSED": parsed, "OTHERS": others, "NAMES_FROM_AIRFLOW": NAMES_FROM_AIRFLOW}
    given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    return json.loads(python(given + IMPORT).splitlines()[-1])


def test_loading_the_page_imports_no_web_server(imported):
    page, _, _ = imported
    assert page == ["airflow_provider_mediquo"]


def test_parsing_a_dag_imports_no_package_that_airflow_has_not_imported(imported):
    _, parsing, has_client = imported
    assert (parsing, has_client) == (["airflow_provider_mediquo"], False)


def test_no_module_warns_when_it_is_imported(imported):
    assert imported
