"""A separate Airflow, and the total cost of its runs, from the trigger to the end of the run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import psutil
from common import HERE, Cost, ask, end, environment, free_port

_START_SECONDS = 300  # for Airflow to start
_POLL_SECONDS = 0.5
_MEMORY_POLL_SECONDS = 2.0  # rare, because it costs CPU itself


class Deployment:
    """A running `airflow standalone` with its defaults: SQLite and the LocalExecutor."""

    def __init__(self, url: str, process: subprocess.Popen[Any]) -> None:
        self._url = f"{url}/api/v2"
        self._process = process

    def wait_until_ready(self, *dag_ids: str) -> None:
        """Wait until every component is healthy and the DAGs are parsed."""
        self._wait_for(self._is_healthy)
        self._wait_for(lambda: [ask(f"{self._url}/dags/{dag_id}") for dag_id in dag_ids])

    def run(self, dag_id: str, patience: float, **conf: Any) -> Cost:
        """Run a DAG; the error of its cost is any state except success, with the failed tasks."""
        with _Watch(self._process) as watch:
            triggered, cpu = time.time(), watch.cpu()
            body = {"logical_date": None, "conf": conf}
            run_id = ask(f"{self._url}/dags/{dag_id}/dagRuns", "POST", body)["dag_run_id"]
            url = f"{self._url}/dags/{dag_id}/dagRuns/{quote(run_id)}"
            run = self._until_ended(url, patience)
            cpu = watch.cpu() - cpu
        ended = datetime.fromisoformat(run["end_date"]).timestamp() if run["end_date"] else None
        error = None
        if run["state"] != "success":
            tasks = ask(f"{url}/taskInstances?state=failed")["task_instances"]
            error = f"{run['state']}: {', '.join(sorted({each['task_id'] for each in tasks}))}"
        return Cost((ended or time.time()) - triggered, cpu, watch.peak, error=error)

    def idle(self, seconds: float) -> Cost:
        """Return the cost of an idle Airflow."""
        with _Watch(self._process) as watch:
            cpu = watch.cpu()
            time.sleep(seconds)
            return Cost(seconds, watch.cpu() - cpu, watch.peak)

    def _until_ended(self, url: str, patience: float) -> dict[str, Any]:
        deadline = time.monotonic() + patience
        while True:
            run: dict[str, Any] = {}
            with contextlib.suppress(OSError):  # Airflow may be too busy to answer
                run = ask(url)
            if run.get("state") in ("success", "failed"):
                return run
            if time.monotonic() > deadline:
                ask(url, "PATCH", {"state": "failed"})
                return run | {"state": f"not ended after {patience:.0f} s"}
            time.sleep(_POLL_SECONDS)

    def _is_healthy(self) -> bool:
        parts = ask(f"{self._url}/monitor/health")
        names = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all((parts.get(name) or {}).get("status") == "healthy" for name in names)

    def _wait_for(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError, urllib.error.URLError, ValueError):
                if condition():
                    return
            time.sleep(_POLL_SECONDS)
        raise SystemExit("Airflow did not start.")


@contextlib.contextmanager
def running_airflow(env: Mapping[str, str]) -> Iterator[Deployment]:
    """Start an Airflow with the DAGs in `dags/`, and stop it at the end."""
    folder = tempfile.mkdtemp(prefix="mediquo-benchmark-")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(HERE / "dags"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        # Airflow starts itself from the PATH.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "airflow", "standalone"],
            stdout=log,
            stderr=log,
            env={**environment(folder), **settings, **env},
            start_new_session=True,
        )
        try:
            deployment = Deployment(url, process)
            deployment.wait_until_ready(*(path.stem for path in (HERE / "dags").glob("*.py")))
            yield deployment
        finally:
            # SIGTERM would make it leave its children behind.
            end(process, signal.SIGINT)
            shutil.rmtree(folder, ignore_errors=True)


class _Watch:
    """The memory and CPU time of a process and all its descendants, sampled every two seconds.

    Memory that processes share counts once, where the system tells; elsewhere in each of them.
    """

    def __init__(self, process: subprocess.Popen[Any]) -> None:
        self._root = psutil.Process(process.pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.peak = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._over.set()
        self._thread.join()

    def cpu(self) -> float:
        """Return the CPU seconds so far; a process that has ended counts for its parent."""
        return sum(sum(times[:4]) for times in self._each(psutil.Process.cpu_times))

    def _look(self) -> None:
        while True:
            held = self._each(psutil.Process.memory_full_info)
            total = sum(getattr(memory, "pss", memory.rss) for memory in held)
            self.peak = max(self.peak, total / (1 << 20))
            if self._over.wait(_MEMORY_POLL_SECONDS):
                return

    def _each(self, read: Callable[[psutil.Process], Any]) -> list[Any]:
        found = []
        for process in [self._root, *self._root.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                found.append(read(process))
        return found
