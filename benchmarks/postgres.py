"""A local PostgreSQL with a table of patients."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from common import end, free_port

TABLE = """
CREATE TABLE patients AS SELECT
    'M-' || lpad(n::text, 7, '0') AS code,
    'Hans-Georg' AS first_name,
    'von der Tannhäuser' AS last_name,
    'male' AS gender,
    date '1935-01-01' + n % 29000 AS birth_date,
    lpad(n::text, 8, '0') || 'Z' AS tax_id,
    'member.' || lpad(n::text, 7, '0') || '@example.com' AS email,
    '+44 7700 900' || lpad((n % 1000)::text, 3, '0') AS phone,
    'essential' AS plan,
    'de' AS locale,
    json_build_object('card_id', lpad(n::text, 16, '0')) AS meta
FROM generate_series(0, {rows} - 1) AS n
"""


@contextlib.contextmanager
def running_postgres(rows: int) -> Iterator[str]:
    """Start a server with a number of patients; yield its Airflow connection as JSON."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="mediquo-benchmark-") as folder:
        if not os.geteuid():
            shutil.chown(folder, "nobody", "nogroup")
        as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        user = [] if os.geteuid() else as_nobody  # PostgreSQL refuses to run as root
        make = [
            program("initdb"),
            "-D",
            "data",
            "-U",
            "tester",
            "-A",
            "trust",
            "--no-sync",
            "-E",
            "UTF8",
        ]
        subprocess.run(user + make, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        serve = [program("postgres"), "-D", "data", "-p", str(port), "-h", "127.0.0.1", "-k", ""]
        log = Path(folder, "log")
        with log.open("wb") as output:
            server = subprocess.Popen(
                user + serve, cwd=folder, stdout=output, stderr=output, start_new_session=True
            )
        try:
            wait_for(port)
            tell(port, TABLE.format(rows=rows))
            connection = {"conn_type": "postgres", "host": "127.0.0.1", "port": port}
            yield json.dumps(connection | {"login": "tester", "schema": "postgres"})
        finally:
            end(server, signal.SIGINT)


def program(name: str) -> str:
    """Find a program of PostgreSQL; Debian installs them outside of the PATH."""
    apart = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *apart]))
    if not found:
        raise SystemExit(f"There is no PostgreSQL here: `{name}` is missing.")
    return found


def tell(port: int, statement: str) -> None:
    """Run a statement."""
    command = [program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"]
    command += ["-p", str(port), "-U", "tester", "-d", "postgres", "-c", statement]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def wait_for(port: int) -> None:
    """Wait until the server answers."""
    ready = [program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    for _ in range(600):
        if not subprocess.run(ready, check=False).returncode:
            return
        time.sleep(0.1)
    raise SystemExit("PostgreSQL did not start.")
