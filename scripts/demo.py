"""Runs three nights of the warehouse example in a real Airflow against the sandbox: `make demo`.

Starts the sandbox and a separate Airflow (SQLite, in .demo/), runs the DAG once for each night, shows
the results side by side, and stops both.
"""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from airflow_provider_mediquo.sandbox import Sandbox
from dev.local_airflow import (
    EXAMPLES,
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
WAREHOUSE, STATE = HOME / "warehouse.db", HOME / "state.db"
MEMBERS = EXAMPLES / "data" / "members.csv"
NIGHTLY, READ = "mediquo_warehouse", "mediquo_read_patient"
LEAVER = "M-000002"
COSTS = {"retries", "seconds", "throttled_seconds"}

CHANGES = """
UPDATE members SET email = 'marian@example.com' WHERE member_id = 'M-000001';
UPDATE members SET product = 'premium' WHERE member_id = 'M-000003';
INSERT INTO members (member_id, first_name, product) VALUES ('M-000301', 'Ada', 'family');
"""
NIGHTS = (
    ("First night: 300 members from example_dags/data/members.csv", ""),
    ("Second night: an e-mail address and a plan changed, and one member joined", CHANGES),
    ("Third night: one member left", f"DELETE FROM members WHERE member_id = '{LEAVER}';"),
)


def main() -> None:
    """Run the demo from start to end."""
    started = time.monotonic()
    end_leftovers(HOME)
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir()
    fill_warehouse()
    with Sandbox() as box:
        say(f"The sandbox, a local mock of mediQuo, is running at {box.home}")
        say("Starting Airflow (scheduler, triggerer, DAG processor, API server; SQLite)")
        with running_standalone(HOME, connections(box)) as airflow:
            airflow.wait_until_ready(NIGHTLY, READ)
            ledgers = [run_night(airflow, box, *night) for night in NIGHTS]
            show_rejects(Path(ledgers[0]["rejects_path"]))
            show_patient(airflow, box)
            show_ledgers(ledgers)
            show_leaver(box)
            say("Stopping Airflow and the sandbox")
    say(f"Done in {time.monotonic() - started:.0f} s. Logs and databases: {HOME.name}/")


def connections(box: Sandbox) -> dict[str, str]:
    """Return the environment variables that define Airflow's connections."""
    of_id = {
        "MEDIQUO_DEFAULT": box.connection,
        "WAREHOUSE": {"conn_type": "sqlite", "host": str(WAREHOUSE)},
        "MEDIQUO_STATE": {"conn_type": "sqlite", "host": str(STATE)},
    }
    return {f"AIRFLOW_CONN_{name}": json.dumps(value) for name, value in of_id.items()}


def fill_warehouse() -> None:
    """Make a table of the members in the CSV file."""
    with MEMBERS.open(newline="", encoding="utf-8") as file, closing(open_warehouse()) as warehouse:
        header, *rows = csv.reader(file)
        warehouse.execute(f"CREATE TABLE members ({', '.join(header)}, tax_id)")
        marks = ", ".join("?" * len(header))
        warehouse.executemany(f"INSERT INTO members VALUES ({marks}, NULL)", rows)
        warehouse.commit()


def open_warehouse() -> sqlite3.Connection:
    """Connect to the database of the members."""
    return sqlite3.connect(WAREHOUSE)


def run_night(airflow: Airflow, box: Sandbox, title: str, changes: str) -> dict[str, Any]:
    """Change the members, run the DAG, and return the ledger."""
    with closing(open_warehouse()) as warehouse:
        warehouse.executescript(changes)
    say(title)
    run = airflow.trigger(NIGHTLY, rejects=str(REJECTS))
    follow(run, box)
    box.settings.lag = 1  # only the first night waits
    return dict(run.xcom("upsert"))


def follow(run: DagRun, box: Sandbox) -> None:
    """Print the progress until the run has ended."""

    def accepted() -> str:
        return f"; mediQuo accepted {box.counters.accepted} records so far"

    if run.follow(accepted) != "success":
        raise Failed(f"{run.dag_id} did not succeed; see {HOME / 'airflow' / 'logs'}")


def show_rejects(report: Path) -> None:
    """Print a reject report."""
    say("The reject report of the first night (row, code, field and rule; no values)")
    print(f"   {report.relative_to(ROOT)}")
    for line in report.read_text().splitlines():
        print(f"   {line}")


def show_patient(airflow: Airflow, box: Sandbox) -> None:
    """Read one patient back."""
    read = airflow.trigger(READ, code="M-000001")
    say(f"{READ} started: M-000001 is read back from mediQuo and logs in")
    follow(read, box)
    print(f"   {json.dumps(read.xcom('read'))}")
    print(f"   {json.dumps(read.xcom('authenticate'))}")


def show_ledgers(ledgers: list[dict[str, Any]]) -> None:
    """Print the counts of the nights side by side, except those that are 0 each night."""
    say("The ledgers of the three nights (what the upsert returns; counts, never a patient)")
    nights = "".join(f"{f'night {number}':>10}" for number in range(1, len(ledgers) + 1))
    print(f"   {'':20}{nights}")
    for name, value in ledgers[0].items():
        counts = [ledger[name] for ledger in ledgers]
        if isinstance(value, int) and any(counts) and name not in COSTS:
            print(f"   {name:20}{''.join(f'{count:10,}' for count in counts)}")


def show_leaver(box: Sandbox) -> None:
    """Print what mediQuo has of the member that left."""
    patient = box.patients[LEAVER]
    kept = {name: patient[name] for name in ("code", "first_name", "plan", "unsubscribed_at")}
    say(f"{LEAVER} left the table: mediQuo keeps everything except the plan")
    print(f"   {json.dumps(kept)}")


if __name__ == "__main__":
    stop_cleanly_on_signals()
    try:
        main()
    except Failed as failure:
        sys.exit(str(failure))
    except KeyboardInterrupt:
        sys.exit(130)
