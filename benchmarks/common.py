"""Shared by the benchmarks: a sandbox, a measured process, a table."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).resolve().parent
LIMIT = 600  # requests per minute, as at mediQuo
NO_LIMIT = 1_000_000

_API_KEY, _SECRET_KEY = "sandbox-api-key", "sandbox-secret-key"


@dataclass(frozen=True)
class Stats:
    """What the sandbox has counted: requests, accepted patients, and 429s."""

    requests: int
    accepted: int
    refused: int


class Sandbox:
    """A sandbox in a separate process, so that its cost is not counted."""

    def __init__(self, home: str) -> None:
        self.home = home

    def start_over(self, **settings: Any) -> None:
        """Clear everything, and change the settings."""
        ask(f"{self.home}/sandbox/settings", "PATCH", {"requests_per_minute": LIMIT, **settings})
        ask(f"{self.home}/sandbox/reset", "POST", {})

    def stats(self) -> Stats:
        """Return the counts since the last start."""
        counted = ask(f"{self.home}/sandbox/stats")
        refused = counted["requests"].get("upsert", {}).get("429", 0)
        return Stats(counted["total"], counted["accepted"], refused)

    def environment(self, requests_per_minute: int = LIMIT) -> dict[str, str]:
        """Return the environment variables that lead each kind of process to the sandbox."""
        url, keys = f"{self.home}/v1", {"X-API-Key": _API_KEY, "X-Secret-Key": _SECRET_KEY}
        provider = {
            "conn_type": "mediquo",
            "host": url,
            "login": _API_KEY,
            "password": _SECRET_KEY,
            "extra": {"requests_per_minute": requests_per_minute},
        }
        http = {"conn_type": "http", "host": url, "extra": keys}
        return {
            "AIRFLOW_CONN_MEDIQUO_DEFAULT": json.dumps(provider),
            "AIRFLOW_CONN_MEDIQUO_HTTP": json.dumps(http),
            "MEDIQUO_URL": url,
            "MEDIQUO_API_KEY": _API_KEY,
            "MEDIQUO_SECRET_KEY": _SECRET_KEY,
        }


@contextlib.contextmanager
def running_sandbox() -> Iterator[Sandbox]:
    """Start a sandbox, and stop it at the end."""
    command = [sys.executable, "-m", "airflow_provider_mediquo.sandbox", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout
        pages = (line.split()[-1] for line in process.stdout if line.split()[:1] == ["Page"])
        yield Sandbox(next(pages).rstrip("/"))
    finally:
        end(process, signal.SIGTERM)


@dataclass(frozen=True)
class Cost:
    """The cost of a run: seconds, CPU seconds with all children, and peak memory in MB.

    :param own: the same without the start: Python's own and, where it was needed, Airflow's.
    :param error: its error, if it failed.
    """

    wall: float
    cpu: float
    peak: float
    own: Cost | None = None
    error: str | None = None


class Run:
    """One of `processes/`, started in a separate folder and measured.

    :param python: of which environment, by default this one.
    """

    def __init__(
        self, name: str, *arguments: object, env: Mapping[str, str], python: str = sys.executable
    ) -> None:
        self._folder = tempfile.mkdtemp(prefix="mediquo-benchmark-")
        self._log = Path(self._folder, "log")
        self._started = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    os.path.abspath(python),
                    str(HERE / "processes" / f"{name}.py"),
                    *map(str, arguments),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._folder,
                env={**environment(self._folder), **env},
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        end(self._process, signal.SIGKILL)
        shutil.rmtree(self._folder, ignore_errors=True)

    def cost(self) -> Cost:
        """Wait for its end, and return its cost."""
        assert self._process.stdout
        printed = self._process.stdout.read().decode().strip()
        _, status, used = os.wait4(self._process.pid, 0)
        wall = time.monotonic() - self._started
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._process.returncode:
            raise SystemExit(f"It failed:\n{self._log.read_text()}")
        said = json.loads(printed.splitlines()[-1])
        own = Cost(said["wall"], said["cpu"], said["peak"] - said["before"])
        return Cost(wall, used.ru_utime + used.ru_stime, said["peak"], own, said["error"])


def measured(
    name: str, *arguments: object, env: Mapping[str, str], python: str = sys.executable
) -> Cost:
    """Run one of `processes/` and return its cost."""
    with Run(name, *arguments, env=env, python=python) as run:
        return run.cost()


def environment(folder: str) -> dict[str, str]:
    """Return the environment of a measured process, without the user's own settings."""
    own = {name: value for name, value in os.environ.items() if "AIRFLOW" not in name}
    env = own | {
        "AIRFLOW_HOME": f"{folder}/airflow",
        "HOME": folder,
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": str(HERE),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
    }
    # Otherwise Python would compile every import each time.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return env


def end(process: subprocess.Popen[Any], how: signal.Signals) -> None:
    """End a process and all its children."""
    if process.poll() is None:
        process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(url: str, method: str = "GET", body: Any = None) -> Any:
    """Send a request, and return the JSON of its response."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def about() -> str:
    """Describe the machine and the versions."""
    packages = ("apache-airflow", "apache-airflow-providers-http", "marshmallow", "requests")
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


def say(text: str) -> None:
    """Print progress to stderr, apart from the result."""
    print(text, file=sys.stderr, flush=True)


class Table:
    """A Markdown table; all columns except the first are numbers."""

    def __init__(self, *head: str) -> None:
        self._rows: list[tuple[str, ...]] = [head, ("---", *("---:" for _ in head[1:]))]

    def add(self, *cells: str) -> None:
        """Append a row."""
        self._rows.append(cells)

    def __str__(self) -> str:
        return "\n".join(f"| {' | '.join(cells)} |" for cells in self._rows)
