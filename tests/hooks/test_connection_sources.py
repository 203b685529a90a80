"""Where Airflow takes a connection from: its command line and database, and secrets backends.

Airflow runs in processes of its own; each asks the sandbox, over its socket, for a patient.
"""

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
import yaml
from airflow.configuration import conf
from airflow.sdk import DAG

from airflow_provider_mediquo.operators.patients import MediquoGetPatientOperator
from airflow_provider_mediquo.sandbox import Sandbox
from tests.support.processes import running

pytestmark = pytest.mark.no_cover

ODD = "wrennestling/b@cuckooclocks%dovecotehouse:e#f?g&h+ibisfeathers=jackdawjackdaw%2Fk l"
API_KEY, SECRET_KEY = f"{ODD}1", f"{ODD}2"
EXTRA = {"requests_per_minute": 1200, "timeout": 12, "verify": False}
FLAT = "requests_per_minute=1200&timeout=12&verify=false"

# Answers lines of JSON: the arguments of `airflow`, or the connection that a hook uses.
AIRFLOW = """
import contextlib, io, json, os, sys
from airflow.cli import cli_parser

def ask(conn_id):
    from airflow_provider_mediquo.hooks.mediquo import MediquoHook
    hook = MediquoHook(conn_id)
    settings = hook.settings
    print(json.dumps({
        "patient": (hook.get_patient("m-1") or {}).get("code"),
        "requests_per_minute": settings.requests_per_minute,
        "timeout": settings.timeout,
        "verify": settings.verify,
    }))

os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"  # as the API server, which has the database
parser, answers = cli_parser.get_parser(), sys.stdout
for line in sys.stdin:
    order, code, output = json.loads(line), 0, io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            if isinstance(order, str):
                ask(order)
            else:
                arguments = parser.parse_args(order)
                arguments.func(arguments)
        except SystemExit as error:
            code = error.code
            if isinstance(code, str):
                print(code)
        except Exception as error:
            code = f"{type(error).__name__}: {error}"
    print(json.dumps([code, output.getvalue()]), file=answers, flush=True)
"""

# Answers, in a process for each line as a worker does: what a hook, a triggerer and a task get with
# connections where Airflow is set up so.
WORKER = """
import asyncio, datetime, json, os, sys, traceback
from airflow.sdk import DAG
from airflow_provider_mediquo.api.visibility import poller
from airflow_provider_mediquo.hooks.mediquo import MediquoHook
from airflow_provider_mediquo.operators.patients import MediquoGetPatientOperator
from airflow_provider_mediquo.triggers.patients import MediquoPatientTrigger
from tests.support.airflow_runner import run_task

def read(conn_id):
    hook = MediquoHook(conn_id)
    return [hook.get_patient("m-1")["code"], hook.settings.requests_per_minute]

async def wait(conn_id):
    deadline = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=10)
    trigger = MediquoPatientTrigger(
        mediquo_conn_id=conn_id, expected={"m-1": None}, poke_interval=1, deadline=deadline.isoformat()
    )
    return [event.payload async for event in trigger.run()][0]["status"]

def run(conn_id):
    with DAG("clinic", schedule=None):
        task = MediquoGetPatientOperator(task_id="get", code="m-1", mediquo_conn_id=conn_id)
    run = run_task(task)
    print(run.everything)
    return run.state

def answer(conn_id):
    try:
        found = [*read(conn_id), asyncio.run(wait(conn_id))]
    except Exception as error:
        found = [f"{type(error).__name__}: {error}"]
    return [*found, run(conn_id)]

for line in sys.stdin:
    conn_ids, environment = json.loads(line)
    if not (child := os.fork()):
        answers = None
        try:
            os.environ |= environment
            answers = {conn_id: answer(conn_id) for conn_id in conn_ids}
        except BaseException:
            traceback.print_exc()
        sys.stderr.flush()
        print("answer:", json.dumps(answers), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""

FOUND = ["m-1", 1200, "visible", "success"]


def quoted(text):
    return quote(text, safe="")


@pytest.fixture(scope="module")
def box():
    """A sandbox that takes odd keys only, and knows m-1."""
    patient = {"code": "m-1", "first_name": "Ada", "plan": "premium"}
    with Sandbox(lag=0, latency=0, api_key=API_KEY, secret_key=SECRET_KEY) as box:
        sent = {"patients": [patient]}
        requests.put(f"{box.url}/patients", json=sent, headers=box.headers, timeout=30)
        yield box


@pytest.fixture(scope="module")
def forms(box):
    """The connection, in the forms that a file or a secret may have."""
    fields = {**box.connection, "extra": EXTRA}
    keys = f"{quoted(API_KEY)}:{quoted(SECRET_KEY)}"
    return {
        "uri": f"mediquo://{keys}@{quoted(box.url)}/?{FLAT}",
        "uri-scheme-in-front": f"mediquo://{box.url.replace('://', f'://{keys}@')}?{FLAT}",
        "fields": fields,
        "extra-as-text": fields | {"extra": json.dumps(EXTRA)},
    }


def is_hidden(text):
    """Whether nothing of the keys is in it, neither raw nor encoded."""
    pieces = "wrennestling", "cuckooclocks", "dovecotehouse", "ibisfeathers", "jackdawjackdaw"
    return not any(piece in text for piece in pieces)


# --- Airflow's command line and its database ------------------------------------------------------

AS_STORED = {"patient": "m-1", "requests_per_minute": 1200, "timeout": 12, "verify": False}


@pytest.fixture(scope="module")
def answer(airflow_database):
    """Ask a process of Airflow, which has the database; give its exit status and output."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    # A test reads in this process what that one has encrypted.
    env = os.environ | {"AIRFLOW__CORE__FERNET_KEY": conf.get("core", "fernet_key")}
    with running([sys.executable, "-c", AIRFLOW], env=env, **pipes) as process:

        def answer(order):
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            return next(json.loads(line) for line in process.stdout if line.startswith("["))

        yield answer
        process.stdin.close()
        process.wait(60)


@pytest.fixture
def airflow(answer):
    """Run a command that has to succeed: `airflow("connections", "add", ...)`."""

    def run(*arguments):
        status, output = answer(arguments)
        assert not status, (status, output)
        return output

    return run


@pytest.fixture
def add(airflow, answer):
    """Add a connection for this test: `add("--conn-uri", ...)`."""

    def add(*arguments):
        airflow("connections", "add", "stored", *arguments)

    yield add
    answer(["connections", "delete", "stored"])


@pytest.fixture
def read(answer):
    """What the hook makes of the connection in the database, and what mediQuo says to it."""

    def read():
        status, output = answer("stored")
        assert not status, (status, output)
        return json.loads(output.splitlines()[-1])

    return read


def flags(box, **changes):
    host = {"type": "mediquo", "login": API_KEY, "password": SECRET_KEY, "host": box.url}
    host |= {"extra": json.dumps(EXTRA)} | changes
    return [f"--conn-{name}={value}" for name, value in host.items()]


def test_a_connection_added_as_a_uri_works(add, read, forms):
    add("--conn-uri", forms["uri"])
    assert read() == AS_STORED


def test_a_connection_added_as_a_uri_with_its_extra_apart_works(add, read, forms):
    add("--conn-uri", forms["uri"].partition("?")[0], "--conn-extra", json.dumps(EXTRA))
    assert read() == AS_STORED


@pytest.mark.parametrize("form", ["fields", "extra-as-text"])
def test_a_connection_added_as_json_works(add, read, forms, form):
    add("--conn-json", json.dumps(forms[form]))
    assert read() == AS_STORED


def test_a_connection_added_field_by_field_works(add, read, box):
    add(*flags(box))
    assert read() == AS_STORED


def test_a_connection_added_with_host_port_and_path_apart_works(add, read, box):
    host, _, port = box.home.rpartition(":")
    add(*flags(box, host=host, port=port, schema="v1"))
    assert read() == AS_STORED


def test_a_connection_that_was_added_is_shown_as_it_was_given(add, airflow, box):
    add(*flags(box))
    (shown,) = json.loads(airflow("connections", "get", "stored", "-o", "json").splitlines()[-1])
    assert (shown["login"], shown["password"]) == (API_KEY, SECRET_KEY)
    assert (shown["host"], shown["conn_type"]) == (box.url, "mediquo")


@pytest.mark.parametrize("file", ["all.json", "all.yaml", "all.env"])
def test_a_connection_survives_export_and_import(add, airflow, read, box, tmp_path, file):
    add(*flags(box))
    airflow("connections", "export", str(tmp_path / file))
    airflow("connections", "delete", "stored")
    airflow("connections", "import", str(tmp_path / file))
    assert read() == AS_STORED


def test_the_command_line_tells_that_a_connection_works(add, airflow, box):
    add(*flags(box))
    assert "Connection success!" in airflow("connections", "test", "stored")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"password": "wrennestling"}, "invalid keys, or they lack permission"),
        ({"password": ""}, "it lacks the Secret key (Password)"),
        ({"login": f"{API_KEY}\n"}, "the API key (Login) has whitespace around it"),
        ({"host": "http://127.0.0.1:1/v1"}, "No answer from 127.0.0.1"),
        (
            {"extra": '{"timeout": "wrennestling"}'},
            "`timeout` in the connection's extra must be a number",
        ),
        ({"schema": "wrennestling@key"}, "percent-encode the keys of a URI"),
    ],
)
def test_the_command_line_tells_what_is_wrong_with_a_connection(add, answer, box, changes, words):
    add(*flags(box, **changes))
    _, output = answer(["connections", "test", "stored"])
    assert "Connection failed!" in output
    assert words in " ".join(output.split())
    assert is_hidden(output)


@pytest.mark.filterwarnings(
    "ignore:GitWildMatchPattern:DeprecationWarning",
    "ignore:'HTTP_422_UNPROCESSABLE_ENTITY':DeprecationWarning",
)
def test_a_task_gets_a_stored_connection_from_airflows_api(add, box, run_dag):
    add(*flags(box))
    with DAG("stored_connection", schedule=None) as dag:
        MediquoGetPatientOperator(
            task_id="get", code="m-1", mediquo_conn_id="stored", fields=["code"]
        )
    assert run_dag(dag) == {"get": ("success", {"code": "m-1"})}


# --- secrets backends -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ask():
    """Ask what connections are good for, and for a log that shows no key."""
    command = [sys.executable, "-c", WORKER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    root = Path(__file__).parents[2]
    with running(command, cwd=root, text=True, **pipes) as process:

        def ask(*conn_ids, **environment):
            process.stdin.write(json.dumps([conn_ids, environment]) + "\n")
            process.stdin.flush()
            lines = []
            for line in process.stdout:
                # At DEBUG it logs what AWS answers: Airflow cannot know yet what is secret in it.
                if '"logger":"botocore.' not in line:
                    lines.append(line)
                if line.startswith("answer: "):
                    break
            assert not [line for line in lines if not is_hidden(line)]
            return json.loads(lines[-1].removeprefix("answer: ")), "".join(lines)

        yield ask
        process.stdin.close()
        process.wait(60)


def backend(section, name, **options):
    """The environment variables that name a secrets backend."""
    prefix = f"AIRFLOW__{section}__{'SECRETS_' if section == 'WORKERS' else ''}BACKEND"
    return {prefix: name, f"{prefix}_KWARGS": json.dumps(options)}


def in_files(path, section="SECRETS"):
    name = "airflow.secrets.local_filesystem.LocalFilesystemBackend"
    return backend(section, name, connections_file_path=str(path))


def test_connections_may_be_in_a_yaml_file_of_the_workers_own(ask, forms, tmp_path):
    (tmp_path / "none.yaml").write_text("{}")
    (tmp_path / "all.yaml").write_text(yaml.safe_dump(forms))
    both = in_files(tmp_path / "none.yaml") | in_files(tmp_path / "all.yaml", "WORKERS")
    answers, _ = ask(*forms, **both)
    assert answers == dict.fromkeys(forms, FOUND)


def test_connections_may_be_in_an_env_file_as_uris(ask, forms, tmp_path):
    uris = {name: form for name, form in forms.items() if isinstance(form, str)}
    (tmp_path / "all.env").write_text("".join(f"{name}={form}\n" for name, form in uris.items()))
    answers, _ = ask(*uris, **in_files(tmp_path / "all.env"))
    assert answers == dict.fromkeys(uris, FOUND)


@pytest.fixture(scope="module")
def json_file(ask, box, forms, tmp_path_factory):
    """The answers to a file of right and wrong connections, and the log."""
    host = box.url.removeprefix("http://")
    wrong = {
        "no-password": {**box.connection, "password": None},
        "not-encoded": f"mediquo://key:12/wrennestling@{host}",
        "no-number": {**box.connection, "extra": {"timeout": "wrennestling"}},
        "misspelt": {**box.connection, "extra": {"request_per_minute": "wrennestling"}},
    }
    file = tmp_path_factory.mktemp("secrets") / "all.json"
    file.write_text(json.dumps(forms | wrong))
    # Not in the file, none of which Airflow would read then. At DEBUG it logs the piece before `/`.
    cut = {"AIRFLOW_CONN_CUT": f"mediquo://key:piece/wrennestling@{host}"}
    return ask(*forms, *wrong, "cut", "none", **cut, **in_files(file))


def test_connections_may_be_in_a_json_file(json_file, forms):
    answers, _ = json_file
    assert {name: answers[name] for name in forms} == dict.fromkeys(forms, FOUND)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no-password", "it lacks the Secret key (Password).\nCopy keys"),
        ("not-encoded", "a key in its URI is not percent-encoded"),
        ("no-number", "`timeout` in the connection's extra must be a number"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_and_ends_a_task(json_file, name, words):
    answers, _ = json_file
    error, *state = answers[name]
    assert error.startswith("ConnectionSettingsError: ")
    assert words in error
    assert state == ["failed"]


@pytest.mark.parametrize("name", ["cut", "none"])
def test_what_airflow_does_not_find_or_read_is_told_and_may_be_retried(json_file, name):
    answers, _ = json_file
    error, *state = answers[name]
    words = (
        f"The conn_id `{name}` isn't defined, or Airflow cannot read it.\n"
        "If it exists, check its JSON, whose keys are"
    )
    assert error.startswith(f"AirflowNotFoundException: {words}")
    assert state == ["up_for_retry"]


def test_what_is_misspelt_in_an_extra_is_in_the_log(json_file):
    answers, log = json_file
    assert answers["misspelt"] == ["m-1", 600, *FOUND[2:]]
    assert "are ignored: 'request_per_minute'." in log


@pytest.fixture
def secrets_manager(s3):
    """An AWS Secrets Manager: the server that is an S3 is one, too."""
    import boto3

    account = {
        "endpoint_url": s3.endpoint_url,
        "region_name": "us-east-1",
        "aws_access_key_id": s3.access_key,
        "aws_secret_access_key": s3.secret_key,
    }
    name = "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend"
    with closing(boto3.client("secretsmanager", **account)) as client:

        def store(secrets, **options):
            for conn_id, secret in secrets.items():
                text = secret if isinstance(secret, str) else json.dumps(secret)
                client.create_secret(Name=f"tests/{conn_id}", SecretString=text)
            return backend("SECRETS", name, connections_prefix="tests", **account, **options)

        yield store


def test_connections_may_be_in_aws_secrets_manager(ask, box, forms, secrets_manager):
    keys = {"conn_type": "mediquo", "api_key": API_KEY, "secret_key": SECRET_KEY}
    secrets = {
        **forms,
        "aliases": {
            "engine": "mediquo",
            "user": API_KEY,
            "pass": SECRET_KEY,
            "server": box.url,
            "extra": EXTRA,
        },
        "own-words": {**keys, "host": box.url, "extra": EXTRA},
    }
    words = {"login": ["api_key"], "password": ["secret_key"]}
    answers, _ = ask(*secrets, **secrets_manager(secrets, extra_conn_words=words))
    assert answers == dict.fromkeys(secrets, FOUND)
