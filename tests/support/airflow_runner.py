"""Runs tasks and DAGs as Airflow does.

`run_task` goes through Airflow's own task runner without any database: an `httpx.MockTransport`
stands in for the API server, so it sees every byte that leaves the worker. That interface is
private and moves between versions: it is used here and nowhere else, and what 3.1 has elsewhere is
imported from there in an `except ImportError`.
"""

import asyncio
import io
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import import_module
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import httpx
import structlog
from airflow.sdk.api.client import Client
from airflow.sdk.api.datamodels._generated import DagRun, TaskInstance
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.supervisor import InProcessTestSupervisor
from airflow.sdk.log import configure_logging, reset_logging
from pydantic import TypeAdapter

from tests.support.deadlines import alarm_kept

try:
    from airflow.sdk.serde import deserialize, serialize
    from airflow.serialization.definitions.dag import SerializedDAG
    from airflow.serialization.serialized_objects import DagSerialization
except ImportError:
    from airflow.serialization.serialized_objects import BaseSerialization, SerializedDAG

    deserialize, serialize = BaseSerialization.deserialize, BaseSerialization.serialize  # type: ignore[assignment]  # of 3.1
    DagSerialization = SerializedDAG  # type: ignore[misc, assignment]  # of 3.1

# It makes one for each field of each task, which would take a fifth of the time of a task.
task_runner.TypeAdapter = cache(TypeAdapter)  # type: ignore[assignment]

RUN_ID = "manual__2026-01-02"
LOGICAL_DATE = "2026-01-02T00:00:00Z"
XComs = Mapping[tuple[str, int], Any]


@dataclass
class Run:
    """What a task did, and every byte that left the worker.

    :param state: as Airflow would store it.
    :param sent: method, path and body of each request to the API server.
    :param log: at DEBUG, as it is stored: secrets are masked.
    """

    state: str
    error: BaseException | None
    task: Any
    sent: list[tuple[str, str, str]]
    log: str

    @property
    def result(self) -> Any:
        """What the task returned, as it went to the API server; None if nothing did."""
        return self._last("POST", "/return_value")

    @property
    def ledger(self) -> Any:
        """The ledger that an upsert pushed of itself, whether it succeeded or failed; None if it did not."""
        return self._last("POST", "/mediquo_ledger")

    @property
    def audit(self) -> Any:
        """The report that an audit pushed, whether it succeeded or failed; None if it did not."""
        return self._last("POST", "/mediquo_audit")

    @property
    def rendered(self) -> dict[str, Any]:
        """The fields that the UI shows."""
        return dict(self._last("PUT", "/rtif"))

    @property
    def left(self) -> dict[str, Any]:
        """What the task left with its state: for the triggerer, say."""
        return dict(self._last("PATCH", "/state"))

    @property
    def trigger_kwargs(self) -> dict[str, Any]:
        """What the trigger of a deferred task is made of."""
        return dict(deserialize(self.left["trigger_kwargs"]))

    @property
    def everything(self) -> str:
        """All that left the worker: to the API server, and as log."""
        return "\n".join([*("\n".join(request) for request in self.sent), self.log])

    def make_trigger(self) -> Any:
        """Recreate the trigger of a deferred task from what was stored, as the triggerer does."""
        module, _, name = self.left["classpath"].rpartition(".")
        return getattr(import_module(module), name)(**self.trigger_kwargs)

    def wait_in_triggerer(self) -> Any:
        """Wait as the triggerer does, and return the first event."""

        async def first_event() -> Any:
            async for event in self.make_trigger().run():
                return event.payload

        return asyncio.run(first_event())

    def _last(self, method: str, end_of_path: str) -> Any:
        bodies = [b for m, p, b in self.sent if m == method and p.endswith(end_of_path)]
        return json.loads(bodies[-1]) if bodies else None


def run_task(
    task: Any,
    *,
    xcoms: XComs | None = None,
    map_index: int = -1,
    try_number: int = 1,
    conf: Mapping[str, Any] | None = None,
    event: Any = None,
    next_method: str = "execute_complete",
    next_kwargs: Mapping[str, Any] | None = None,
    first_look: datetime | None = None,
) -> Run:
    """Run one try of a task, which has another try left.

    :param xcoms: (task id, map index, -1 if not mapped) -> what tasks before it returned.
    :param event: of the trigger: the task comes back from its deferral.
    :param next_kwargs: of `next_method`, where it comes back otherwise.
    :param first_look: when a rescheduled sensor looked for the first time.
    """
    if event is not None:
        next_kwargs = {"event": event}
    resumed = (next_method, next_kwargs) if next_kwargs else None
    api = ApiServer(task.dag.dag_id, xcoms or {}, conf, resumed, first_look)
    ti = TaskInstance(
        id=uuid4(),
        task_id=task.task_id,
        dag_id=task.dag.dag_id,
        run_id=RUN_ID,
        try_number=try_number,
        dag_version_id=uuid4(),
        map_index=map_index,
    )
    transport = httpx.MockTransport(api.answer)
    with (
        Client(base_url="http://airflow.invalid", token="", transport=transport) as client,
        _process_kept(),
        _callbacks_of_a_worker(),
        _log_of_a_worker() as log,
    ):
        done = supervisor_with(client).start(what=ti, task=task)
    # A worker does not log the requests to its supervisor: only this runner does.
    lines = [
        line for line in log.getvalue().decode().splitlines() if '"Sending request"' not in line
    ]
    return Run(done.state.value, done.error, done.ti.task, api.sent, "\n".join(lines))


def run_dag(dag: Any, **conf: Any) -> dict[str, tuple[str, Any]]:
    """Run a whole DAG, without retries; return task id -> its state, and what it returned.

    A mapped task's id is followed by its map index: `upsert-0`.
    """
    from airflow.models.dag import DagModel

    for task in dag.tasks:
        if not task.is_mapped:
            task.retries = 0
    with _process_kept():
        if not DagModel.get_current(dag.dag_id):
            _write_to_database(dag)
        run = dag.test(run_conf=conf)
    return {
        ti.task_id if ti.map_index < 0 else f"{ti.task_id}-{ti.map_index}": (
            str(ti.state),
            ti.xcom_pull(task_ids=ti.task_id, map_indexes=ti.map_index),
        )
        for ti in run.get_task_instances()
    }


@contextmanager
def _callbacks_of_a_worker() -> Iterator[None]:
    """Give callbacks the error, as a worker does; the in-process runner of 3.1 leaves it out."""
    finalize = task_runner.finalize

    def finalize_with_error(ti: Any, state: Any, context: Any, log: Any, error: Any = None) -> None:
        context["exception"] = error
        finalize(ti, state, context, log, error)

    task_runner.finalize = finalize_with_error
    try:
        yield
    finally:
        task_runner.finalize = finalize


def supervisor_with(client: Client) -> type[InProcessTestSupervisor]:
    """Return Airflow's own, except its API server."""

    class Supervisor(InProcessTestSupervisor):
        @staticmethod
        def _api_client(dag: Any = None) -> Client:
            return client

    return Supervisor


class ApiServer:
    """Stands in for Airflow's API server, and keeps all that is sent to it."""

    def __init__(
        self, dag_id: str, xcoms: XComs, conf: Any, resumed: Any, first_look: datetime | None
    ) -> None:
        self.sent: list[tuple[str, str, str]] = []
        self._xcoms = dict(xcoms)
        self._first_look = first_look
        self._context: dict[str, Any] = {
            "dag_run": {
                "dag_id": dag_id,
                "run_id": RUN_ID,
                "logical_date": LOGICAL_DATE,
                "data_interval_start": LOGICAL_DATE,
                "data_interval_end": LOGICAL_DATE,
                "run_after": LOGICAL_DATE,
                "start_date": LOGICAL_DATE,
                "end_date": None,
                "run_type": "manual",
                "state": "running",
                "conf": dict(conf or {}),
                "consumed_asset_events": [],
                **({"partition_key": None} if "partition_key" in DagRun.model_fields else {}),
            },
            "max_tries": 1,
            "should_retry": True,
            "task_reschedule_count": int(first_look is not None),
        }
        if resumed:
            self._context["next_method"], kwargs = resumed
            self._context["next_kwargs"] = serialize(dict(kwargs))

    def answer(self, request: httpx.Request) -> httpx.Response:
        path = unquote(request.url.path).strip("/")
        self.sent.append((request.method, path, request.read().decode()))
        kind, *rest = path.split("/")
        if rest[-1:] == ["run"]:
            return httpx.Response(200, json=self._context)
        if rest[-1:] == ["validate-inlets-and-outlets"]:
            return httpx.Response(200, json={"inactive_assets": []})
        if kind == "assets":  # what a reference to an asset leads to
            return httpx.Response(
                200, json={"name": "clinic", "uri": "mediquo://clinic", "group": "asset"}
            )
        if kind == "xcoms" and request.method != "POST":
            return self._xcom(request, *rest)
        if kind == "hitlDetails":
            return httpx.Response(200, content=request.content)
        if kind == "task-reschedules":
            return httpx.Response(200, json=self._first_look and self._first_look.isoformat())
        if request.method == "GET":
            return httpx.Response(404, json={"detail": {"reason": "not_found"}})
        return httpx.Response(200, json={})

    def _xcom(
        self, request: httpx.Request, _dag: str, _run: str, task: str, key: str, *more: str
    ) -> httpx.Response:
        mapped = [
            value for (name, index), value in self._xcoms.items() if name == task and index >= 0
        ]
        if request.method == "HEAD":
            return httpx.Response(200, headers={"Content-Range": f"map_indexes {len(mapped)}"})
        missing = httpx.Response(404, json={"detail": {"reason": "not_found"}})
        if more[:1] == ("item",):
            offset = int(more[1])
            return httpx.Response(200, json=mapped[offset]) if offset < len(mapped) else missing
        if more[:1] == ("slice",):
            every = [value for (name, _), value in self._xcoms.items() if name == task]
            return httpx.Response(200, json=every)  # what `xcom_pull` asks for
        where = task, int(request.url.params.get("map_index", -1))
        if where not in self._xcoms:
            return missing
        return httpx.Response(200, json={"key": key, "value": self._xcoms[where]})


def _write_to_database(dag: Any) -> None:
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session

    written = LazyDeserializedDAG(data=DagSerialization.to_dict(dag))
    with create_session() as session:
        session.merge(DagBundleModel(name="tests"))
    with create_session() as session:
        SerializedDAG.bulk_write_to_db("tests", None, [written], session=session)
        SerializedDagModel.write_dag(written, bundle_name="tests", session=session)


@contextmanager
def _log_of_a_worker() -> Iterator[io.BytesIO]:
    """Take the place of the stream that a worker logs to, all levels."""
    root, was, show = logging.getLogger(), structlog.get_config(), warnings.showwarning
    handlers, hook = root.handlers[:], sys.excepthook
    levels = {logger: logger.level for logger in (root, logging.getLogger("airflow"))}
    log = io.BytesIO()
    reset_logging()
    with _caches_emptied_once():
        configure_logging(json_output=True, log_level="DEBUG", output=log)
    try:
        yield log
    finally:
        reset_logging()
        structlog.configure(**was)
        root.handlers[:] = handlers
        for logger, level in levels.items():
            logger.setLevel(level)
        sys.excepthook, warnings.showwarning = hook, show


@contextmanager
def _caches_emptied_once() -> Iterator[None]:
    """Keep `setLevel`, of each of Airflow's loggers, from emptying the caches of all loggers."""
    manager = vars(logging.Logger.manager)
    manager["_clear_cache"] = lambda: None
    try:
        yield
    finally:
        del manager["_clear_cache"]
        logging.getLogger().setLevel(logging.getLogger().level)


@contextmanager
def _process_kept() -> Iterator[None]:
    """Undo what the task runner, which usually has a process of its own, does to this one."""
    sigterm, environment = signal.getsignal(signal.SIGTERM), dict(os.environ)
    try:
        with alarm_kept():
            yield
    finally:
        signal.signal(signal.SIGTERM, sigterm)
        os.environ.clear()
        os.environ |= environment
