"""Starts an Airflow on this machine, uses its REST API, and stops it with all its children.

The demo, the playground and the tests use it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from random import SystemRandom
from typing import Any

import psutil  # Airflow brings it

EXAMPLES = Path(__file__).resolve().parents[1] / "example_dags"
MAX_WAIT = 600  # seconds for anything, on a slow machine
STOP_SECONDS = 20  # to end; what is still running then is killed
PIDS = "pids"  # the file that lists the processes that were started
_POLL_SECONDS = 0.5
STOP_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
COMPONENTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")


# Ignores proxies that the environment names.
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Failed(Exception):
    """Airflow did not start, or did not get as far as expected."""


@contextlib.contextmanager
def ignoring_stop_signals() -> Iterator[None]:
    """Ignore further signals, so that a second Ctrl-C does not leave processes behind."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def deferring_stop_signals() -> Iterator[None]:
    """Let stop signals wait, so that none comes between the start of a process and the note of it."""
    caught: list[int] = []
    try:
        with contextlib.ExitStack() as handlers:
            for number in STOP_SIGNALS:
                before = signal.signal(number, lambda number, _: caught.append(number))
                handlers.callback(signal.signal, number, before)
            yield
    finally:
        if caught:
            signal.raise_signal(caught[0])


class Airflow:
    """The processes of an Airflow, each with a log in `home`, and its REST API.

    :param settings: environment variables, over those that `local_settings` returns.
    """

    def __init__(self, home: Path, port: int, settings: Mapping[str, str]) -> None:
        self.home = home
        self.port = port
        self.page = f"http://127.0.0.1:{port}"
        # Without the caller's own Airflow: neither its database nor its connection to mediQuo.
        own = {
            name: value
            for name, value in os.environ.items()
            if "AIRFLOW" not in name and "MEDIQUO" not in name
        }
        self.env = {**own, **local_settings(home, port), **settings}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._known: set[psutil.Process] = set()

    @deferring_stop_signals()
    def start(self, name: str, *arguments: str) -> None:
        """Start `airflow NAME ARGUMENTS` as a process group of its own."""
        with (self.home / f"{name}.log").open("ab") as log:
            started = self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "airflow", *(arguments or [name])],
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env,
                start_new_session=True,
            )
        with (self.home / PIDS).open("a") as pids:
            print(started.pid, psutil.Process(started.pid).create_time(), file=pids)

    def kill(self, name: str) -> None:
        """Kill a process and all its children, as a power cut would."""
        process = self.processes.pop(name)
        _kill(_family(process.pid))
        process.wait()

    @ignoring_stop_signals()
    def stop(self) -> None:
        """Stop everything as Ctrl-C would, and kill what does not stop in time."""
        self._note_children()
        for process in self.processes.values():
            # SIGTERM would make `standalone` leave its children behind.
            process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + STOP_SECONDS
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
        self._note_children()
        _kill(self._known)
        for process in self.processes.values():
            process.wait()

    def _note_children(self) -> None:
        """Remember all children: once a process has ended, its children cannot be found any more."""
        for process in self.processes.values():
            if process.poll() is None:
                self._known |= _family(process.pid)

    def _listens(self) -> bool:
        for process in self._known:
            with contextlib.suppress(psutil.Error):
                for connection in process.net_connections("tcp"):
                    if connection.status == "LISTEN" and connection.laddr.port == self.port:
                        return True
        return False

    def run(self, *arguments: str) -> str:
        """Run `airflow ARGUMENTS` and return what it prints."""
        command = [sys.executable, "-m", "airflow", *arguments]
        done = subprocess.run(
            command,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=MAX_WAIT,
            check=False,
        )
        if done.returncode:
            raise Failed(f"airflow {' '.join(arguments[:2])}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def wait_until_ready(self, *dag_ids: str) -> None:
        """Wait until every component is healthy and the DAGs are parsed."""
        self.wait_for("Airflow's components", self._is_healthy)
        for dag_id in dag_ids:
            self.wait_for(f"the DAG {dag_id}", functools.partial(self.ask, f"dags/{dag_id}"))

    def trigger(self, dag_id: str, **conf: Any) -> DagRun:
        """Start a run."""
        started = self.ask(f"dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf})
        return DagRun(self, dag_id, str(started["dag_run_id"]))

    def ask(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """Send a request to the REST API and return the JSON of its response."""
        return ask(f"{self.page}/api/v2/{path}", body, method)

    def wait_for(self, what: str, condition: Callable[[], Any], timeout: float = MAX_WAIT) -> Any:
        """Poll a condition until it is true, and return its value; failed requests are repeated."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self._note_children()
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise Failed(f"Airflow's {name} ended; see {self.home / name}.log")
            with contextlib.suppress(OSError, ValueError):
                if found := condition():
                    return found
            time.sleep(_POLL_SECONDS)
        raise Failed(f"Waited {timeout:.0f} s for {what}; see the logs in {self.home}")

    def _is_healthy(self) -> bool:
        with socket.socket() as probe:
            answers = probe.connect_ex(("127.0.0.1", self.port)) == 0
        self._note_children()
        if answers and not self._listens():
            raise Failed(f"Another program has taken port {self.port}: start again.")
        parts = self.ask("monitor/health")
        return all((parts.get(name) or {}).get("status") == "healthy" for name in COMPONENTS)


class DagRun:
    """One run of a DAG."""

    def __init__(self, airflow: Airflow, dag_id: str, run_id: str) -> None:
        self._airflow = airflow
        self.dag_id = dag_id
        self.run_id = run_id
        self._path = f"dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id, safe='')}"
        self.page = f"{airflow.page}/dags/{dag_id}/runs/{run_id}"

    def tasks(self, task_id: str | None = None) -> list[dict[str, Any]]:
        """Return the task instances as they are now."""
        found = self._airflow.ask(f"{self._path}/taskInstances")["task_instances"]
        return [task for task in found if task_id in (None, task["task_id"])]

    def state(self) -> str:
        """Return the run's own state."""
        return str(self._airflow.ask(self._path)["state"])

    def progress(self) -> str:
        """Return the state of each task, as one line."""
        counts: dict[str, int] = {}
        for task in self.tasks():
            state = f"{task['task_id']}: {task['state'] or 'waiting'}"
            counts[state] = counts.get(state, 0) + 1
        return ", ".join(
            state if count == 1 else f"{state} ({count})" for state, count in counts.items()
        )

    def wait_for(self, what: str, condition: Callable[[], Any]) -> Any:
        """Poll a condition until it is true; fail early if the run fails."""

        def holds() -> Any:
            if found := condition():
                return found
            if self.state() == "failed":
                raise Failed(f"{self.dag_id} failed before {what}")
            return None

        return self._airflow.wait_for(what, holds)

    def follow(self, more: Callable[[], str] = str, say: Callable[[str], Any] | None = None) -> str:
        """Print the progress of the tasks until the run has ended, and return its state."""
        shown = ""

        def has_ended() -> str | None:
            nonlocal shown
            if (line := f"   {self.progress()}{more()}") != shown:
                shown = line
                (say or _print)(line)
            return state if (state := self.state()) in ("success", "failed") else None

        return str(self._airflow.wait_for(f"the end of {self.dag_id}", has_ended))

    def xcom(self, task_id: str, map_index: int = -1) -> Any:
        """Return what a task returned."""
        path = f"{self._path}/taskInstances/{task_id}/xcomEntries/return_value"
        value = self._airflow.ask(f"{path}?map_index={map_index}")["value"]
        return json.loads(value) if isinstance(value, str) else value

    def log(self, task_id: str, try_number: int, map_index: int = -1) -> str:
        """Return the log of a try, as the UI shows it."""
        path = f"{self._path}/taskInstances/{task_id}/logs/{try_number}?map_index={map_index}"
        return json.dumps(self._airflow.ask(path)["content"], ensure_ascii=False)


@contextlib.contextmanager
def running_standalone(
    home: Path, settings: Mapping[str, str], port: int | None = None
) -> Iterator[Airflow]:
    """Start scheduler, triggerer, DAG processor and API server in one, on SQLite."""
    airflow = Airflow(home, port or free_port(), settings)
    try:
        airflow.start("standalone")
        yield airflow
    finally:
        airflow.stop()


def local_settings(home: Path, port: int) -> dict[str, str]:
    """Return the environment of an Airflow with the example DAGs, which anybody on this machine may use."""
    url = f"http://127.0.0.1:{port}"
    return {
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        # The database was just migrated; each process would read all the scripts that ever changed it.
        "AIRFLOW__DATABASE__CHECK_MIGRATIONS": "False",
        # A DAG is parsed again only if its file changes.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
        # Free ports, because other Airflows may run on this machine.
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        # A DAG runs only when it is triggered, not by its schedule.
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        # Its components call each other, never through a proxy.
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        # Airflow starts itself from the PATH.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def _family(pid: int) -> set[psutil.Process]:
    """Return a process and all its descendants: tasks and triggers have process groups of their own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        return {root, *root.children(recursive=True)}
    return set()


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def end_leftovers(home: Path) -> None:
    """Kill the processes that an earlier Airflow in this folder left behind when it was killed."""
    with contextlib.suppress(FileNotFoundError):
        for line in (home / PIDS).read_text().splitlines():
            pid, created = line.split()
            if psutil.pid_exists(int(pid)):
                family = _family(int(pid))
                if str(psutil.Process(int(pid)).create_time()) == created:
                    _kill(family)


def stop_cleanly_on_signals() -> None:
    """Treat SIGTERM and a closed terminal like Ctrl-C, so that everything is stopped."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)


def ask(url: str, body: Any = None, method: str | None = None) -> Any:
    """Send a request and return the JSON of its response; None if it has no body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with _DIRECTLY.open(request, timeout=30) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def free_port(preferred: int = 0) -> int:
    """Return a free port: the preferred one if possible.

    Any other is below the ephemeral ports: it stays free until it is used.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred or SystemRandom().randrange(10_000, 30_000)))
        except OSError:
            return free_port()
        return int(probe.getsockname()[1])


def say(text: str) -> None:
    """Print a headline at once."""
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


def _print(line: str) -> None:
    print(line, flush=True)
