"""A notification has names and counts, whatever the run was about."""

import asyncio
import json
import re
import socketserver
import sys
import threading
from email import message_from_bytes
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from airflow.sdk import DAG, BaseNotifier

from airflow_provider_mediquo.notifications.mediquo import MediquoNotifier, ledger_text
from airflow_provider_mediquo.operators.patients import MediquoUpsertPatientsOperator
from tests.support.airflow_runner import RUN_ID, DagSerialization

pytestmark = [
    # Airflow's own, inside `dag.test()`.
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:'HTTP_422_UNPROCESSABLE_ENTITY':DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`"),
]

PAGE = (Path(__file__).parents[2] / "docs" / "notifications.md").read_text(encoding="utf-8")
TOLD: list[str] = []


@pytest.fixture(autouse=True)
def nobody_told():
    TOLD.clear()


def note(context):
    TOLD.append(context["mediquo"])


class Slack(BaseNotifier):
    """What of Slack's notifier the recipes use; its package is not among those of the tests."""

    template_fields = ("text",)

    def __init__(self, *, slack_webhook_conn_id="slack_default", text, **kwargs):
        super().__init__(**kwargs)
        assert slack_webhook_conn_id == "slack"
        self.text = text

    def notify(self, context):
        TOLD.append(self.text)

    async def async_notify(self, context):
        TOLD.append(self.text)


def upsert(patients, tell=None, **options):
    tell = tell or MediquoNotifier(note)
    names = ("on_failure_callback", "on_retry_callback", "on_success_callback", "on_warn_callback")
    given = {**dict.fromkeys(names, tell), **options}
    return MediquoUpsertPatientsOperator(task_id="upsert", patients=patients, **given)


@pytest.mark.usefixtures("dag")
def test_a_task_that_fails(box, run_task, people):
    run = run_task(upsert([*people(3), {"code": "bad"}]))
    assert run.state == "failed"
    head = f"mediQuo: {run.task.dag_id}.upsert of {RUN_ID} failed (TooManyRejectsError)."
    assert [f"{head}\n4 read, 3 upserted, 1 rejected"] == TOLD


@pytest.mark.usefixtures("dag", "no_backoff")
def test_a_task_that_is_tried_again(box, run_task, people):
    box.script("upsert", *["503"] * 50)
    run = run_task(upsert(people(3)))
    assert run.state == "up_for_retry"
    assert TOLD[0].endswith("failed (ServerError).\n3 read, 3 unsettled")


@pytest.mark.usefixtures("dag")
def test_a_mapped_task_that_warns(box, run_task, people):
    partial = MediquoUpsertPatientsOperator.partial(
        task_id="upsert", max_rejects=1, warn_rejects=0, on_warn_callback=MediquoNotifier(note)
    )
    run = run_task(partial.expand(patients=[[*people(1, plan=""), {"code": "bad"}]]), map_index=0)
    assert run.state == "success"
    assert TOLD[0].endswith(
        f".upsert[0] of {RUN_ID} succeeded, with more rejects than `warn_rejects`.\n"
        "2 read, 1 upserted, 1 rejected, 1 without_plan"
    )


@pytest.mark.no_cover
def test_a_task_that_succeeds_or_dry_runs(box, run_dag, people):
    with DAG("told", schedule=None) as dag:
        upsert(people(2), dry_run=True)
    assert run_dag(dag)["upsert"][0] == "success"
    assert re.fullmatch(
        r"mediQuo: told\.upsert of \S+ succeeded, dry run\.\n2 read, 2 upserted", TOLD[0]
    )


@pytest.mark.no_cover
def test_each_mapped_task_that_succeeds_reports_its_own_counts(box, run_dag, people):
    with DAG("mapped", schedule=None) as dag:
        partial = MediquoUpsertPatientsOperator.partial(
            task_id="upsert", on_success_callback=MediquoNotifier(note)
        )
        partial.expand(patients=[people(1), people(2)])
    assert {state for state, _ in run_dag(dag).values()} == {"success"}
    told = [text.splitlines()[-1] for text in sorted(TOLD)]
    assert told == ["1 read, 1 upserted", "2 read, 2 upserted"]


@pytest.mark.usefixtures("dag")
def test_a_task_without_a_ledger(box, run_task, people):
    run = run_task(upsert(people(1), chunk_size=1000))
    assert run.state == "failed"
    assert TOLD[0].endswith("failed (AirflowFailException).\nno ledger")


def test_where_airflow_calls_back_without_the_task():
    """Of a task that died the scheduler knows, and the callback gets a text in place of an error."""

    def pull(**_):
        raise RuntimeError("no supervisor")

    ti = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, xcom_pull=pull)
    assert (
        ledger_text({"ti": ti, "exception": "m-1 died"}) == "mediQuo: d.t of r failed.\nno ledger"
    )


@pytest.mark.usefixtures("dag")
@pytest.mark.parametrize("how", ["rejects", "source", "warning"])
def test_no_code_and_no_value_is_in_it(box, run_task, how):
    seen = []

    def look(context):
        seen.append(repr({**context, "ti": None, "task_instance": None, "task": None, "dag": None}))

    def records():
        yield {"code": "canaryinamine-1", "first_name": "Canaryinamine", "plan": "canaryinamine"}
        yield {"code": "canaryinamine-2", "first_name": "Canaryinamine", "email": "canaryinamine"}
        if how == "source":
            raise LookupError("canaryinamine-1")

    shown = Slack(slack_webhook_conn_id="slack", text="{{ mediquo }} {{ exception }} {{ report }}")
    tell = MediquoNotifier(shown, look, note)
    limits = {"max_rejects": 1, "warn_rejects": 0} if how == "warning" else {}
    run = run_task(upsert(records(), tell, **limits))
    assert run.state == {"rejects": "failed", "source": "up_for_retry", "warning": "success"}[how]
    assert len(TOLD) == (4 if how == "warning" else 2)  # it succeeds, too
    assert "2 read" in TOLD[0]
    assert "canaryinamine" not in "\n".join([*TOLD, *seen]).lower()


@pytest.mark.usefixtures("dag")
def test_each_notifier_is_called_whatever_the_others_do(box, run_task, people):
    def failing(why):
        def fail(context):
            raise RuntimeError(why)

        return fail

    notifiers = failing("the pager is off"), note, failing("no such channel"), note
    run = run_task(upsert([{"code": "bad"}, *people(1)], MediquoNotifier(*notifiers)))
    assert run.state == "failed"
    assert len(TOLD) == 2
    assert "the pager is off" in run.log
    assert "no such channel" in run.log


# --- the recipes ----------------------------------------------------------------------------------


def recipe(heading):
    (code,) = re.findall(rf"^## {heading}$.*?^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return code


@pytest.fixture
def slack(monkeypatch):
    """Slack's provider, if it is not there."""
    name = "airflow.providers.slack.notifications.slack_webhook"
    for at in range(3, 6):
        part = ".".join(name.split(".")[:at])
        monkeypatch.setitem(sys.modules, part, ModuleType(part))
    sys.modules[name].SlackWebhookNotifier = Slack


def run_recipe(heading, run_task, patients):
    made = []
    code = recipe(heading).replace("MediquoUpsertPatientsOperator(", "made(")

    def make(**options):
        made.append(MediquoUpsertPatientsOperator(**options))

    exec(code, {"read_members": lambda: patients, "made": make})
    return run_task(made[0])


@pytest.mark.usefixtures("dag", "slack")
@pytest.mark.parametrize(("good", "state"), [(40, "success"), (1, "failed")])
def test_slack(box, run_task, people, good, state):
    run = run_recipe("Slack", run_task, [*people(good), {"code": "bad"}])
    assert run.state == state
    assert [text.splitlines()[-1] for text in TOLD] == [
        f"{good + 1} read, {good} upserted, 1 rejected"
    ]


@pytest.fixture
def mail_server():
    """A mail server on this machine; return what it got."""
    mails: list[bytes] = []

    class Session(socketserver.StreamRequestHandler):
        timeout = 20

        def handle(self):
            self.say("220 here")
            for line in self.rfile:
                command = line.split()[0].upper() if line.split() else b""
                if command == b"DATA":
                    self.say("354 go on")
                    mails.append(b"".join(iter(self.rfile.readline, b".\r\n")))
                self.say("221 bye" if command == b"QUIT" else "250 ok")
                if command == b"QUIT":
                    return

        def say(self, text):
            self.wfile.write(f"{text}\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session) as server:
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        yield server.server_address[1], mails
        server.shutdown()


@pytest.mark.usefixtures("dag")
def test_e_mail(box, run_task, people, mail_server, monkeypatch):
    pytest.importorskip("airflow.providers.smtp")
    port, mails = mail_server
    plain = {"disable_ssl": True, "disable_tls": True}
    connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": plain}
    monkeypatch.setenv("AIRFLOW_CONN_SMTP", json.dumps(connection))
    run = run_recipe("E-mail", run_task, [*people(2), {"code": "bad"}])
    assert run.state == "failed"
    (mail,) = map(message_from_bytes, mails)
    assert mail["To"] == "data.team@example.com"
    assert mail["Subject"] == f"mediQuo: {run.task.dag_id}"
    part = next(part for part in mail.walk() if part.get_content_type() == "text/html")
    text = part.get_payload(decode=True).decode()
    assert "3 read, 2 upserted, 1 rejected" in text
    assert "bad" not in text


@pytest.mark.usefixtures("slack")
def test_a_run_that_is_late():
    import airflow.sdk

    code = recipe("A run that is late")
    if "DeadlineAlert" not in airflow.sdk.__all__:
        assert "from `airflow.sdk.definitions.deadline`" in PAGE
        names = "AsyncCallback, DeadlineAlert, DeadlineReference"
        code = code.replace(f"import DAG, {names}", "import DAG")
        code = f"from airflow.sdk.definitions.deadline import {names}\n{code}"
    made = []
    exec(
        code.replace("\nDAG(", "\nmade(DAG)("),
        {"made": lambda kind: lambda *a, **k: made.append(kind(*a, **k))},
    )
    (dag,) = made
    assert "is not done after 2 hours" in json.dumps(DagSerialization.to_dict(dag))
    alert = dag.deadline[0] if isinstance(dag.deadline, list) else dag.deadline
    dag_run = {"dag_id": dag.dag_id, "run_id": RUN_ID, "conf": {"code": "m-1"}}

    async def call_back():
        await Slack(**alert.callback.kwargs, context={"dag_run": dag_run})

    asyncio.run(call_back())
    assert [f"mediQuo: members_to_mediquo of {RUN_ID} is not done after 2 hours."] == TOLD
