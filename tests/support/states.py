"""Databases for the state of a sync, and uploads with one: `state` is SQLite, `every_state` all.

An upload goes through `Synced`, which adds up its ledger, however it ends.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import tenacity
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import Engine

from airflow_provider_mediquo.api.client.client import MediquoClient
from airflow_provider_mediquo.api.client.rate_limit import RateLimiters
from airflow_provider_mediquo.api.client.retry import RetryPolicy
from airflow_provider_mediquo.api.client.settings import Settings
from airflow_provider_mediquo.api.records import EmptyPart
from airflow_provider_mediquo.api.report import UploadReport
from airflow_provider_mediquo.api.sync.run import SyncRun
from airflow_provider_mediquo.api.sync.settings import SyncSettings
from airflow_provider_mediquo.api.sync.store import Store
from airflow_provider_mediquo.api.upload.options import UploadOptions, as_of_microseconds
from airflow_provider_mediquo.api.upload.reject_files import LocalFile
from airflow_provider_mediquo.api.upload.reject_log import RejectLog
from airflow_provider_mediquo.api.upload.runner import Upload
from airflow_provider_mediquo.sandbox import Sandbox

CONN_ID = "state"
TABLES = ("mediquo_state", "mediquo_sync", "mediquo_member", "mediquo_receipt")
POSTGRES = ["psycopg", "psycopg2"]
MARIADB = ["mysqlclient", "mysql-connector-python"]
SERVERS = [*POSTGRES, *MARIADB]
PLENTY = 1_000_000


@dataclass
class State:
    """A database that keeps a state; Airflow's connection `state` leads to it.

    :param make_engine: as the hook makes it.
    :param server: None for SQLite.
    """

    driver: str
    make_engine: Callable[[], Engine]
    server: Any = None
    engines: list[Engine] = field(default_factory=list)

    def engine(self) -> Engine:
        self.engines.append(self.make_engine())
        return self.engines[-1]

    def store(self) -> Store:
        return Store(self.engine())

    @cached_property
    def own(self) -> Engine:
        """For what is done behind the back of a run."""
        return self.engine()

    def run(self, sql: str, **parameters: Any) -> Any:
        """Run one statement; return the number of rows that it changed, or the rows it found."""
        with self.own.begin() as connection:
            result = connection.execute(text(sql), parameters)
            if not result.returns_rows:
                return result.rowcount
            return [dict(row) for row in result.mappings()]

    def tables(self) -> set[str]:
        return set(inspect(self.own).get_table_names())

    def members(self) -> dict[str, dict[str, Any]]:
        """Code -> its row."""
        rows = self.run("SELECT * FROM mediquo_member")
        return {row.pop("code"): row for row in rows}

    def sync(self, name: str = "members") -> dict[str, Any]:
        (row,) = self.run("SELECT * FROM mediquo_sync WHERE name = :name", name=name)
        return dict(row)

    def receipts(self) -> list[dict[str, Any]]:
        return list(self.run("SELECT * FROM mediquo_receipt ORDER BY sync, run"))

    def dump(self) -> str:
        """All that is in the tables, as text."""
        found = [self.run(f"SELECT * FROM {table}") for table in TABLES if table in self.tables()]
        return json.dumps(found, default=str, ensure_ascii=False)

    def in_doubt(self) -> set[str]:
        return {code for code, row in self.members().items() if row["in_doubt_by"] is not None}

    def pretend_dead(self, seconds: int = 51, name: str = "members") -> None:
        """Set the last heartbeat of a sync back, as if its worker had died."""
        earlier = {
            "sqlite": f"datetime(heartbeat, '{-seconds} seconds')",
            "psycopg": f"heartbeat - interval '{seconds} seconds'",
            "psycopg2": f"heartbeat - interval '{seconds} seconds'",
        }.get(self.driver, f"heartbeat - interval {seconds} second")
        changed = self.run(
            f"UPDATE mediquo_sync SET heartbeat = {earlier} WHERE name = :name", name=name
        )
        assert changed == 1

    def pretend_old(self, days: float) -> None:
        """Pretend that all members were sent so many days earlier."""
        self.run("UPDATE mediquo_member SET sent_at = sent_at - :s", s=int(days * 86_400))


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """A state in a file."""
    file = tmp_path / "state.db"
    state = State(
        "sqlite", lambda: create_engine(f"sqlite:///{file}", connect_args={"timeout": 30})
    )
    yield state
    _dispose(state)


@pytest.fixture
def every_state(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[State]:
    """A state that Airflow's connection `state` leads to, through one driver."""
    driver, server = request.param, None
    from airflow_provider_mediquo.hooks.database import engine_of

    if driver == "sqlite":
        file = request.getfixturevalue("tmp_path") / "state.db"
        connection = json.dumps({"conn_type": "sqlite", "host": str(file)})
    elif driver in POSTGRES:
        from airflow.providers.postgres.hooks import postgres

        if driver == "psycopg2":  # which older versions of the hook use
            monkeypatch.setattr(postgres, "USE_PSYCOPG3", False)
        server = request.getfixturevalue("postgres_database")
        connection = server.json()
    else:
        server = request.getfixturevalue("mariadb_database")
        connection = server.json(extra={"client": driver})
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", connection)
    state = State(driver, lambda: engine_of(CONN_ID), server)
    yield state
    _dispose(state)


def _dispose(state: State) -> None:
    for engine in state.engines:
        engine.dispose()


# The second driver of a database runs lines that the first has run.
EVERY = [
    pytest.param(driver, marks=pytest.mark.no_cover)
    if driver in (POSTGRES[1], MARIADB[1])
    else driver
    for driver in ["sqlite", *SERVERS]
]
every_database = pytest.mark.parametrize("every_state", EVERY, indirect=True)
# What depends on the database is measured where each statement is tested, with `every_database`.
ONE_OF_EACH = [
    "sqlite",
    *(pytest.param(drivers[0], marks=pytest.mark.no_cover) for drivers in (POSTGRES, MARIADB)),
]
one_of_each = pytest.mark.parametrize("every_state", ONE_OF_EACH, indirect=True)
every_server = pytest.mark.parametrize("every_state", EVERY[1:], indirect=True)


def heal(box: Sandbox) -> None:
    """Let mediQuo answer again, whatever it was told to do next."""
    box._mediquo.faults._scripts.clear()


class Taken:
    """An iterator over records that tells how many were taken, and whether it was closed."""

    def __init__(self, records: Iterable[Any]) -> None:
        self.pulled, self.closed = 0, False
        self._records = iter(records)

    def __iter__(self) -> "Taken":
        return self

    def __next__(self) -> Any:
        record = next(self._records)
        self.pulled += not isinstance(record, EmptyPart)
        return record

    def close(self) -> None:
        self.closed = True


@dataclass
class Synced:
    """An upload with a state, whose ledger is added up when it has ended."""

    upload: Upload
    sync: SyncRun
    source: Taken
    path: Path
    error: BaseException | None = None
    lines: list[dict[str, Any]] = field(default_factory=list)
    unsubscribed_lines: list[dict[str, Any]] = field(default_factory=list)
    """The list of the unsubscribed."""

    def __getattr__(self, name: str) -> Any:
        """A count of the ledger."""
        return getattr(self.upload.report, name)

    @property
    def report(self) -> UploadReport:
        return self.upload.report

    @property
    def counts(self) -> dict[str, int]:
        """What is not 0 of what became of the records and the missing members."""
        names = ["read", "new", "changed", "resent", "unchanged", "withheld", "skipped"]
        names += ["rejected", "unsettled", "unsubscribed"]
        names += ["missing", "missing_unsubscribed", "missing_withheld", "missing_unsettled"]
        return {name: getattr(self.report, name) for name in names if getattr(self.report, name)}

    def codes(self, refused_by: str) -> set[str]:
        return {line["code"] for line in self.lines if line["refused_by"] == refused_by}

    def go(self) -> "Synced":
        others = {*threading.enumerate()}  # one run may begin inside another
        try:
            returned = self.upload.run(self.source)
        except BaseException as error:  # noqa: BLE001  # whatever ends it: the ledger has to be complete
            self.error = error
        else:
            assert returned is self.report
        self.audit({*threading.enumerate()} - others)
        return self

    def ok(self) -> "Synced":
        """Of a run that has to succeed."""
        if self.error:
            raise self.error
        return self

    def audit(self, threads: Iterable[threading.Thread]) -> None:
        own = ("mediquo_", "mediquo-progress")
        alive = [thread.name for thread in threads if thread.name.startswith(own)]
        assert not alive, f"threads that were not joined: {alive}"
        assert self.source.closed
        ledger, report = self.report.as_dict(), self.report
        parts = ["upserted", "unchanged", "withheld", "skipped", "rejected", "unsettled"]
        assert ledger["read"] == self.source.pulled == sum(ledger[name] for name in parts)
        assert ledger["upserted"] == sum(ledger[name] for name in ("new", "changed", "resent"))
        parts = ["missing_unsubscribed", "missing_withheld", "missing_unsettled"]
        assert ledger["missing"] == sum(ledger[name] for name in parts)
        assert all(value >= 0 for value in report.counts().values())
        assert ledger["unsubscribed"] <= ledger["would_unsubscribe"] or self.error
        if self.path.exists():
            self.lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        self.audit_unsubscribed()
        written = Counter(line["refused_by"] for line in self.lines if line["row"])
        counted = {
            "schema": report.invalid,
            "duplicate": report.duplicate,
            "mediquo": report.refused,
            "unsettled": report.unsettled,
            "withheld": report.withheld,
            "omitted": report.omitted,
        }
        assert written == Counter(counted)
        if self.error is None:
            assert ledger["unsettled"] == 0
            assert ledger["stopped_because"] is None
        else:
            assert getattr(self.error, "report", None) is report

    def audit_unsubscribed(self) -> None:
        """The list names exactly those that the ledger counts."""
        report, path = self.report, self.path.with_suffix(".unsubscribed.jsonl")
        if path.exists():
            self.unsubscribed_lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines = self.unsubscribed_lines
        reasons = Counter(line["reason"] for line in lines)
        counted = {"no plan": report.without_plan, "left": report.missing_had_plan}
        assert reasons == Counter(counted)
        assert sum(line["had_plan"] for line in lines) == report.unsubscribed
        assert report.missing_had_plan <= report.missing_unsubscribed


@pytest.fixture
def prepare_sync(tmp_path: Path) -> Iterator[Callable[..., Synced]]:
    """Make an upload with a state that has yet to `go`: `prepare_sync(box, state, records)`."""
    clients: list[MediquoClient] = []

    def make(
        box: Sandbox,
        state: State,
        records: Iterable[Any],
        *,
        name: str = "members",
        secret_key: str = "sandbox-secret-key",
        **options: Any,
    ) -> Synced:
        checked = UploadOptions(state_conn_id=CONN_ID, **options)
        settings = Settings(
            base_url=box.url,
            api_key="sandbox-api-key",
            secret_key=secret_key,
            requests_per_minute=PLENTY,
        )
        retry = RetryPolicy(backoff=tenacity.wait_none())
        clients.append(MediquoClient(settings, retry=retry, limiters=RateLimiters()))
        sync = SyncRun(
            state.store(),
            SyncSettings(
                name=name,
                secret_key=secret_key,
                reading=checked.reading(),
                dropped=checked.dropped(),
                resend_after=checked.resend_after,
                receipts_for=checked.receipts_for,
                as_of=as_of_microseconds(checked.as_of),
                dry_run=checked.dry_run,
            ),
        )
        path = tmp_path / f"{len(clients)}.jsonl"
        listed = LocalFile(path.with_suffix(".unsubscribed.jsonl"))
        upload = Upload(clients[-1], checked, RejectLog(LocalFile(path), listed), sync=sync)
        return Synced(upload, sync, Taken(records), path)

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def sync(prepare_sync: Callable[..., Synced]) -> Callable[..., Synced]:
    """Run an upload with a state to whatever end: `sync(box, state, records, **options)`."""
    return lambda *args, **options: prepare_sync(*args, **options).go()
