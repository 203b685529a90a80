"""The nightly example in a real Airflow, against a mediQuo on this machine: `make demo`.

Starts the sandbox and an Airflow of its own (SQLite, in .demo/), runs the DAG, shows what came of
it, and stops both.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".demo"
REJECTS = HOME / "rejects"
PATIENCE = 240  # seconds for each step, on a slow machine
NIGHTLY, READ = "mediquo_nightly", "mediquo_read_patient"


def main() -> None:
    """Run it all."""
    started = time.monotonic()
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir()
    with running_sandbox() as (sandbox, connection), running_airflow(connection) as airflow:
        airflow.wait_until_healthy()
        run_id = airflow.trigger(NIGHTLY, {"rejects": str(REJECTS)})
        say(f"{NIGHTLY} started: 300 members out of example_dags/data/members.csv")
        airflow.follow(NIGHTLY, run_id, lambda: accepted(sandbox))
        show_ledger(airflow.xcom(NIGHTLY, run_id, "upsert"))
        show_rejects()
        show_patient(airflow)
        say("Stopping Airflow and the sandbox")
    say(f"Done in {time.monotonic() - started:.0f} s. Logs and database: {HOME.name}/")


def say(text: str) -> None:
    """Print a line at once."""
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


@contextlib.contextmanager
def running_sandbox() -> Iterator[tuple[str, str]]:
    """Start a mediQuo; give the address of its page and the connection to it."""
    port = free_port()
    command = [sys.executable, "-m", "airflow_provider_mediquo.sandbox", "--port", str(port)]
    with (HOME / "sandbox.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    home = f"http://127.0.0.1:{port}"
    connection = {
        "conn_type": "mediquo",
        "login": "sandbox-api-key",
        "password": "sandbox-secret-key",
        "host": f"{home}/v1",
    }
    try:
        wait_for(lambda: ask(f"{home}/sandbox/stats"), process, "the sandbox", "sandbox.log")
        say(f"A mediQuo of your own is running at {home}")
        yield home, json.dumps(connection)
    finally:
        stop(process, signal.SIGTERM)


@contextlib.contextmanager
def running_airflow(connection: str) -> Iterator[Airflow]:
    """Start scheduler, triggerer, DAG processor and API server."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {
        "AIRFLOW_HOME": str(HOME / "airflow"),
        "AIRFLOW_CONN_MEDIQUO_DEFAULT": connection,
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "example_dags"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        # The DAG shall run when it is told to, and not because it is past two in the morning.
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        # Airflow finds itself on the PATH.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    say("Starting Airflow (scheduler, triggerer, DAG processor, API server; SQLite)")
    with (HOME / "airflow.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "airflow", "standalone"],
            stdout=log,
            stderr=log,
            env=os.environ | settings,
            start_new_session=True,
        )
    try:
        yield Airflow(url, process)
    finally:
        # On SIGTERM it would leave its children behind.
        stop(process, signal.SIGINT)


class Airflow:
    """A running Airflow and its REST API."""

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        self.url = f"{url}/api/v2"
        self.process = process

    def wait_until_healthy(self) -> None:
        """Return when every component is up and the DAGs are there."""
        self._wait_for(self._is_healthy)
        self._wait_for(lambda: [ask(f"{self.url}/dags/{dag_id}") for dag_id in (NIGHTLY, READ)])

    def trigger(self, dag_id: str, conf: dict[str, str]) -> str:
        """Start a run."""
        body = {"logical_date": None, "conf": conf}
        return str(ask(f"{self.url}/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def follow(self, dag_id: str, run_id: str, progress: Callable[[], str]) -> None:
        """Show what the tasks do until the run has ended."""
        shown = None
        run = f"{self.url}/dags/{dag_id}/dagRuns/{quoted(run_id)}"
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            tasks = ask(f"{run}/taskInstances")["task_instances"]
            states = ", ".join(f"{t['task_id']}: {t['state'] or 'waiting'}" for t in tasks)
            line = f"   {states}{progress()}"
            if line != shown:
                shown = line
                print(line, flush=True)
            state = ask(run)["state"]
            if state == "success":
                return
            if state == "failed":
                break
            time.sleep(0.5)
        raise SystemExit(f"{dag_id} did not succeed; see {HOME / 'airflow' / 'logs'}")

    def xcom(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Return what a task returned."""
        run = f"{self.url}/dags/{dag_id}/dagRuns/{quoted(run_id)}"
        entry = f"{run}/taskInstances/{task_id}/xcomEntries/return_value"
        value = ask(entry)["value"]
        return json.loads(value) if isinstance(value, str) else value

    def _is_healthy(self) -> bool:
        parts = ask(f"{self.url}/monitor/health")
        names = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all((parts.get(name) or {}).get("status") == "healthy" for name in names)

    def _wait_for(self, condition: Callable[[], Any]) -> None:
        wait_for(condition, self.process, "Airflow", "airflow.log")


def accepted(sandbox: str) -> str:
    """Say how many patients mediQuo has accepted."""
    return f"; mediQuo accepted {ask(f'{sandbox}/sandbox/stats')['accepted']} patients"


def show_ledger(ledger: dict[str, Any]) -> None:
    """Print the counts."""
    say("The ledger (what the upsert returns; counts and a sample of codes, never a patient)")
    for name, value in ledger.items():
        if name == "sample":
            value = f"{len(value)} codes with proofs: {', '.join(list(value)[:3])}, ..."
        print(f"   {name:18} {value}")


def show_rejects() -> None:
    """Print the rejects file."""
    say("The rejects (where, which, why; no values)")
    for path in REJECTS.rglob("*.jsonl"):
        print(f"   {path.relative_to(ROOT)}")
        for line in path.read_text().splitlines():
            print(f"   {line}")


def show_patient(airflow: Airflow) -> None:
    """Read one patient back."""
    code = "M-000001"
    run_id = airflow.trigger(READ, {"code": code})
    say(f"{READ} started: {code} read back from mediQuo, and logged in")
    airflow.follow(READ, run_id, lambda: "")
    print(f"   {json.dumps(airflow.xcom(READ, run_id, 'read'))}")
    print(f"   {json.dumps(airflow.xcom(READ, run_id, 'authenticate'))}")


def ask(url: str, body: dict[str, Any] | None = None) -> Any:
    """Send a request and return the JSON that comes back."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def wait_for(
    condition: Callable[[], Any], process: subprocess.Popen[bytes], name: str, log: str
) -> None:
    """Return when it holds; end the demo when the process does, or when it takes too long."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, urllib.error.URLError, ValueError):
            if condition():
                return
        time.sleep(0.25)
    raise SystemExit(f"{name} did not start; see {HOME / log}")


def stop(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """End a process and all it has started."""
    process.send_signal(how)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def quoted(text: str) -> str:
    """Quote a run's name for a path."""
    return urllib.parse.quote(text, safe="")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
