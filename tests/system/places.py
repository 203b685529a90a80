"""Every place to which a deployment of Airflow writes, and what is in it, taken by brute force."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from cryptography.fernet import Fernet, InvalidToken

from tests.support.services import Database
from tests.system.canaries import PATH, kinds_in, shown_in
from tests.system.conftest import processes_of

# Places are named as on the page on privacy. By how a path in the deployment's folder begins:
FILES = {
    "airflow/logs/dag_id=": "task log",
    "airflow/logs/dag_processor/": "DAG processor's log",
    "dag-processor.log": "DAG processor's log",
    "scheduler.log": "output of scheduler and workers",
    "triggerer.log": "output of scheduler and workers",
    "api-server.log": "API server's log",
    "lineage.jsonl": "OpenLineage",
    f"{PATH}/": "reject report",
}
TABLES = {
    "asset_event": "asset events",
    "connection": "Airflow's own connections",
    "dag_code": "DAG's code",
    "dag_run": "run configuration",
    "hitl_detail": "approval",
    "hitl_detail_history": "approval",
    "import_error": "import errors",
    "log": "audit log",
    "rendered_task_instance_fields": "rendered fields",
    "serialized_dag": "serialized DAG",
    "task_instance": "deferred task",
    "task_instance_history": "deferred task",
    "trigger": "trigger table",
}
XCOMS = {
    "get": "XCom of a get",
    "read": "XCom of a get",
    "authenticate": "XCom of an authenticate",
}
KEEPER = """
CREATE TABLE kept (place text, line text);
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO kept VALUES (TG_TABLE_NAME, row_to_json(NEW)::text);
    RETURN NULL;
END $$
"""
IGNORED = {"dags", "errors"}  # the first is the test's own; the second is looked at with care


class Findings:
    """Place -> the kinds of canaries that were found there, and how much was looked at."""

    def __init__(self) -> None:
        self.kinds: defaultdict[str, set[str]] = defaultdict(set)
        self.looked: Counter[str] = Counter()
        self.shown: dict[tuple[str, str], str] = {}
        self._seen: set[tuple[str, str]] = set()

    def look(self, place: str, name: str, text: str, encrypted: bool = False) -> None:
        """Search a text, unless it was searched before."""
        if (place, text) in self._seen:
            return
        self._seen.add((place, text))
        self.looked[place] += 1
        for kind in kinds_in(text):
            told = f"encrypted {kind}" if encrypted else kind
            self.kinds[place].add(told)
            self.shown.setdefault((place, told), f"{name}: …{shown_in(text, kind)}…")


def look_at_files(findings: Findings, home: Path) -> None:
    """Look at every file below a folder, and at its name."""
    for path in sorted(home.rglob("*")):
        name = str(path.relative_to(home))
        if name.split("/")[0] in IGNORED or not path.is_file():
            continue
        places = [place for start, place in FILES.items() if name.startswith(start)]
        place = places[0] if places else "other files"
        findings.look("file names", name, name.removeprefix(f"{PATH}/"))
        findings.look(place, name, path.read_bytes().decode(errors="replace"))


def keep_all(database: Database) -> None:
    """Have the database keep each row as it was, whoever inserts or updates it from now on."""
    database.run(KEEPER)
    for table in _tables(database):
        if table != "kept":
            database.run(
                f'CREATE TRIGGER keep AFTER INSERT OR UPDATE ON "{table}" '
                "FOR EACH ROW EXECUTE FUNCTION keep()"
            )


def look_at_database(findings: Findings, database: Database, fernet_key: str) -> None:
    """Look at every column of every row that is or was there, at what is encrypted in clear too."""
    for table, row in _rows(database):
        place = _place_of(table, row)
        for column, value in row.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            findings.look(place, f"{table}.{column}", text)
            if clear := _decrypted(text, fernet_key):
                findings.look(place, f"{table}.{column}", clear, encrypted=True)


def look_at_state(findings: Findings, database: Database) -> None:
    """Look at every column of every row of the state."""
    for table in ("mediquo_state", "mediquo_sync", "mediquo_member", "mediquo_receipt"):
        for (line,) in database.run(f"SELECT row_to_json(row)::text FROM {table} AS row"):
            for column, value in json.loads(line).items():
                findings.look("state", f"{table}.{column}", str(value))


def look_at_processes(findings: Findings, home: Path) -> None:
    """Look at the names, command lines and environments of what runs."""
    for process in processes_of(home):
        with suppress(psutil.Error):
            said = [process.name(), *process.cmdline()]
            findings.look("command lines", str(process.pid), "\n".join(said))
            for name, value in process.environ().items():
                if not name.startswith("PRIVACY_"):
                    findings.look("environment", name, value)


def look_at_errors(findings: Findings, folder: Path) -> None:
    """Look at what the callbacks of failed tasks wrote down."""
    for path in sorted(folder.iterdir()):
        told = json.loads(path.read_text())
        for text in told["texts"]:
            findings.look("errors", told["task"], text)
        for where, text in told["locals"]:
            findings.look("variables of an error", f"{told['task']}, {where}", text)


def _tables(database: Database) -> list[str]:
    return [
        table
        for (table,) in database.run("SELECT tablename FROM pg_tables WHERE schemaname='public'")
    ]


def _rows(database: Database) -> Iterator[tuple[str, dict[str, Any]]]:
    for table, line in database.run("SELECT DISTINCT place, line FROM kept"):
        yield table, json.loads(line)
    for table in _tables(database):
        if table != "kept":
            for (line,) in database.run(f'SELECT row_to_json(row)::text FROM "{table}" AS row'):
                yield table, json.loads(line)


def _place_of(table: str, row: dict[str, Any]) -> str:
    if table == "xcom":
        return XCOMS.get(str(row["task_id"]).partition("_")[0], "XCom of an upsert")
    return TABLES.get(table, "the rest of Airflow's database")


def _decrypted(text: str, key: str) -> str | None:
    if not text.startswith("gAAAA"):
        return None
    with suppress(InvalidToken, ValueError):
        return Fernet(key).decrypt(text.encode()).decode(errors="replace")
    return None
