"""Nothing of a patient, no key and no token is anywhere in a deployment but where the docs say.

Each way to write an operator and each way that it can fail runs with DEBUG logs, OpenLineage,
metrics and callbacks on; then every file, every column of the database and all else that a
deployment shows is searched for what the patients, the keys and the token hold.
"""

import base64
import csv
import gzip
import html
import json
import shutil
import signal
import socket
import threading
import urllib.request
from contextlib import ExitStack, suppress
from datetime import date
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from cryptography.fernet import Fernet

from airflow_provider_mediquo.sandbox import Sandbox
from airflow_provider_mediquo.sandbox.model.service import Refusal
from tests.project.test_docs import read, section
from tests.support.threads import join, launch
from tests.system import canaries
from tests.system.canaries import CODE, LEAK, OWN_PATIENT, PATH, PATIENT
from tests.system.deployment import IMPORTS, copy_examples, running_deployment
from tests.system.places import (
    Findings,
    keep_all,
    look_at_database,
    look_at_errors,
    look_at_files,
    look_at_processes,
    look_at_state,
)

PROJECT = Path(__file__).parents[2]
DAGS = Path(__file__).parent / "privacy_dags"
PLENTY = 1_000_000
FAULTS = "settings keys unreachable failing limited redirected not_json refusing"
# Places in which there is little to look at, if only by design.
FEW = {
    "API server's log": 1,
    "OpenLineage": 1,
    "output of scheduler and workers": 2,
    "other files": 2,
    "approval": 5,
    "reject report": 3,
    "state": 5,
    "import errors": 5,
    "DAG processor's log": 5,
}
LINEAGE = """
import airflow.providers.openlineage.extractors.manager
import airflow.providers.openlineage.plugins.listener
"""

# --- what it is searched for ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def start_box():
    """Start a sandbox with keys and a token that can be found again."""
    with ExitStack() as stack:

        def start(
            *, secret_key=canaries.SECRET_KEY, token=canaries.TOKEN, outcome=None, **settings
        ):
            usual = {"latency": 0, "lag": 0, "requests_per_minute": PLENTY} | settings
            box = Sandbox(api_key=canaries.API_KEY, secret_key=secret_key, **usual)
            answer = box._mediquo.authenticate
            box._mediquo.authenticate = lambda body: answer(body) | {"access_token": token}  # type: ignore[method-assign]
            for endpoint in ("upsert", "get", "authenticate"):
                box.script(endpoint, *[outcome] * 100 * bool(outcome))
            return stack.enter_context(box)

        yield start


def ask(box, method, path, body=None):
    """Send a request past the package."""
    headers = box.headers | {"Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{box.url}/{path}", data, headers, method=method)
    urllib.request.urlopen(request, timeout=30).close()


def refuse(given):
    """Quote a patient, as mediQuo may."""
    raise Refusal(422, json.dumps(PATIENT))


def put(box, patient):
    ask(box, "PUT", "patients", {"patients": [patient]})


@pytest.fixture(scope="module")
def box(start_box):
    box = start_box()
    put(box, PATIENT)
    return box


@pytest.fixture(scope="module")
def slow(start_box):
    return start_box(latency=600)


@pytest.fixture(scope="module")
def nobody_listens():
    """A port that nobody else can take."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        yield silent.getsockname()[1]


@pytest.fixture(scope="module")
def connections(start_box, box, slow, warehouse, nobody_listens):
    """A connection for each way in which mediQuo can fail."""
    late = start_box()
    put(late, PATIENT | {"last_name": None, "phone": None})
    late.settings.lag = 10_000
    own = start_box(secret_key=canaries.OWN_KEY, token=canaries.OWN_TOKEN)
    put(own, PATIENT)
    refusing = start_box(refuse_tax_id=PATIENT["tax_id"])
    refusing._mediquo.get = refusing._mediquo.authenticate = refuse
    limited = start_box(requests_per_minute=1, minute=3600)
    put(limited, PATIENT | {"code": "1"})
    ask(limited, "GET", "patients/1")
    ask(limited, "POST", "patients/authenticate", {"code": "1"})
    leads_to = {
        "default": box.connection,
        "quarter": box.connection,
        "own": own.connection,
        "settings": box.connection | {"extra": {"verify": "nowhere"}},
        "keys": box.connection | {"login": canaries.WRONG_KEY},
        "rekeyed": late.connection | {"password": canaries.OTHER_SECRET_KEY},
        "unreachable": box.connection | {"host": f"http://127.0.0.1:{nobody_listens}/v1"},
        "failing": start_box(error_rate=1).connection,
        "limited": limited.connection,
        "redirected": start_box(outcome="redirect").connection,
        "not_json": start_box(outcome="not_json").connection,
        "refusing": refusing.connection,
        "late": late.connection,
        "slow": slow.connection,
    }
    return {f"mediquo_{name}": connection for name, connection in leads_to.items()} | {
        "warehouse": warehouse.connection,
        "mediquo_state": warehouse.connection,
    }


@pytest.fixture(scope="module")
def warehouse(postgres):
    """A database of the patient."""
    with postgres.fresh() as database:
        row = flat(PATIENT)
        columns = ", ".join(f"{name} text" for name in row)
        database.run(f"CREATE TABLE patients ({columns})")
        marks = ", ".join(["%s"] * len(row))
        database.run(f"INSERT INTO patients VALUES ({marks})", [*row.values()])
        database.run(
            "CREATE TABLE members AS SELECT 1 AS id, code AS member_id, first_name, last_name, "
            "gender, birth_date, tax_id, email, phone, plan AS product, locale FROM patients"
        )
        yield database


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder of the patient in each format, and of files that are broken."""
    folder = tmp_path_factory.mktemp("members") / PATH
    broken = folder / "broken"
    broken.mkdir(parents=True)
    row = flat(PATIENT)
    write_csv(folder / "members.csv", row)
    write_csv(broken / "no_header.csv", dict.fromkeys(row.values(), "x"))
    write_csv(broken / "columns.csv", row | {canaries.COLUMN: "x"})
    plan = row.pop("plan")
    write_csv(folder / "examples.csv", {"member_id": row.pop("code"), "product": plan} | row)
    write_messy_csv(folder / "messy.csv", PATIENT)
    (broken / "quotes.csv").write_text(
        (folder / "members.csv").read_text() + f'{CODE},"{plan}"x\n"{plan}'
    )
    lines = gzip.compress(json.dumps(PATIENT).encode())
    (folder / "members.jsonl.gz").write_bytes(lines)
    (broken / "cut.jsonl.gz").write_bytes(lines[:-12])
    write_parquet(folder / "members.parquet", flat(PATIENT))
    (broken / "cut.parquet").write_bytes((folder / "members.parquet").read_bytes()[:-9])
    return folder


def flat(patient):
    return {n: json.dumps(v) if isinstance(v, dict) else v for n, v in patient.items()}


def write_messy_csv(path, patient):
    """Write it as the example that transforms an export wants it."""
    names = {
        "num_socio": "code",
        "nombre": "first_name",
        "apellidos": "last_name",
        "correo": "email",
        "telefono": "phone",
        "producto": "plan",
        "idioma": "locale",
    }
    row = {theirs: patient[ours] for theirs, ours in names.items()}
    born = date.fromisoformat(patient["birth_date"])
    row |= {"sexo": "M", "fecha_nac": f"{born:%d/%m/%Y}", "fecha_baja": "", "observaciones": ""}
    write_csv(path, row, encoding="utf-8-sig")


def write_csv(path, row, encoding="utf-8"):
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerow(row)


def write_parquet(path, row):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({n: [v] for n, v in row.items()}), path)


# --- the deployment, with everything switched on --------------------------------------------------


@pytest.fixture(scope="module")
def metrics():
    """Where statsd may send its packets, and the packets."""
    packets = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(0.5)
        is_over = threading.Event()

        def listen():
            while not is_over.is_set():
                with suppress(TimeoutError):
                    packets.append(listener.recv(1 << 16).decode(errors="replace"))

        thread = threading.Thread(target=listen)
        launch(thread)
        yield listener.getsockname()[1], packets
        is_over.set()
        join(thread)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("deployment")
    dags = copy_examples(home)
    classic = dags / "mediquo_classic.py"
    text = classic.read_text().replace('"Alba"', repr(OWN_PATIENT["first_name"]))
    classic.write_text(text.replace('"test-account-1"', repr(f"{CODE}-classic")))
    for name in ("ways", "failures", "counts", "leaks"):
        shutil.copy(DAGS / f"{name}.py", dags)
    approval = dags / "mediquo_approval.py"
    # It runs at the same time as mediquo_warehouse, and a sync has one run at a time.
    text = approval.read_text().replace('"sync_name": "members"', '"sync_name": "approved"')
    approval.write_text(text.replace("MEDIQUO_REJECTS", "PRIVACY_REJECTS"))
    (dags / "own_error.py").write_text(f"from airflow.sdk import DAG\nraise ValueError({LEAK!r})\n")
    (home / "errors").mkdir()
    (home / PATH).mkdir()
    return home


@pytest.fixture(scope="module")
def fernet_key():
    return Fernet.generate_key().decode()


@pytest.fixture(scope="module")
def settings(home, files, metrics, fernet_key):
    transport = {"type": "file", "log_file_path": str(home / "lineage.jsonl"), "append": True}
    return {
        "AIRFLOW__CORE__FERNET_KEY": fernet_key,
        "AIRFLOW__CORE__PARALLELISM": "12",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(metrics[0]),
        # A fork for each event takes seconds.
        "AIRFLOW__OPENLINEAGE__EXECUTE_IN_THREAD": "True",
        "AIRFLOW__OPENLINEAGE__INCLUDE_FULL_TASK_INFO": "True",
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "AIRFLOW_VAR_OWN": LEAK,
        "PRIVACY_ERRORS": str(home / "errors"),
        "PRIVACY_FAULTS": FAULTS,
        "PRIVACY_FILES": str(files),
        "PRIVACY_REJECTS": str(home / PATH),
        "PYTHONPATH": str(PROJECT),
    }


@pytest.fixture(scope="module")
def found(
    home,
    connections,
    settings,
    postgres,
    warehouse,
    metrics,
    fernet_key,
    box,
    slow,
    files,
    say,
    nothing_left,
):
    """What was found where, and how each run ended, after all of it has run."""
    findings, states = Findings(), {}
    with postgres.fresh() as database:
        say("Starting a deployment with all its logs, lineage and metrics on")
        with running_deployment(
            home, database, connections, settings, imports=LINEAGE + IMPORTS
        ) as airflow:
            airflow.wait_until_ready("ways", "failures", "faults", "counts", "own_leaks")
            keep_all(database)
            prepare(airflow, box)
            runs = {
                dag_id: airflow.trigger(dag_id, **conf)
                for dag_id, conf in confs(files, home / PATH).items()
            }
            say(f"Running {len(runs)} DAGs")
            kill(airflow, runs["failures"], "killed", slow)
            left = dict(runs)

            def have_ended():
                look_at_processes(findings, home)
                # All in one request: it is asked twice a second.
                all_runs = airflow.ask("dags/~/dagRuns")["dag_runs"]
                state = {(run["dag_id"], run["dag_run_id"]): run["state"] for run in all_runs}
                for dag_id, run in list(left.items()):
                    if state[dag_id, run.run_id] in ("success", "failed"):
                        del left[dag_id]
                        say(f"{dag_id}: {run.progress()}")
                return not left

            airflow.wait_for("all runs", have_ended)
            states = {dag_id: run.tasks() for dag_id, run in runs.items()}
            look_at_pages(findings, airflow, runs)
            say("Stopping")
        look_at_database(findings, database, fernet_key)
    nothing_left(home)
    say("Searching")
    look_at_files(findings, home)
    look_at_errors(findings, home / "errors")
    look_at_state(findings, warehouse)
    for packet in metrics[1]:
        findings.look("metrics", "packet", packet)
    say("Searched")
    return findings, states


@pytest.fixture(scope="module")
def findings(found):
    return found[0]


def prepare(airflow, box):
    """Set up what is in Airflow's database."""
    airflow.ask("pools", {"name": "mediquo", "slots": 4})
    stored = box.connection | {"connection_id": "mediquo_stored", "description": LEAK}
    airflow.ask("connections", stored)


def confs(files, rejects):
    """Return the DAGs to run, each with its configuration."""
    where = {"rejects": str(rejects)}
    return {
        "failures": {},
        "faults": {},
        "ways": {},
        "counts": {},
        "own_leaks": {"leak": LEAK},
        "own_literals": {},
        "mediquo_approval": {},
        "mediquo_classic": {},
        "mediquo_nightly": where | {"members": str(files / "examples.csv")},
        "mediquo_files": where | {"path": str(files / "examples.csv")},
        "mediquo_messy_file": where | {"path": str(files / "messy.csv")},
        "mediquo_read_patient": {"code": CODE},
        "mediquo_warehouse": where,
        "mediquo_sharded": where | {"size": 1},
    }


def kill(airflow, run, task_id, box):
    """End a task by SIGTERM while it sends."""
    airflow.wait_for("a request under way", lambda: box.counters.in_flight)
    (task,) = run.tasks(task_id)
    psutil.Process(task["pid"]).send_signal(signal.SIGTERM)


def look_at_pages(findings, airflow, runs):
    """Look at what the REST API shows: no more than what it is made of."""
    pages = {
        "connections": "Airflow's own connections",
        "eventLogs?limit=1000": "audit log",
        "dagSources/mediquo_classic": "DAG's code",
        "dags/ways/details": "serialized DAG",
        "assets/events": "asset events",
        "importErrors": "import errors",
        "dags/~/dagRuns": "run configuration",
        "dags/ways/dagRuns/~/taskInstances": "rendered fields",
    }
    for page, place in pages.items():
        findings.look(place, page, json.dumps(airflow.ask(page)))
    findings.look("XCom of a get", "xcomEntries", json.dumps(runs["ways"].xcom("get_all")))
    findings.look("XCom of an upsert", "xcomEntries", json.dumps(runs["counts"].xcom("many")))
    findings.look("task log", "logs", runs["failures"].log("schema", 1))


# --- what it is searched with -----------------------------------------------------------------------

WAYS = {
    "as it is": str,
    "capitals": str.upper,
    "backwards": lambda text: text[::-1],
    "json": json.dumps,
    "json in json": lambda text: json.dumps(json.dumps(text)),
    "url": lambda text: quote(text, safe=""),
    "html": html.escape,
    "repr of bytes": lambda text: repr(text.encode()),
    "hexadecimal": lambda text: text.encode().hex(),
    **{
        f"base64, {shift} further": lambda text, shift=shift: base64.b64encode(
            b"x" * shift + text.encode()
        ).decode()
        for shift in range(3)
    },
}


@pytest.mark.parametrize("write", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("kind", canaries.WORDS)
def test_a_word_is_found_however_it_is_written(kind, write):
    for word in canaries.WORDS[kind]:
        assert kind in canaries.kinds_in(f"- {write(word + ' ')} -"), word


def test_each_field_of_a_patient_is_found():
    fields = {name: json.dumps({name: value}) for name, value in PATIENT.items()}
    kinds = {name: canaries.kinds_in(text) for name, text in fields.items()}
    assert kinds == {name: {"codes" if name == "code" else "values"} for name in PATIENT}


@pytest.mark.parametrize("text", [f"{canaries.COUNT}", f"{canaries.COUNT:,} patients"])
def test_a_count_is_found_and_not_in_other_numbers(text):
    assert canaries.kinds_in(text) == {"counts"}
    assert canaries.kinds_in(f"0.{text} 1{text} {canaries.COUNT}7") == set()


# --- what is there --------------------------------------------------------------------------------


def told():
    """Place -> the kinds that the privacy page lists there, except what no test can see."""
    found = {}
    for line in section(read("privacy.md"), "## What is stored where").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if cells[1:] and cells[1] not in ("holds", "---", "not tested"):
            found[cells[0]] = {*cells[1].split(", ")} - {"nothing"}
    return found


PLACES = told()
LEAKING = sorted({*PLACES} - {"command lines", "other files", "the rest of Airflow's database"})


@pytest.mark.parametrize("place", PLACES)
def test_a_place_holds_what_the_docs_say_no_more_and_no_less(findings, place):
    shown = [text for (where, _), text in findings.shown.items() if where == place]
    kinds = findings.kinds[place] - {"leak", "encrypted leak"}
    assert kinds == PLACES[place], "\n".join(shown)


def test_no_place_is_missing_in_the_docs(findings):
    assert {*findings.looked} == {*PLACES}


@pytest.mark.parametrize("place", LEAKING)
def test_what_leaks_on_purpose_is_found(findings, place):
    assert "leak" in findings.kinds[place]


def test_each_place_was_looked_at(findings):
    few = {place: count for place, count in findings.looked.items() if count < FEW.get(place, 10)}
    assert not few


def test_logs_are_at_debug_and_those_of_the_triggerer_among_them(found, home):
    logs = [*(home / "airflow" / "logs").glob("dag_id=*/*/task_id=*/*")]
    for kind in ("attempt=1.log", "attempt=2.log", "attempt=1.log.trigger.*.log"):
        some = [path.read_text() for path in logs if path.match(kind)]
        assert any('"level":"debug"' in text for text in some), kind


def test_openlineage_received_what_runs(found, home):
    lines = (home / "lineage.jsonl").read_text().splitlines()
    names = {json.loads(line)["job"]["name"] for line in lines}
    told = {name.partition(".")[0] for name in names if "." in name}
    # Not of each task: what takes Airflow too long on a busy machine is left out, and some DAGs have one.
    assert told <= {*found[1]}
    assert told >= {"ways", "failures", "faults"}


def test_what_can_succeed_did_and_what_cannot_did_not(found):
    _, tasks = found
    states = {
        f"{dag_id}.{task['task_id']}": task["state"]
        for dag_id, each in tasks.items()
        for task in each
    }
    fail = {name for name in states if name.startswith(("faults.", "failures."))}
    fail = fail - {"failures.late"} | {"own_leaks.own_error", "counts.too_many"}
    assert states.pop("mediquo_approval.approve") == "skipped", "one member is not beyond the guard"
    assert {name for name, state in states.items() if state != "success"} == fail
    assert {states[name] for name in fail} == {"failed"}


def test_each_failure_told_its_callback(found, home):
    failed = {
        task["task_id"]
        for dag_id in ("faults", "failures")
        for task in found[1][dag_id]
        if task["state"] == "failed"
    }
    assert failed <= {path.name.rpartition("-")[0] for path in (home / "errors").iterdir()}


def test_a_template_in_a_patients_name_arrives_as_it_is(found, box):
    assert box.patients[CODE]["last_name"] == PATIENT["last_name"]


def test_what_a_task_prints_of_a_key_or_a_token_is_masked_in_its_log(found, home):
    (log,) = (home / "airflow" / "logs").glob("*/*/task_id=own_token/attempt=1.log")
    assert "The token is ***, the key ***" in log.read_text()
