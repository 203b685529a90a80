"""Airflow, set up before anything imports it, and a sandbox that its connection leads to.

Airflow itself is imported by the tests that need it: those of `api` and `sandbox` do not.
"""

import atexit
import fcntl
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import coverage
import hypothesis
import pytest
from hypothesis.internal.conjecture import providers

from airflow_provider_mediquo.sandbox import Sandbox
from tests.support.processes import unmeasured
from tests.support.threads import join, launch

pytest_plugins = [
    f"tests.support.{name}" for name in ("deadlines", "services", "states", "time_limits")
]
pytest.register_assert_rewrite("tests.faults.invariants", "tests.faults.sync_invariants")
EXAMPLES = Path(__file__).parents[1] / "example_dags"
PLENTY = 1_000_000

# The same examples every time, so that what turns a test red is the change. How long an example
# takes says nothing on a machine that others use too.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
# `pytest --hypothesis-profile=thorough tests/faults`: for half an hour, and other examples each time.
hypothesis.settings.register_profile(
    "thorough",
    deadline=None,
    derandomize=False,
    max_examples=150,
    stateful_step_count=20,
    print_blob=True,
)
hypothesis.settings.load_profile("repeatable")
# Nor words of whatever modules of ours a process has loaded by then: the tests before it decide that.
providers._get_local_constants = lambda: providers._local_constants

# All of Airflow's objects are there in each search for garbage: a sixteenth of the CPU with Python's own
# limits.
gc.set_threshold(100_000, 50, 50)

AIRFLOW_HOME = tempfile.mkdtemp(prefix="airflow-home-")
atexit.register(shutil.rmtree, AIRFLOW_HOME, ignore_errors=True)
for name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
    del os.environ[name]  # of whoever runs the tests: a database, connections
os.environ |= {
    "AIRFLOW_HOME": AIRFLOW_HOME,
    "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
    # Without it a trigger that fires soon after the deferral can fail its task falsely.
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
}


# The files that take longest, which begin first: else one of them runs alone at the end. The first two
# have one test each, so that in a run of four processes the fifth and the sixth wait behind them.
SLOW_FILES = [
    "faults/test_machine.py",
    "faults/test_sync_machine.py",
    "integration/test_sync.py",
    "sensors/test_patients.py",
    "integration/test_silent_state.py",
    "integration/test_examples.py",
    "faults/test_lost_answers.py",
    "api/upload/test_runner.py",
    "sources/files/test_hostile.py",
    "hooks/test_connection_sources.py",
    "transfers/test_sql_to_mediquo.py",
    "api/sync/test_lease.py",
    "sources/files/test_reader.py",
    "api/sync/test_store.py",
    "api/upload/test_poison.py",
    "api/client/test_client.py",
    "api/upload/test_missing.py",
    "api/upload/test_isolation.py",
    "api/client/test_transport.py",
    "api/sync/test_receipts.py",
    "operators/test_patients.py",
    "integration/test_sync_in_the_docs.py",
    "api/patients/test_schema.py",
    # `make test-system`
    "system/test_privacy.py",
    "system/test_approval.py",
    "system/test_mediquo_page.py",
    "system/test_connections_page.py",
    "system/test_deployment.py",
    "system/test_playground.py",
    "system/test_celery.py",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slow files first; the order within a file stays. Mark what needs no measuring."""
    tests = Path(__file__).parent
    places = {tests / file: number for number, file in enumerate(SLOW_FILES)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
    for item in items:
        if is_repetition(item):
            item.add_marker("no_cover")


def is_repetition(item: pytest.Item) -> bool:
    """Whether a test runs lines again that others run too, often hundreds of times.

    Measured, it would take twice as long.
    """
    is_property = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    return is_property or not {"faults", "integration"}.isdisjoint(item.path.parts)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Measure in one process what the imports run: all import the same, and the whole of Airflow."""
    is_first = os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0"
    with nullcontext() if is_first else unmeasured_here():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Do not measure what is marked `no_cover`, nor the processes that it starts."""
    with unmeasured_here() if item.get_closest_marker("no_cover") else nullcontext():
        return (yield)


@contextmanager
def unmeasured_here() -> Iterator[None]:
    """Pause the measurement, also of the processes that are started meanwhile."""
    measured = coverage.Coverage.current()
    if not measured:
        yield
        return
    of_processes = os.environ.pop("COVERAGE_PROCESS_CONFIG", "")
    measured.stop()
    try:
        yield
    finally:
        measured.start()
        os.environ["COVERAGE_PROCESS_CONFIG"] = of_processes


def pytest_sessionfinish() -> None:
    """Save what was measured: xdist kills a process that takes more than 10 seconds to end."""
    if measured := coverage.Coverage.current():
        measured.save()
    gc.collect()
    gc.freeze()  # pytest searches for garbage five more times, half a second each


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="leave out what needs a database server")


@pytest.fixture(scope="session")
def airflow_database(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Airflow's database, which only whole DAGs need: made by the first process, copied by the others."""
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent  # of all processes
    made = place / "airflow.db"
    with open(place / "airflow.db.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            command = [sys.executable, "-m", "airflow", "db", "migrate"]
            done = subprocess.run(
                command, env=unmeasured(), capture_output=True, text=True, timeout=300, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            shutil.copy(f"{AIRFLOW_HOME}/airflow.db", made)
    shutil.copy(made, f"{AIRFLOW_HOME}/airflow.db")


@pytest.fixture(autouse=True)
def nothing_masked() -> Iterator[None]:
    """Forget the keys of a test, which Airflow masks from then on in all that the process logs.

    A key may be a word, such as one of a message that a later test expects.
    """
    yield
    if masker := sys.modules.get("airflow.sdk._shared.secrets_masker.secrets_masker"):
        masker._secrets_masker().reset_masker()


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make `mediquo_default` lead to a sandbox: `connect(box, password="another")`."""

    def connect(box: Sandbox, **changes: Any) -> None:
        connection = json.dumps(box.connection | changes)
        monkeypatch.setenv("AIRFLOW_CONN_MEDIQUO_DEFAULT", connection)

    return connect


@pytest.fixture
def start_box(connect: Callable[..., None]) -> Iterator[Callable[..., Sandbox]]:
    """Start a sandbox that `mediquo_default` leads to, without lag and latency of its own."""
    from airflow_provider_mediquo.api.client.rate_limit import SHARED_LIMITERS

    with ExitStack() as stack:

        def start(**settings: Any) -> Sandbox:
            usual = {"latency": 0, "lag": 0, "requests_per_minute": PLENTY}
            box = stack.enter_context(Sandbox(**(usual | settings)))
            SHARED_LIMITERS.clear()  # a port may come back, and with it its requests
            connect(box)
            return box

        yield start


@pytest.fixture
def box(start_box: Callable[..., Sandbox]) -> Sandbox:
    """A mediQuo that answers at once and shows a write at once."""
    return start_box()


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat a request without waiting."""
    import tenacity

    from airflow_provider_mediquo.api.client import client, retry

    at_once = retry.RetryPolicy(backoff=tenacity.wait_none())
    monkeypatch.setattr(client, "DEFAULT_RETRY", at_once)


@pytest.fixture
def dag() -> Iterator[Any]:
    """A DAG that the tasks of a test belong to."""
    from airflow.sdk import DAG

    with DAG("clinic", schedule=None) as dag:
        yield dag


@pytest.fixture
def run_task() -> Callable[..., Any]:
    """Run one task through Airflow's own task runner; see `airflow_runner.run_task`."""
    from tests.support.airflow_runner import run_task

    return run_task


@pytest.fixture
def run_dag(airflow_database: None) -> Callable[..., Any]:
    """Run a whole DAG; see `airflow_runner.run_dag`."""
    from tests.support.airflow_runner import run_dag

    return run_dag


@pytest.fixture
def kill() -> Iterator[Callable[..., None]]:
    """Send this process, which is the task's, SIGTERMs from a moment on: `kill(when=is_waiting)`.

    More than one, because one that comes just before a system call does not interrupt it.
    """
    over, threads = threading.Event(), []

    def strike(when: Callable[[], Any]) -> None:
        while not over.wait(0.1):
            if when():
                os.kill(os.getpid(), signal.SIGTERM)

    def arrange(when: Callable[[], Any]) -> None:
        threads.append(threading.Thread(target=strike, args=[when]))
        launch(threads[-1])

    usual = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # while the task does not handle it
    yield arrange
    over.set()
    join(*threads)
    signal.signal(signal.SIGTERM, usual)


@pytest.fixture
def time_over() -> Iterator[Callable[..., timedelta]]:
    """An `execution_timeout` that is over when something is true: `time_over(when=is_waiting)`.

    Once, as Airflow's own alarm.
    """
    over, threads, usual = threading.Event(), [], signal.getsignal(signal.SIGALRM)

    def strike(when: Callable[[], Any]) -> None:
        while not over.wait(0.02):
            # A moment later, when it surely waits: an alarm right before a wait does not interrupt it.
            if when() and not over.wait(0.2) and signal.getsignal(signal.SIGALRM) != usual:
                os.kill(os.getpid(), signal.SIGALRM)
                return

    def arrange(when: Callable[[], Any]) -> timedelta:
        threads.append(threading.Thread(target=strike, args=[when]))
        launch(threads[-1])
        return timedelta(hours=1)

    yield arrange
    over.set()
    join(*threads)


@pytest.fixture(scope="session")
def python() -> Callable[..., str]:
    """Run code in a fresh interpreter, in which every warning is an error, and return its output."""

    def run(code: str, *options: str) -> str:
        command = [sys.executable, *options, "-c", code]
        done = subprocess.run(
            command, env=unmeasured(), capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Wait for something to become true, 10 seconds at most, and return it."""

    def wait(happened: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 10
        while not (found := happened()):
            assert time.monotonic() < deadline, "It did not happen within 10 seconds."
            time.sleep(0.005)
        return found

    return wait


@pytest.fixture
def people() -> Callable[..., list[dict[str, Any]]]:
    """So many patients; `fields` are the same for all."""

    def make(count: int, start: int = 1, **fields: Any) -> list[dict[str, Any]]:
        usual = {"first_name": "Ada", "plan": "premium"} | fields
        return [{"code": f"m-{number}"} | usual for number in range(start, start + count)]

    return make
