"""Starts Airflow with its web UI, and the sandbox, so that you can explore: `make playground`.

The Airflow is a separate one (SQLite, in .playground/ or the given folder), with the example DAGs
and the connections that they need. Prints where to click, and stops both on Ctrl-C.
"""

from __future__ import annotations

import fcntl
import math
import os
import shutil
import signal
import sqlite3
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dev.local_airflow import (
    EXAMPLES,
    STOP_SIGNALS,
    Airflow,
    Failed,
    end_leftovers,
    free_port,
    running_standalone,
    say,
    stop_cleanly_on_signals,
)

if TYPE_CHECKING:
    from airflow_provider_mediquo.sandbox import Sandbox

HOME = Path(".playground")
WAREHOUSE, STATE = "warehouse.db", "state.db"
AIRFLOW_PORT, SANDBOX_PORT = 8080, 8484
# Its SQL works on PostgreSQL only.
LEFT_OUT = "mediquo_sharded"

READY = """\
   Start here   {airflow}/dags/mediquo_nightly
                Trigger, at the top right: 300 members go to mediQuo, and a sensor waits for 20.
   In sync      {airflow}/dags/mediquo_warehouse
                Trigger it twice: the first run sends 2,500 members, the second sends none. Then
                change or delete rows of the table members in {home}/warehouse.db.
   All DAGs     {airflow}/dags
                Trigger any of them. They are copies in {home}/dags: edit them as you
                like, the next start replaces them.
                {left_out} is missing: it needs PostgreSQL.
   Connections  {airflow}/connections
                In the row of mediquo_default, the pulse icon tests it, the pencil opens its form.
   mediQuo      {box}/
                The sandbox: its requests as charts, and switches for faults.
   Its API      {box}/docs
   Rejects      {home}/rejects
                The reject reports: which records were not sent, and why.

No login is needed. Ctrl-C stops everything."""

FILL = """
CREATE TABLE members AS
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 2500)
SELECT printf('W-%06d', n) AS member_id, 'Ada' AS first_name, 'Ejemplo' AS last_name,
       'female' AS gender, '1980-12-10' AS birth_date, NULL AS tax_id,
       'ada.' || n || '@example.com' AS email, NULL AS phone, 'premium' AS product, 'es' AS locale
FROM numbers
"""


def main(home: Path) -> None:
    """Run until Ctrl-C."""
    with ExitStack() as running:
        try:
            play(home, running)
        except KeyboardInterrupt:
            for number in STOP_SIGNALS:  # a second Ctrl-C must not leave processes behind
                signal.signal(number, signal.SIG_IGN)
            say("Stopping Airflow and the sandbox (20 seconds at most)")
    say(f"Stopped. Logs, database and rejects: {home}")


def play(home: Path, running: ExitStack) -> None:
    """Start both, print where to click, and wait."""
    # Imported late: it takes a second, and Ctrl-C must work meanwhile.
    from airflow_provider_mediquo.sandbox import Sandbox

    clear(home)
    box = running.enter_context(Sandbox(port=free_port(SANDBOX_PORT)))
    say(f"The sandbox, a local mock of mediQuo, is running at {box.home}")
    say("Starting Airflow (half a minute, longer on a busy machine)")
    dags = home / "dags"
    settings = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "MEDIQUO_REJECTS": str(home / "rejects"),
    }
    airflow = running.enter_context(running_standalone(home, settings, free_port(AIRFLOW_PORT)))
    airflow.wait_until_ready(*(path.stem for path in sorted(dags.glob("*.py"))))
    add_connections(airflow, box)
    say("Ready")
    print(
        READY.format(airflow=airflow.page, box=box.home, home=home, left_out=LEFT_OUT), flush=True
    )
    airflow.wait_for("Ctrl-C", lambda: None, timeout=math.inf)


def clear(home: Path) -> None:
    """Start with an empty Airflow each time: the sandbox has forgotten its patients as well."""
    home.mkdir(exist_ok=True)
    try:
        # The lock is held until this process ends.
        fcntl.flock(os.open(home, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Failed("A playground is already running in this folder.") from None
    end_leftovers(home)
    for path in home.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(EXAMPLES, home / "dags", ignore=shutil.ignore_patterns("__*", f"{LEFT_OUT}.py"))
    (home / "rejects").mkdir()
    with closing(sqlite3.connect(home / WAREHOUSE)) as warehouse:
        warehouse.execute(FILL)
        warehouse.commit()


def add_connections(airflow: Airflow, box: Sandbox) -> None:
    """Add them to Airflow's database, so that the Connections page shows them."""
    sandbox = {
        **box.connection,
        "connection_id": "mediquo_default",
        "description": "The sandbox on this machine",
        # Without it the Test button answers "400" on Airflow 3.3.2.
        "port": urlsplit(box.url).port,
    }
    databases = (
        ("warehouse", WAREHOUSE, "Members, for mediquo_warehouse"),
        ("mediquo_state", STATE, "What mediQuo has, for mediquo_warehouse"),
    )
    airflow.ask("connections", sandbox)
    for connection_id, file, description in databases:
        connection = {
            "connection_id": connection_id,
            "conn_type": "sqlite",
            "description": description,
            "host": str(airflow.home / file),
        }
        airflow.ask("connections", connection)


if __name__ == "__main__":
    stop_cleanly_on_signals()
    try:
        main(Path(sys.argv[1] if sys.argv[1:] else HOME).resolve())
    except (Failed, OSError) as failure:
        sys.exit(str(failure))
