"""Real servers for the tests that need them: `postgres`, `mariadb` and `s3`.

Each starts when the first test asks for it, on a port of its own on this machine, and is gone with
its files when the tests are over. What `make services` installs has to be there: without it such a
test is skipped or, with MEDIQUO_TEST_REQUIRE_SERVICES=1, fails.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from random import SystemRandom
from typing import Any, NoReturn, Self

import pytest

from tests.support.processes import unmeasured

HOST = "127.0.0.1"
USER = "tester"
PASSWORD = "p@ss/w:rd%"  # all that a URL has to escape
names = (f"test_{number}" for number in count(1))


@pytest.fixture(scope="session")
def database_servers(request: pytest.FixtureRequest) -> None:
    """What a quick run goes without."""
    if request.config.getoption("quick"):
        pytest.skip("a quick run starts no database server")


def missing(what: str) -> NoReturn:
    message = f"{what} is missing: run `make services`"
    if os.environ.get("MEDIQUO_TEST_REQUIRE_SERVICES") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def program(name: str, *folders: Path) -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", *map(str, folders)])
    return shutil.which(name, path=path) or missing(f"the program {name}")


def modules(*wanted: str) -> None:
    for name in wanted:
        try:
            found = find_spec(name)
        except ModuleNotFoundError:  # not even its parent
            found = None
        if not found:
            missing(f"the Python module {name}")


def free_port() -> int:
    """A port below those that Linux gives to whoever asks for any: it stays free until it is used."""
    while True:
        port = SystemRandom().randrange(10_000, 30_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind((HOST, port))
            return port


def as_nobody() -> list[str]:
    """What starts a server: as root never as root, and so that it ends if the tests are killed."""
    setpriv = [program("setpriv"), "--pdeathsig", "TERM"]
    if os.geteuid():
        return setpriv
    return setpriv + ["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for a server's files that `as_nobody` may write to."""
    with tempfile.TemporaryDirectory(prefix="mediquo-test-") as name:
        if not os.geteuid():
            shutil.chown(name, "nobody", "nogroup")
        yield Path(name)


def prepare(command: list[str], home: Path) -> None:
    done = subprocess.run(
        command, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{command[0]}:\n{done.stdout}{done.stderr}"


@contextmanager
def running(
    command: list[str], home: Path, answers: Callable[[], Any], stop: int = signal.SIGTERM
) -> Iterator[None]:
    """Run a server from the moment on when `answers` raises no error any more."""
    log = home / "log"
    with log.open("wb") as output:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        process = subprocess.Popen(command, cwd=home, env=unmeasured(), **pipes)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                answers()
                break
            except Exception as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"{command}:\n{log.read_text()}") from error
                time.sleep(0.05)
        yield
    finally:
        process.send_signal(stop)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Database:
    """A database on a server of this machine; the fixtures give the server's first one."""

    conn_type: str
    port: int
    dbname: str
    host: str = HOST
    user: str = USER
    password: str = PASSWORD

    @property
    def connection(self) -> dict[str, Any]:
        """An Airflow connection that leads here."""
        return {
            "conn_type": self.conn_type,
            "host": self.host,
            "port": self.port,
            "login": self.user,
            "password": self.password,
            "schema": self.dbname,
        }

    def json(self, **changes: Any) -> str:
        """The connection as an AIRFLOW_CONN_... has it: `postgres.json(extra={...})`."""
        return json.dumps(self.connection | changes)

    def connect(self) -> Any:
        """A DB-API connection that commits each statement."""
        raise NotImplementedError

    def run(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Run one statement, in a connection of its own, and return its rows."""
        with closing(self.connect()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(sql, parameters)
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    @contextmanager
    def fresh(self) -> Iterator[Self]:
        """An empty database on the same server, dropped at the end, whoever still uses it."""
        name = next(names)
        self.run(f"CREATE DATABASE {name}")
        try:
            yield replace(self, dbname=name)
        finally:
            self.drop(name)

    def drop(self, name: str) -> None:
        raise NotImplementedError


# Creating a database and dropping it would take the server five times as long.
EMPTY = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid();
DROP SCHEMA public CASCADE;
CREATE SCHEMA public AUTHORIZATION pg_database_owner;
GRANT USAGE ON SCHEMA public TO PUBLIC;
"""
IS_AS_NEW = """
SELECT NOT EXISTS (SELECT FROM pg_db_role_setting WHERE setdatabase = pg_database.oid)
    AND NOT EXISTS (SELECT FROM pg_namespace WHERE oid >= 16384 AND nspname <> 'public')
    AND datacl IS NULL
FROM pg_database WHERE datname = current_database()
"""


@dataclass(frozen=True)
class Postgres(Database):
    emptied: list[str] = field(default_factory=list, compare=False)

    @contextmanager
    def fresh(self) -> Iterator[Self]:
        """An empty database on the same server, emptied at the end for whoever is next.

        One with settings or schemas of its own is dropped.
        """
        if not self.emptied:
            self.emptied.append(next(names))
            self.run(f"CREATE DATABASE {self.emptied[-1]}")
        database = replace(self, dbname=self.emptied.pop())
        try:
            yield database
        finally:
            if database.run(EMPTY + IS_AS_NEW) == [(True,)]:
                self.emptied.append(database.dbname)
            else:
                self.drop(database.dbname)

    def connect(self) -> Any:
        import psycopg2

        connection = psycopg2.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=self.dbname,
            connect_timeout=5,
        )
        connection.autocommit = True
        return connection

    def drop(self, name: str) -> None:
        self.run(f"DROP DATABASE {name} WITH (FORCE)")


class MariaDB(Database):
    def connect(self) -> Any:
        import mysql.connector

        return mysql.connector.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            database=self.dbname,
            autocommit=True,
            connection_timeout=5,
        )

    def drop(self, name: str) -> None:
        from mysql.connector import DatabaseError, errorcode

        # A transaction that has read a table holds a lock that DROP DATABASE waits for.
        for (number,) in self.run(
            "SELECT id FROM information_schema.processlist WHERE db = %s", [name]
        ):
            try:
                self.run(f"KILL {number}")
            except DatabaseError as error:
                if error.errno != errorcode.ER_NO_SUCH_THREAD:  # it ended by itself
                    raise
        self.run(f"DROP DATABASE {name}")


@pytest.fixture(scope="session")
def postgres(database_servers: None) -> Iterator[Postgres]:
    """A PostgreSQL server."""
    modules("psycopg2", "airflow.providers.postgres")
    # Debian keeps the programs of each version apart, out of PATH.
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    bins = sorted(versions, key=lambda path: float(path.parent.name), reverse=True)
    initdb, server = program("initdb", *bins), program("postgres", *bins)
    database = Postgres("postgres", free_port(), "postgres")
    with folder() as home:
        password = home / "password"
        password.write_text(database.password)
        make = as_nobody() + [initdb, "--pgdata=data", f"--username={database.user}"]
        make += ["--pwfile=password", "--auth=scram-sha-256"]
        prepare(make + ["--no-locale", "--encoding=UTF8", "--no-sync"], home)
        settings = {
            "listen_addresses": database.host,
            "port": database.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
        }
        command = as_nobody() + [server, "-D", "data"]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        # SIGTERM would wait for connections that a test left open.
        with running(command, home, lambda: database.run("SELECT 1"), signal.SIGINT):
            yield database


@pytest.fixture
def postgres_database(postgres: Postgres) -> Iterator[Postgres]:
    """An empty PostgreSQL database of this test alone."""
    with postgres.fresh() as database:
        yield database


@pytest.fixture(scope="session")
def mariadb(database_servers: None) -> Iterator[MariaDB]:
    """A MariaDB server."""
    modules("MySQLdb", "mysql.connector", "airflow.providers.mysql")
    install, server = program("mariadb-install-db"), program("mariadbd")
    program("my_print_defaults")  # which mariadb-install-db needs
    database = MariaDB("mysql", free_port(), "tests")
    settings = [
        "--no-defaults",
        "--character-set-server=utf8mb4",
        "--skip-name-resolve",
        "--innodb-log-file-size=8M",
        "--innodb-buffer-pool-size=32M",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-flush-method=nosync",
    ]
    with folder() as home:
        # A server that starts clears away what it takes for left over in a folder that all share.
        settings += [f"--datadir={home / 'data'}", f"--tmpdir={home}"]
        make = as_nobody() + [install, *settings, "--skip-test-db"]
        prepare(make + ["--auth-root-authentication-method=normal"], home)
        start = home / "start.sql"
        start.write_text(
            "DELETE FROM mysql.global_priv WHERE user <> 'mariadb.sys';\n"  # no passwords
            "FLUSH PRIVILEGES;\n"
            f"CREATE USER '{database.user}'@'%' IDENTIFIED BY '{database.password}';\n"
            f"GRANT ALL ON *.* TO '{database.user}'@'%' WITH GRANT OPTION;\n"
            f"CREATE DATABASE {database.dbname};\n"
        )
        command = as_nobody() + [server, *settings, f"--init-file={start}"]
        command += [f"--bind-address={database.host}", f"--port={database.port}"]
        command += [f"--socket={home / 'socket'}", f"--pid-file={home / 'pid'}"]
        with running(command, home, lambda: database.run("SELECT 1")):
            yield database


@pytest.fixture
def mariadb_database(mariadb: MariaDB) -> Iterator[MariaDB]:
    """An empty MariaDB database of this test alone."""
    with mariadb.fresh() as database:
        yield database


@dataclass(frozen=True)
class S3:
    """A store that speaks S3, and a bucket in it."""

    endpoint_url: str
    bucket: str
    access_key: str = "tester"
    secret_key: str = "secret"

    @property
    def connection(self) -> dict[str, Any]:
        """An Airflow connection that leads here."""
        return {
            "conn_type": "aws",
            "login": self.access_key,
            "password": self.secret_key,
            "extra": {"endpoint_url": self.endpoint_url, "region_name": "us-east-1"},
        }

    def json(self, **changes: Any) -> str:
        """The connection as an AIRFLOW_CONN_... has it."""
        return json.dumps(self.connection | changes)

    def client(self) -> Any:
        """A boto3 client, which goes its own way to the store."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
        )

    @contextmanager
    def fresh(self) -> Iterator["S3"]:
        """An empty bucket of the same store; the store keeps it until it ends."""
        store = replace(self, bucket=next(names).replace("_", "-"))
        with closing(self.client()) as client:
            client.create_bucket(Bucket=store.bucket)
        yield store


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """A store that speaks S3."""
    modules("moto", "flask", "flask_cors", "s3fs", "airflow.providers.amazon")
    port = free_port()
    store = S3(f"http://{HOST}:{port}", "tests")
    with folder() as home, closing(store.client()) as client:
        command = [program("setpriv"), "--pdeathsig", "TERM", sys.executable]
        command += ["-m", "moto.server", "--host", HOST, "--port", str(port)]

        def create() -> None:
            socket.create_connection((HOST, port), 1).close()
            client.create_bucket(Bucket=store.bucket)

        with running(command, home, create):
            yield store


@pytest.fixture
def s3_bucket(s3: S3) -> Iterator[S3]:
    """An empty bucket of this test alone."""
    with s3.fresh() as store:
        yield store
