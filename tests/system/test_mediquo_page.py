"""The page *Browse -> mediQuo* in a browser, in an Airflow with users who may see different things.

`SCREENSHOTS=folder` keeps the pictures that it takes on its way: `make screenshots`.
"""

import json
import os
import re
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from airflow_provider_mediquo.sandbox import Sandbox
from dev.local_airflow import Airflow, free_port, running_standalone
from tests.system.conftest import PAGE_TIMEOUT
from tests.system.deployment import at_start

SCRIPT = "<img src=x onerror=alert(1)><script>alert(2)</script>"
USERS = {"ada": "admin", "vic": "viewer", "nora": ""}  # without a role nothing may be read
NIGHTS = 65
DAGS = f'''
import pendulum
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow_provider_mediquo.operators.patients import MediquoUpsertPatientsOperator
from airflow_provider_mediquo.sensors.patients import MediquoPatientSensor

# A task that a busy machine is too slow to start is tried again.
patient = {{"retries": 5, "retry_delay": pendulum.duration(seconds=1)}}
start = {{"start_date": pendulum.datetime(2020, 1, 1), "schedule": None, "default_args": patient}}
people = [dict(code=f"m-{{n}}", first_name="Ada", phone="+44 7700 900123") for n in range(9)]
with DAG("real", **start):
    upsert = MediquoUpsertPatientsOperator(
        task_id="upsert", patients=[*people, dict(code="m-9", first_name="Ada", phone="12")],
        max_rejects=1, max_without_plan=None,
    )
    MediquoPatientSensor(task_id="wait", written=upsert.output, poke_interval=2)
with DAG("broken", start_date=start["start_date"], schedule=None):
    # As if it was killed: nothing was read.
    MediquoUpsertPatientsOperator(task_id="upsert", patients=people, mediquo_conn_id="none")
with DAG("nightly", is_paused_upon_creation=True, **start):
    EmptyOperator(task_id="sync")
    EmptyOperator(task_id="audit")
with DAG("hostile", dag_display_name="{SCRIPT}", is_paused_upon_creation=True, **start):
    EmptyOperator(task_id="sync", task_display_name="{SCRIPT}")
'''


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
        for name in ("real", "broken", "nightly", "hostile"):
            airflow.wait_for(f"the DAG {name}", partial(ask, airflow, f"dags/{name}"))
        yield airflow
        say("Stopping Airflow")
    nothing_left(home)


def prepare(home: Path, box: Sandbox) -> dict[str, str]:
    """Write the DAGs and the users, and return the settings."""
    (home / "dags").mkdir(exist_ok=True)
    at_start(home)
    (home / "dags" / "dags.py").write_text(DAGS)
    (home / "passwords.json").write_text(json.dumps({name: name for name in USERS}))
    connection = {"conn_type": "mediquo", "login": box.api_key, "password": box.secret_key}
    return {
        "AIRFLOW_CONN_MEDIQUO_DEFAULT": json.dumps({**connection, "host": box.url}),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(
            f"{name}:{role}" for name, role in USERS.items()
        ),
    }


@pytest.fixture
def below(airflow: Airflow, box: Sandbox, say: Callable[[str], None]) -> Iterator[Airflow]:
    """The same Airflow, served below a path by an API server of its own."""
    say("Starting an API server below /airflow")
    port = free_port()
    url = {"AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}/airflow"}
    below = Airflow(airflow.home, port, {**prepare(airflow.home, box), **url})
    below.page += "/airflow"
    try:
        below.start("below", "api-server")
        below.wait_for("it", partial(ask, below, "dags/real"))
        yield below
    finally:
        below.stop()


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


def ledger_of(night: int, **more: Any) -> dict[str, Any]:
    """A ledger of a sync of 20,000 members in which little changes."""
    sent = {"new": 40 + night, "changed": 300 + 7 * (night % 7), "resent": 20 * (night % 3)}
    rest = {"withheld": 0, "skipped": 5, "rejected": 3 + night % 5, "unsettled": 0}
    upserted = sum(sent.values())
    unchanged = 20_000 - upserted - sum(rest.values())
    phones = {"phone": {"prefix": 2 + night % 5}, "email": {"email": 1}}
    return {
        "read": 20_000,
        "upserted": upserted,
        **sent,
        **rest,
        "unchanged": unchanged,
        "unsubscribed": night % 4,
        "missing": 2,
        "missing_unsubscribed": 2,
        "missing_had_plan": min(2, night % 4),
        "without_plan": 2,
        "requests": 9,
        "retries": 1,
        "seconds": 40 + night / 2,
        "throttled_seconds": night % 9,
        "rejects_by_rule": phones,
        "rejects_path": f"/rejects/nightly/{night}.jsonl",
        "stopped_because": None,
        "sync": {"name": "members", "state_conn_id": "state"},
        **more,
    }


@pytest.fixture(scope="module")
def nights(airflow: Airflow, say: Callable[[str], None]) -> datetime:
    """Sixty-five runs, and two audits; returns the time of the last night."""
    say(f"Adding {NIGHTS} runs")
    last = datetime.now(UTC).replace(hour=3, minute=0, second=0, microsecond=0) - timedelta(days=1)
    for night in range(NIGHTS):
        time = last - timedelta(hours=6 * (NIGHTS - 1 - night))
        add_run(airflow, "nightly", f"night-{night}", time, mediquo_ledger=ledger_of(night))
    audit = {"known": 20_000, "checked": 300, "differ": 1, "not_found": 0, "fields": {"phone": 1}}
    audit |= {"codes": ["m-7"], "at_most": 0.0157, "confidence": 0.95}
    add_run(airflow, "nightly", "audit", last + timedelta(hours=1), mediquo_audit=audit)
    return last


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

    def visit(
        path: str, user: str | None = "ada", where: Airflow = airflow, **options: Any
    ) -> Page:
        usual = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}
        context = browser.new_context(**{**usual, **options})
        contexts.append(context)
        context.set_default_timeout(PAGE_TIMEOUT)
        if user:
            token = log_in(airflow, user)
            context.add_cookies([{"name": "_token", "value": token, "url": where.page}])
        page = context.new_page()
        page.on("console", note)
        page.on("dialog", refuse)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{where.page}{path}")
        return page

    yield visit
    for context in contexts:
        context.close()
    # A status that a test asks for, and the frame that Airflow makes.
    allowed = ("Failed to load resource", "An iframe which has both")
    assert [line for line in problems if not line.startswith(allowed)] == []


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


def test_it_has_the_theme_that_is_chosen_in_airflow(visit):
    page = visit("/plugin/mediquo", color_scheme="light")
    page.evaluate("localStorage.setItem('theme', 'dark')")  # as Airflow's menu does
    page.reload()
    expect(page.locator("html")).to_have_class(re.compile("dark"))
    body = page.frame_locator("iframe[title=mediQuo]").locator("body")
    expect(body).to_have_css("background-color", "rgb(21, 25, 28)")


def test_sixty_nights_are_bars_and_rows_and_one_can_be_opened(visit, nights, pictures):
    page = visit("/mediquo/?weeks=12", user="vic")
    audit = page.get_by_role("row").filter(has_text="nightly: audit")
    expect(audit).to_contain_text("1 of 3001.6% of 20,000 (95% confidence)phone 1")
    row = page.get_by_role("row").filter(has_text="nightly: sync")
    expect(row).to_contain_text("104 new, 307 changed, 20 resent, 19,557 unchanged")
    expect(row).not_to_contain_text("lost their plan")  # that night
    expect(row).to_contain_text(str(NIGHTS))
    row.get_by_role("link", name="nightly: sync").click()

    expect(page.get_by_role("status")).to_have_text(f"The last 60 runs of {NIGHTS}.")
    charts = page.get_by_role("img")
    expect(charts).to_have_count(3)
    for chart in charts.all():
        expect(chart.locator("a")).to_have_count(60)
        expect(chart).to_have_accessible_name(re.compile("of each run"))
    runs = page.get_by_role("table", name="Each run, the last one first")
    expect(runs.get_by_role("row")).to_have_count(61)
    expect(runs.get_by_role("row").nth(1)).to_contain_text("20,000104307")
    rejects = page.get_by_role("table", name="Rejected records by field and rule")
    expect(rejects).to_contain_text("phoneprefix240")
    lost = page.get_by_role("table", name="Patients that lost their plan, or would have")
    expect(lost.get_by_role("row")).to_have_count(61)
    page.set_viewport_size({"width": 1000, "height": 1000})
    page.screenshot(path=pictures / "page-task.png")

    charts.nth(1).locator("a").last.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("nightly: sync, night-64")
    expect(page.get_by_role("main")).to_contain_text("1 min 12 s, 1 s of it paused by mediQuo's")
    expect(page.get_by_role("main")).to_contain_text("/rejects/nightly/64.jsonl")
    page.screenshot(path=pictures / "page-run.png")


def test_it_works_with_the_keyboard_on_a_phone_in_the_dark(visit, nights):
    phone = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"}
    page = visit("/mediquo/?dag=nightly&task=sync", **phone)
    runs = page.get_by_role("table", name="Each run, the last one first")
    expect(runs).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 25, 28)"
    reached: list[str] = []
    first = runs.get_by_role("link").first.text_content()
    while first not in reached and len(reached) < 30:
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent"))
    assert reached[:2] == ["Skip to the content", "Airflow"]
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("nightly: sync, night-64")


@pytest.fixture(scope="module")
def run_id(airflow: Airflow, say: Callable[[str], None]) -> str:
    """A real run, which succeeded."""
    say("Running a DAG")
    run_id = ask(airflow, "dags/real/dagRuns", {"logical_date": None})["dag_run_id"]
    path = f"dags/real/dagRuns/{quote(run_id)}"
    ends = ("success", "failed")
    airflow.wait_for("the run", lambda: ask(airflow, path)["state"] in ends)
    assert ask(airflow, path)["state"] == "success"
    return str(run_id)


@pytest.mark.parametrize("server", ["airflow", "below"])
def test_a_runs_task_leads_to_it_and_it_leads_back_out_of_the_frame(visit, request, run_id, server):
    where = request.getfixturevalue(server)
    page = visit(f"/dags/real/runs/{quote(run_id)}/tasks/upsert/details", where=where)
    # Some versions open it in a window of its own.
    page.goto(page.get_by_role("link", name="mediQuo run").evaluate("link => link.href"))
    main = page.get_by_role("main")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"real: upsert, {run_id}")
    expect(main).to_contain_text("10 records read: 9 sent, 1 rejected.")
    expect(main).to_contain_text(re.compile(r"The task is in the state success, in try \d\."))
    sensor = main.get_by_role("link", name="The sensor wait (success)")
    expect(sensor).to_have_attribute("href", re.compile(f"^{where.page}/dags/real/"))

    page = visit("/plugin/mediquo", where=where)
    frame = page.frame_locator("iframe[title=mediQuo]")
    frame.get_by_role("link", name="real: upsert").click()
    # The first view has such links, too.
    expect(frame.get_by_role("heading", level=1)).to_have_text("real: upsert")
    frame.get_by_role("rowheader").get_by_role("link").first.click()
    frame.get_by_role("link", name="The log of this task").click()
    page.wait_for_url(re.compile(rf"^{where.page}/dags/real/runs/[^/]+/tasks/upsert"))
    expect(page.locator("iframe")).to_have_count(0)


def test_a_killed_run_is_shown_without_a_ledger(visit, airflow, nights):
    add_run(airflow, "nightly", "killed", nights + timedelta(hours=2))
    page = visit("/mediquo/?dag=nightly&task=sync&run=killed")
    expect(page.get_by_role("alert")).to_contain_text("This run has left no ledger")


def test_a_task_that_has_only_failed_is_listed_without_a_ledger(visit, airflow):
    night = datetime.now(UTC).isoformat()
    ask(airflow, "dags/broken/dagRuns", {"logical_date": None, "run_after": night})
    path = "dags/broken/dagRuns/~/taskInstances?state=failed"
    airflow.wait_for("the failure", lambda: ask(airflow, path)["task_instances"])
    page = visit("/mediquo/", user="vic")
    row = page.get_by_role("row").filter(has_text="broken: upsert")
    expect(row).to_contain_text("failed: no ledger")
    row.get_by_role("link").last.click()
    expect(page.get_by_role("alert")).to_contain_text("This run has left no ledger")
    expect(page.get_by_role("main")).to_contain_text("The task is in the state failed")


@pytest.mark.parametrize(
    "path",
    ["", "?dag=nightly&task=sync", "?dag=nightly&task=sync&run=night-64"],
    ids=["overview", "task", "run"],
)
@pytest.mark.parametrize(
    ("user", "told"), [("nora", "You may not read this."), (None, "You are not logged in.")]
)
def test_who_may_not_see_runs_sees_none(visit, nights, path, user, told):
    page = visit(f"/mediquo/{path}", user=user)
    expect(page.get_by_role("alert")).to_contain_text(told)
    expect(page.get_by_role("table")).to_have_count(0)
    assert "20,000" not in page.content()


def test_a_hostile_ledger_and_a_hostile_name_are_text(visit, airflow):
    ledger = ledger_of(
        1,
        **{"read": SCRIPT, SCRIPT: SCRIPT, "stopped_because": SCRIPT, "sync": {"name": SCRIPT}},
        rejects_by_rule={SCRIPT: {SCRIPT: 3}, "__proto__": {"constructor": 1}},
        rejects_path="javascript:alert(3)",
        receipt={"fields": [SCRIPT, {}], "recipient": "javascript:alert(4)"},
    )
    night = datetime.now(UTC) - timedelta(days=1)
    add_run(airflow, "hostile", "all", night, mediquo_ledger=ledger)
    for number, value in enumerate((SCRIPT, None, [ledger], "{", {"new": {}, "seconds": "1"})):
        time = night - timedelta(hours=number + 1)
        add_run(airflow, "hostile", f"odd-{number}", time, mediquo_ledger=value)
    page = visit("/mediquo/")
    expect(page.get_by_role("link", name=f"{SCRIPT}: {SCRIPT}")).to_be_visible()
    page.goto(f"{airflow.page}/mediquo/?dag=hostile&task=sync")
    expect(page.get_by_role("cell", name=SCRIPT).first).to_have_text(SCRIPT)
    page.goto(f"{airflow.page}/mediquo/?dag=hostile&task=sync&run=all")
    expect(page.get_by_role("main")).to_contain_text(f"It ended early: {SCRIPT}")
    expect(page.get_by_role("main")).to_contain_text("javascript:alert(3)")
    for number in range(5):
        page.goto(f"{airflow.page}/mediquo/?dag=hostile&task=sync&run=odd-{number}")
        expect(page.get_by_role("main")).to_contain_text("0 records read")
    page.goto(
        f"{airflow.page}/mediquo/?dag={quote(SCRIPT)}&task={quote(SCRIPT)}&run={quote(SCRIPT)}"
    )
    expect(page.get_by_role("heading", level=1)).to_contain_text(SCRIPT)


def test_ids_that_airflow_would_not_accept_are_text_too(visit, airflow):
    entry = {"run_id": "javascript:alert(1)", "map_index": -1, "run_after": SCRIPT, "key": SCRIPT}
    entries = [{**entry, "dag_id": dag, "task_id": SCRIPT} for dag in ("..", SCRIPT, "../../x")]
    asked = []

    def answer(route: Route) -> None:
        asked.append(urlsplit(route.request.url).path)
        body: dict[str, Any] = {"xcom_entries": entries, "total_entries": len(entries)}
        if route.request.url.endswith("_ledger"):
            body = {"value": {"read": 1}}
        route.fulfill(json=body)

    page = visit("/mediquo/none")
    page.route("**/api/v2/**", answer)
    page.goto(f"{airflow.page}/mediquo/")
    expect(page.get_by_role("link", name=f"../../x: {SCRIPT}").first).to_be_visible()
    expect(page.get_by_role("link", name=f"{SCRIPT}: {SCRIPT}").first).to_be_visible()
    assert all(path.startswith("/api/v2/dags/") for path in asked)
    assert not [path for path in asked if ".." in path.split("/")]
    links = page.get_by_role("link").evaluate_all("links => links.map(link => link.href)")
    assert all(link.startswith(f"{airflow.page}/") for link in links), links


@pytest.mark.parametrize(
    ("status", "told"),
    [(500, "Airflow answered with an error (500)"), (0, "Airflow does not answer")],
)
def test_an_airflow_that_fails_is_told(visit, airflow, status, told):
    page = visit("/mediquo/none")
    page.route("**/api/v2/**", lambda r: r.fulfill(status=status) if status else r.abort())
    page.goto(f"{airflow.page}/mediquo/")
    expect(page.get_by_role("alert")).to_contain_text(told)
