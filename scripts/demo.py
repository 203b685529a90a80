"""Runs the nightly example in a real Airflow against the sandbox: `make demo`.

Starts the sandbox and a separate Airflow (SQLite, in .demo/), runs the DAG, shows the result, and
stops both.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from airflow_provider_mediquo.sandbox import Sandbox
from dev.local_airflow import (
    Airflow,
    DagRun,
    Failed,
    end_leftovers,
    running_standalone,
    say,
    stop_cleanly_on_signals,
)

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".demo"
REJECTS = HOME / "rejects"
NIGHTLY, READ = "mediquo_nightly", "mediquo_read_patient"


def main() -> None:
    """Run the demo from start to end."""
    started = time.monotonic()
    end_leftovers(HOME)
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir()
    with Sandbox() as box:
        say(f"The sandbox, a local mock of mediQuo, is running at {box.home}")
        say("Starting Airflow (scheduler, triggerer, DAG processor, API server; SQLite)")
        settings = {"AIRFLOW_CONN_MEDIQUO_DEFAULT": json.dumps(box.connection)}
        with running_standalone(HOME, settings) as airflow:
            airflow.wait_until_ready(NIGHTLY, READ)
            nightly = airflow.trigger(NIGHTLY, rejects=str(REJECTS))
            say(f"{NIGHTLY} started: 300 members from example_dags/data/members.csv")
            follow(nightly, box)
            show_ledger(nightly.xcom("upsert"))
            show_rejects()
            show_patient(airflow, box)
            say("Stopping Airflow and the sandbox")
    say(f"Done in {time.monotonic() - started:.0f} s. Logs and database: {HOME.name}/")


def follow(run: DagRun, box: Sandbox) -> None:
    """Print the progress until the run has ended."""
    if run.follow(lambda: f"; mediQuo accepted {box.counters.accepted} patients") != "success":
        raise Failed(f"{run.dag_id} did not succeed; see {HOME / 'airflow' / 'logs'}")


def show_ledger(ledger: dict[str, Any]) -> None:
    """Print the ledger."""
    say("The ledger (what the upsert returns; counts and a sample of codes, never a patient)")
    for name, value in ledger.items():
        if name == "sample":
            value = f"{len(value)} codes with proofs: {', '.join(list(value)[:3])}, ..."
        print(f"   {name:18} {value}")


def show_rejects() -> None:
    """Print the reject report."""
    say("The reject report (file, line, field and rule; no values)")
    for path in REJECTS.rglob("*.jsonl"):
        print(f"   {path.relative_to(ROOT)}")
        for line in path.read_text().splitlines():
            print(f"   {line}")


def show_patient(airflow: Airflow, box: Sandbox) -> None:
    """Read one patient back."""
    read = airflow.trigger(READ, code="M-000001")
    say(f"{READ} started: M-000001 is read back from mediQuo and logs in")
    follow(read, box)
    print(f"   {json.dumps(read.xcom('read'))}")
    print(f"   {json.dumps(read.xcom('authenticate'))}")


if __name__ == "__main__":
    stop_cleanly_on_signals()
    try:
        main()
    except Failed as failure:
        sys.exit(str(failure))
    except KeyboardInterrupt:
        sys.exit(130)
