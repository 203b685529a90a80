"""What has to hold on every supported Airflow: `make versions` runs this file on the older ones.

Airflow runs in processes of its own, so that this needs nothing of one version's test helpers.
"""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from airflow_provider_mediquo.get_provider_info import CONNECTION_TYPE, get_provider_info
from airflow_provider_mediquo.sandbox import Sandbox

EXAMPLES = Path(__file__).parents[1] / "example_dags"

IMPORT_ALL = """
import importlib, json, sys
for name in json.load(sys.stdin):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        getattr(importlib.import_module(module), attribute)
"""

PRINT_FORM = """
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
hooks = [hook for hook in HookMetaService.hook_meta_data() if hook.connection_type == "mediquo"]
print(hooks[0].model_dump_json())
"""

RUN_DAG = """
import sys
try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # 3.1
    from airflow.models.dagbag import DagBag
run = DagBag(sys.argv[1]).dags[sys.argv[2]].test(run_conf={"rejects": sys.argv[3]})
print("ended:", str(run.state))
"""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """Run Python code in an Airflow with a database; give what it prints."""
    settings = {
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")),
        "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }

    def run(*arguments, stdin="", **variables):
        done = subprocess.run(
            [sys.executable, *arguments],
            input=stdin,
            env=os.environ | settings | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    run("-m", "airflow", "db", "migrate")
    return run


def test_everything_in_the_metadata_can_be_imported(airflow):
    info = get_provider_info()
    modules = [
        module
        for kind in ("hooks", "operators", "sensors", "triggers")
        for entry in info[kind]
        for module in entry["python-modules"]
    ]
    modules += [entry["python-module"] for entry in info["transfers"]]
    classes = [entry["class-name"] for entry in info["task-decorators"]]
    names = [*modules, *classes, CONNECTION_TYPE["hook-class-name"]]

    airflow("-c", IMPORT_ALL, stdin=json.dumps(names))


def test_airflow_shows_the_form_that_was_declared(airflow):
    printed = airflow("-c", PRINT_FORM)
    form = json.loads(next(line for line in printed.splitlines() if line.startswith("{")))

    assert form["hook_name"] == "mediQuo"
    for name, field in CONNECTION_TYPE["conn-fields"].items():
        shown = form["extra_fields"][name]
        assert shown["schema"]["title"] == field["label"]
        assert shown["schema"]["type"] == field["schema"]["type"]
        assert shown["description"] == field["description"]
        assert shown["value"] == field["schema"]["default"]
    behaviour = CONNECTION_TYPE["ui-field-behaviour"]
    standard = form["standard_fields"]
    for name in ("login", "password", "host"):
        assert standard[name]["title"] == behaviour["relabeling"][name]
    for name, placeholder in behaviour["placeholders"].items():
        assert standard[name]["placeholder"] == placeholder
    assert standard["url_schema"]["hidden"]


def test_the_nightly_example_upserts_defers_and_succeeds(airflow, tmp_path):
    with Sandbox(lag=0, latency=0) as box:
        # The first look finds none of the 20, so that the second is the triggerer's.
        box.script("get", *["404"] * 20)
        printed = airflow(
            *("-c", RUN_DAG, str(EXAMPLES), "mediquo_nightly", str(tmp_path)),
            AIRFLOW_CONN_MEDIQUO_DEFAULT=json.dumps(box.connection),
        )

        assert "ended: success" in printed
        assert "DEFERRED" in printed
        assert len(box.patients) == 292
        assert box.counters.requests["get"] == {"404": 20, "200": 20}
    (rejects,) = tmp_path.rglob("*.jsonl")
    assert len(rejects.read_text().splitlines()) == 8


def test_a_table_and_files_are_read(airflow, tmp_path):
    with closing(sqlite3.connect(tmp_path / "warehouse.db")) as warehouse:
        columns = "first_name, last_name, gender, birth_date, tax_id, email, phone, product, locale"
        warehouse.execute(f"CREATE TABLE members (member_id, {columns})")
        warehouse.execute(
            "INSERT INTO members (member_id, first_name) VALUES (1, 'Ada'), (2, 'Bo')"
        )
        warehouse.commit()
    connection = {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")}
    for name, count in (("mediquo_warehouse", 2), ("mediquo_files", 292)):
        with Sandbox(lag=0, latency=0) as box:
            printed = airflow(
                *("-c", RUN_DAG, str(EXAMPLES), name, str(tmp_path)),
                AIRFLOW_CONN_MEDIQUO_DEFAULT=json.dumps(box.connection),
                AIRFLOW_CONN_WAREHOUSE=json.dumps(connection),
            )
            assert "ended: success" in printed
            assert len(box.patients) == count
