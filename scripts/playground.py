"""Airflow's UI and a mediQuo on this machine, to click around in: `make playground`.

Starts the sandbox and an Airflow of its own (SQLite, in .playground/) with the example DAGs and the
connections that they need, says where to click, and stops both on Ctrl-C.
"""

from __future__ import annotations

import fcntl
import math
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from scripts.local_airflow import (
    ENDS,
    EXAMPLES,
    Airflow,
    Failed,
    end_in_order,
    end_leftovers,
    free_port,
    running_standalone,
    say,
    undisturbed,
)

if TYPE_CHECKING:
    from airflow_provider_mediquo.sandbox import Sandbox

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".playground"
DAGS, REJECTS, WAREHOUSE = HOME / "dags", HOME / "rejects", HOME / "warehouse.db"
AIRFLOW_PORT, SANDBOX_PORT = 8080, 8484
# Its SQL is PostgreSQL's.
LEFT_OUT = "mediquo_sharded"

READY = """\
   Start here   {airflow}/dags/mediquo_nightly
                Trigger, at the top right: 300 members go to mediQuo, and some are waited for.
   All DAGs     {airflow}/dags
                Each of them can be triggered, and changed: they are copies, in {dags}
                Left out is {left_out}, whose SQL is PostgreSQL's.
   Connections  {airflow}/connections
                In the row of mediquo_default, the pulse tests it and the pencil opens its form.
   mediQuo      {box}/
                What it was asked, and faults to switch on.
   Its API      {box}/docs
   Rejects      {rejects}
                The members that were not sent: where, which, why.

Nobody has to log in. Ctrl-C stops it all."""

FILL = """
CREATE TABLE members AS
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 2500)
SELECT printf('W-%06d', n) AS member_id, 'Ada' AS first_name, 'Ejemplo' AS last_name,
       'female' AS gender, '1980-12-10' AS birth_date, NULL AS tax_id,
       'ada.' || n || '@example.com' AS email, NULL AS phone, 'premium' AS product, 'es' AS locale
FROM numbers
"""


def main() -> None:
    """Play until Ctrl-C, whenever it comes."""
    with ExitStack() as running:
        try:
            play(running)
        except KeyboardInterrupt:
            with undisturbed():
                say("Stopping Airflow and the sandbox, in 20 seconds at most")
                running.close()
    say(f"Stopped. Logs, database and rejects: {HOME.name}/")


def play(running: ExitStack) -> None:
    """Start both, say where to click, and wait."""
    # Takes a second, in which Ctrl-C may come.
    from airflow_provider_mediquo.sandbox import Sandbox

    clear_home()
    with held_back():
        box = running.enter_context(Sandbox(port=free_port(SANDBOX_PORT)))
        say(f"A mediQuo of your own is running at {box.home}")
        say("Starting Airflow, which takes half a minute, and more on a busy machine")
        settings = {"AIRFLOW__CORE__DAGS_FOLDER": str(DAGS), "MEDIQUO_REJECTS": str(REJECTS)}
        airflow = running.enter_context(running_standalone(HOME, settings, free_port(AIRFLOW_PORT)))
    airflow.wait_until_ready(*(path.stem for path in sorted(DAGS.glob("*.py"))))
    add_connections(airflow, box)
    tell(airflow, box)
    airflow.wait_for("Ctrl-C", lambda: None, patience=math.inf)


def clear_home() -> None:
    """Start with an empty Airflow each time: the sandbox has forgotten its patients as well."""
    HOME.mkdir(exist_ok=True)
    try:
        # Held until this process ends, however it does.
        fcntl.flock(os.open(HOME, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Failed("A playground is running here already.") from None
    end_leftovers(HOME)
    for path in HOME.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(EXAMPLES, DAGS, ignore=shutil.ignore_patterns("__*", f"{LEFT_OUT}.py"))
    REJECTS.mkdir()
    with closing(sqlite3.connect(WAREHOUSE)) as warehouse:
        warehouse.execute(FILL)
        warehouse.commit()


def add_connections(airflow: Airflow, box: Sandbox) -> None:
    """Add them to the database, where the Connections page finds them."""
    sandbox = {
        **box.connection,
        "connection_id": "mediquo_default",
        "description": "The sandbox on this machine",
        # Without it the Test button answers "400" on Airflow 3.3.2.
        "port": urlsplit(box.url).port,
    }
    warehouse = {
        "connection_id": "warehouse",
        "conn_type": "sqlite",
        "description": "Members, for mediquo_warehouse",
        "host": str(WAREHOUSE),
    }
    for connection in (sandbox, warehouse):
        airflow.ask("connections", connection)


def tell(airflow: Airflow, box: Sandbox) -> None:
    """Say where to click."""
    say("Ready")
    print(
        READY.format(
            airflow=airflow.page,
            box=box.home,
            dags=f"{DAGS.relative_to(ROOT)}/",
            left_out=LEFT_OUT,
            rejects=f"{REJECTS.relative_to(ROOT)}/",
        ),
        flush=True,
    )


@contextmanager
def held_back() -> Iterator[None]:
    """Hold Ctrl-C back: a process that is half started would be left behind."""
    came: list[int] = []
    for number in ENDS:
        signal.signal(number, lambda number, _: came.append(number))
    yield
    end_in_order()
    if came:
        raise KeyboardInterrupt


if __name__ == "__main__":
    end_in_order()
    try:
        main()
    except Failed as failure:
        sys.exit(str(failure))
