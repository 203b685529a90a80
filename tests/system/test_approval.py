"""The example that asks before many lose their plan, on a whole deployment: approved and refused.

Somebody clicks in Airflow's UI, or answers through its REST API.
"""

import json
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from airflow_provider_mediquo.sandbox import Sandbox
from tests.system.canaries import PATIENT, kinds_in
from tests.system.conftest import PAGE_TIMEOUT
from tests.system.deployment import IMPORTS, copy_examples, running_deployment, variant

APPROVAL, SHORT = "mediquo_approval", "approval_with_a_short_time"
MOMENT = 5  # seconds: before that, Airflow may take the pause for a failure
WAITS = ("awaiting_input", "deferred")
MEMBERS = 200
ASKED = {"plan": "success", "compare_with_guard": "success", "approve": "success"}
REFUSED = ASKED | {"apply": "skipped", "wait_until_visible": "skipped"}
FILL = """
INSERT INTO members
SELECT n, %s || n, %s, %s, 'female', %s, NULL, NULL, NULL, %s, 'es'
FROM generate_series(1, %s) AS n
"""


@pytest.fixture(scope="module")
def box():
    with Sandbox(latency=0, lag=0, requests_per_minute=1_000_000) as box:
        yield box


@pytest.fixture(scope="module")
def warehouse(postgres):
    with postgres.fresh() as database:
        names = "member_id first_name last_name gender birth_date tax_id email phone product locale"
        columns = ", ".join(f"{name} text" for name in names.split())
        database.run(f"CREATE TABLE members (id int, {columns})")
        yield database


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("approval")
    dags = copy_examples(home)
    variant(dags, APPROVAL, SHORT, dagrun_timeout="duration(seconds=60)")
    return home


@pytest.fixture(scope="module")
def airflow(home, box, postgres, warehouse, say, nothing_left):
    connections = {
        "mediquo_default": box.connection,
        "warehouse": warehouse.connection,
        "mediquo_state": warehouse.connection,
    }
    settings = {"MEDIQUO_REJECTS": str(home / "rejects")}
    with postgres.fresh() as database:
        say("Starting API server, scheduler, DAG processor and triggerer on PostgreSQL")
        with running_deployment(home, database, connections, settings, imports=IMPORTS) as airflow:
            airflow.wait_until_ready(APPROVAL, SHORT)
            yield airflow
            say("Stopping them")
    nothing_left(home)


@pytest.fixture
def members(airflow, box, warehouse, say):
    """Members that mediQuo has. Five of them have no plan any more: more than one in a hundred."""
    box.reset()
    warehouse.run("DELETE FROM members")
    warehouse.run("DROP TABLE IF EXISTS mediquo_member, mediquo_sync, mediquo_state")
    values = [PATIENT[name] for name in ("code", "first_name", "last_name", "birth_date", "plan")]
    warehouse.run(FILL, [*values, MEMBERS])
    run = airflow.trigger(APPROVAL)
    assert run.follow(say=say) == "success"
    assert states(run)["approve"] == "skipped"
    assert len(box.patients) == MEMBERS
    lose_plans(warehouse, 5)


def lose_plans(warehouse, count):
    warehouse.run("UPDATE members SET product = NULL WHERE id <= %s", [count])


def without_plan(box):
    return sum(not patient["plan"] for patient in box.patients.values())


def states(run):
    return {task["task_id"]: task["state"] for task in run.tasks()}


def details(run):
    return f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/approve/-1/hitlDetails"


@pytest.fixture
def ask(airflow, say):
    """Run it until it waits for an answer; a test that fails leaves none that waits on."""
    runs = []

    def ask(dag_id=APPROVAL):
        run = airflow.trigger(dag_id)
        runs.append(run)
        run.wait_for("the question", lambda: states(run)["approve"] in WAITS)
        say(run.progress())
        time.sleep(MOMENT)
        return run

    yield ask
    for run in runs:
        if states(run)["approve"] in WAITS:
            answer(airflow, run, "Reject")


def answer(airflow, run, option):
    airflow.ask(details(run), {"chosen_options": [option], "params_input": {}}, "PATCH")


@pytest.fixture(scope="module")
def page(browser):
    page = browser.new_page()
    page.set_default_timeout(PAGE_TIMEOUT)
    return page


def click(page, run, option):
    """Answer as a person does, in Airflow's UI."""
    page.goto(f"{run.page}/tasks/approve/required_actions")
    expect(page.get_by_text("5 members would lose their plan.")).to_be_visible()
    with page.expect_response(lambda response: response.request.method == "PATCH"):
        page.get_by_role("button", name=option).click()
    page.goto("about:blank")  # a page of Airflow's takes CPU as long as it is open


def test_what_was_approved_is_done(page, airflow, ask, box, members, say):
    run = ask()
    assert without_plan(box) == 0
    click(page, run, "Approve")
    assert run.follow(say=say) == "success"
    assert states(run) == {**ASKED, "apply": "success", "wait_until_visible": "success"}
    assert run.xcom("apply")["unsubscribed"] == without_plan(box) == 5


def test_the_question_holds_counts_and_nothing_of_a_patient(airflow, ask, members, home, say):
    run = ask()
    question = airflow.ask(details(run))
    assert "**5 members would lose their plan.**" in question["body"]
    assert "- withheld: 5" in question["body"]
    assert kinds_in(json.dumps(question)) == set()
    assert kinds_in(run.log("plan", 1)) == set()
    answer(airflow, run, "Reject")
    assert run.follow(say=say) == "success"
    report = Path(run.xcom("plan")["rejects_path"])
    assert report.is_relative_to(home)
    assert kinds_in(report.read_text()) == {"codes"}, "who it is about"


def test_after_a_rejection_nothing_is_sent(page, ask, box, members, warehouse, say):
    warehouse.run("UPDATE members SET first_name = 'Ada' WHERE id > 100")
    accepted = box.counters.accepted
    run = ask()
    click(page, run, "Reject")
    assert run.follow(say=say) == "success"
    assert states(run) == REFUSED
    assert box.counters.accepted == accepted


def test_a_source_that_has_grown_since_is_refused(airflow, ask, box, members, warehouse, say):
    run = ask()
    lose_plans(warehouse, 6)
    warehouse.run("UPDATE members SET first_name = 'Ada' WHERE id = 100")
    answer(airflow, run, "Approve")
    assert run.follow(say=say) == "failed"
    assert states(run)["apply"] == "failed"
    assert without_plan(box) == 0
    assert box.patients[f"{PATIENT['code']}100"]["first_name"] == "Ada", "all else is sent"
    assert "max_unsubscribed=6" in run.log("apply", 1)


def test_without_an_answer_the_run_fails_and_nothing_is_sent(airflow, ask, box, members, say):
    accepted = box.counters.accepted
    run = ask(SHORT)
    assert run.follow(say=say) == "failed"
    assert states(run)["apply"] != "success"
    assert box.counters.accepted == accepted
