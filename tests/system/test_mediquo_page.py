"""The page *Browse -> mediQuo* in a browser, in an Airflow with users who may see different things.

`SCREENSHOTS=folder` keeps the pictures that it takes on its way: `make screenshots`.
"""

import json
import os
import re
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from airflow_provider_mediquo.sandbox import Sandbox
from dev.local_airflow import Airflow, free_port, running_standalone

TIMEOUT = 60_000  # milliseconds, for anything on a page
SCRIPT = "<img src=x onerror=alert(1)><script>alert(2)</script>"
USERS = {"ada": "admin", "vera": "viewer"}
NIGHTS = 65
DAGS = f'''
import pendulum
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow_provider_mediquo.operators.patients import MediquoUpsertPatientsOperator
from airflow_provider_mediquo.sensors.patients import MediquoPatientSensor

start = {{"start_date": pendulum.datetime(2020, 1, 1), "schedule": None}}
people = [dict(code=f"m-{{n}}", first_name="Ada", phone="+44 7700 900123") for n in range(9)]
with DAG("real", **start):
    upsert = MediquoUpsertPatientsOperator(
        task_id="upsert", patients=[*people, dict(code="m-9", first_name="Ada", phone="12")],
        max_rejects=1, max_without_plan=None,
    )
    MediquoPatientSensor(task_id="wait", written=upsert.output, poke_interval=2)
with DAG("nightly", is_paused_upon_creation=True, **start):
    EmptyOperator(task_id="sync")
    EmptyOperator(task_id="audit")
with DAG("hostile", dag_display_name="{SCRIPT}", is_paused_upon_creation=True, **start):
    EmptyOperator(task_id="sync", task_display_name="{SCRIPT}")
'''
AUTH = """
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

class NoXComsForViewers(SimpleAuthManager):
    def is_authorized_dag(self, *, access_entity=None, user, **kwargs):
        if access_entity and access_entity.name == "XCOM" and user.get_role() == "VIEWER":
            return False
        return super().is_authorized_dag(access_entity=access_entity, user=user, **kwargs)
"""


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(port=free_port(8484), lag=0) as box:
        yield box


@pytest.fixture(scope="module")
def airflow(tmp_path_factory, box, say, nothing_left) -> Iterator[Airflow]:
    home = tmp_path_factory.mktemp("airflow")
    say("Starting Airflow")
    with running_standalone(home, prepare(home, box)) as airflow:
        airflow.wait_until_ready()
        for name in ("real", "nightly", "hostile"):
            airflow.wait_for(f"the DAG {name}", lambda name=name: ask(airflow, f"dags/{name}"))
        yield airflow
        say("Stopping Airflow")
    nothing_left(home)


def prepare(home: Path, box: Sandbox) -> dict[str, str]:
    """Write the DAGs and the users, and return the settings."""
    (home / "dags").mkdir(exist_ok=True)
    (home / "dags" / "dags.py").write_text(DAGS)
    (home / "no_xcoms.py").write_text(AUTH)
    (home / "passwords.json").write_text(json.dumps({name: name for name in USERS}))
    connection = {"conn_type": "mediquo", "login": box.api_key, "password": box.secret_key}
    return {
        "AIRFLOW_CONN_MEDIQUO_DEFAULT": json.dumps({**connection, "host": box.url}),
        "AIRFLOW__CORE__AUTH_MANAGER": "no_xcoms.NoXComsForViewers",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(
            f"{name}:{role}" for name, role in USERS.items()
        ),
        "PYTHONPATH": str(home),
    }


def ask(airflow: Airflow, path: str, body: Any = None) -> Any:
    """Use the REST API as an admin."""
    token = log_in(airflow, "ada")
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{airflow.page}/api/v2/{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())
    except HTTPError as error:
        error.add_note(error.read().decode())
        raise


TOKENS: dict[str, str] = {}


def log_in(airflow: Airflow, name: str) -> str:
    if name not in TOKENS:
        body = json.dumps({"username": name, "password": name}).encode()
        request = urllib.request.Request(
            f"{airflow.page}/auth/token", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            TOKENS[name] = json.loads(answer.read())["access_token"]
    return TOKENS[name]


def add_run(
    airflow: Airflow, dag_id: str, run_id: str, night: datetime, **xcoms: dict[str, Any]
) -> None:
    """Add a run with XComs: `mediquo_ledger={...}` of the task `sync`, `mediquo_audit` of `audit`."""
    times = {"logical_date": night.isoformat(), "run_after": night.isoformat()}
    ask(airflow, f"dags/{dag_id}/dagRuns", {"dag_run_id": run_id, **times})
    for key, value in xcoms.items():
        task = "audit" if key == "mediquo_audit" else "sync"
        path = f"dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task}/xcomEntries"
        ask(airflow, path, {"key": key, "value": value})


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "There is no chromium here: `make test-system` installs it."
    expect.set_options(timeout=TIMEOUT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, airflow: Airflow) -> Iterator[Callable[..., Page]]:
    """Open a page as a user; fails if anything runs, or is refused, that should not."""
    contexts, problems = [], []

    def note(message: Any) -> None:
        if message.type in ("error", "warning") and "/mediquo/" in message.location["url"]:
            problems.append(message.text)

    def refuse(dialog: Any) -> None:
        problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def visit(path: str, user: str | None = "ada", **options: Any) -> Page:
        usual = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}
        context = browser.new_context(**{**usual, **options})
        contexts.append(context)
        context.set_default_timeout(TIMEOUT)
        if user:
            token = log_in(airflow, user)
            context.add_cookies([{"name": "_token", "value": token, "url": airflow.page}])
        page = context.new_page()
        page.on("console", note)
        page.on("dialog", refuse)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{airflow.page}{path}")
        return page

    yield visit
    for context in contexts:
        context.close()
    allowed = "Failed to load resource"  # a status that a test asks for
    assert [line for line in problems if allowed not in line] == []


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where screenshots go."""
    return Path(os.environ.get("SCREENSHOTS", tmp_path))


def test_the_menu_leads_to_it_and_without_a_run_it_says_so(visit):
    page = visit("/")
    page.get_by_role("button", name="Browse").click()
    page.get_by_role("menuitem", name="mediQuo").click()
    frame = page.frame_locator("iframe[title=mediQuo]")
    expect(frame.get_by_role("status")).to_have_text(
        "No run in 4 weeks has left a ledger that you may see."
    )
    expect(frame.get_by_role("table")).to_have_count(0)


def test_debug(visit):
    page = visit("/mediquo/")
    print(page.content())
