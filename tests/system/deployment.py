"""A whole deployment: each part of Airflow a process of its own, on PostgreSQL."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import indent
from urllib.parse import quote

from dev.local_airflow import EXAMPLES, Airflow, free_port
from tests.support.services import Database

PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
# Settings with which Airflow notices a dead component within seconds, not minutes. On a busy machine it
# may take a living one for dead, so only tests that kill set them.
SOON_TAKEN_FOR_DEAD = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
}

# All that a process of Airflow has imported is there in each search for garbage; see conftest.py.
LESS_GARBAGE = "import gc\nimport sys\n\ngc.set_threshold(100_000, 50, 50)\n"
# What most tasks import, for tests that run many.
IMPORTS = """
import airflow.providers.postgres.hooks.postgres
import airflow_provider_mediquo.api.upload
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

providers = ProvidersManagerTaskRuntime()
providers.initialize_providers_asset_uri_resources()
providers.initialize_providers_filesystems()
providers.initialize_providers_taskflow_decorator()
"""


def at_start(home: Path, imports: str = "") -> None:
    """Have Airflow's processes search less often for garbage, and its scheduler import what tasks do."""
    code = LESS_GARBAGE
    if imports:
        code += f"if 'scheduler' in sys.argv:\n{indent(imports, '    ')}"
    config = home / "airflow" / "config"
    config.mkdir(parents=True, exist_ok=True)
    (config / "airflow_local_settings.py").write_text(code)


@contextmanager
def running_deployment(
    home: Path,
    database: Database,
    connections: Mapping[str, Mapping[str, object]],
    settings: Mapping[str, str],
    *parts: tuple[str, ...],
    imports: str = "",
) -> Iterator[Airflow]:
    """Start it with the DAGs in `home / "dags"`, and end it.

    :param connections: by their ids, in every process's environment.
    :param imports: code that the scheduler runs at its start: tasks are its forks, and import it no
        more. Not those of Celery.
    :param parts: what runs in addition to the usual ones: `("worker-1", "celery", "worker", ...)`.
    """
    airflow = Airflow(
        home,
        free_port(),
        {
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": sqlalchemy_url(database),
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            **{
                f"AIRFLOW_CONN_{name.upper()}": json.dumps(connection)
                for name, connection in connections.items()
            },
            **settings,
        },
    )
    at_start(home, imports)
    try:
        airflow.run("db", "migrate")
        for part in [*((name,) for name in PARTS), *parts]:
            airflow.start(*part)
        yield airflow
    finally:
        airflow.stop()


def copy_examples(home: Path) -> Path:
    """Copy the example DAGs to where a deployment looks for its DAGs."""
    return Path(shutil.copytree(EXAMPLES, home / "dags", ignore=shutil.ignore_patterns("__*")))


def variant(folder: Path, example: str, name: str, **changes: str) -> None:
    """Write a copy of an example under another name, with options changed wherever they are set.

    `variant(folder, "mediquo_nightly", "hasty", poke_interval="1")`
    """
    text = (folder / f"{example}.py").read_text()
    text = re.sub(rf"^(def )?{example}\(", rf"\g<1>{name}(", text, flags=re.MULTILINE)
    for option, value in changes.items():
        text, count = re.subn(rf"^( +{option}=).*,$", rf"\g<1>{value},", text, flags=re.MULTILINE)
        assert count, f"{example} does not set `{option}`"
    (folder / f"{name}.py").write_text(text)


def sqlalchemy_url(database: Database) -> str:
    user, password = quote(database.user, safe=""), quote(database.password, safe="")
    return (
        f"postgresql+psycopg2://{user}:{password}@{database.host}:{database.port}/{database.dbname}"
    )
