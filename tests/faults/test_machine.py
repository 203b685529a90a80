"""Uploads through random faults, kills and restarts, again and again: nobody is lost."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from airflow_provider_mediquo.api.client.client import MediquoClient
from airflow_provider_mediquo.api.errors import MediquoError, StoppedError, UnreachableError
from airflow_provider_mediquo.api.report import UploadReport
from airflow_provider_mediquo.api.upload.options import UploadOptions
from airflow_provider_mediquo.api.upload.reject_files import LocalFile
from airflow_provider_mediquo.api.upload.reject_log import RejectLog
from airflow_provider_mediquo.api.upload.runner import Upload
from airflow_provider_mediquo.api.visibility.poller import VisibilityPoller
from tests.faults.child import MINUTE
from tests.faults.conftest import PLENTY, TIMEOUT
from tests.faults.invariants import INVARIANTS, Run, accepted_for_certain, by_endpoint
from tests.faults.machine import CALM, LAG, TIME_LIMIT, FaultMachine, run_until_reached
from tests.faults.members import BROKEN, CODES, GOOD, REFUSABLE, Given, Source
from tests.support.gateway import Fault, Seen, Strike
from tests.support.proxy import Spoil

LOOKS = 3  # of the sensor

# --- what may go wrong ----------------------------------------------------------------------------

SPOILS = st.builds(
    Spoil,
    how=st.sampled_from(["reset", "close", "swallow", "repeat", "corrupt", "delay"]),
    lane=st.sampled_from(["to client", "to server"]),
    offset=st.one_of(st.integers(0, 40), st.integers(0, 400)),
)
BOX = st.sampled_from(
    ["500", "503", "503", "503:1", "429", "429", "429", "429:1", "not_json", "empty", "huge"]
    + ["lost_before", "lost_after", "lost_after", "slow_body", "hang", "redirect"]
)
GATEWAY = st.sampled_from(["twice", "late", "502", "504", "short"])


def some(fault: st.SearchStrategy[Fault], most: int) -> st.SearchStrategy[list[Fault]]:
    """Faults of the next requests, with some requests between them that go well."""
    return st.lists(st.one_of(fault, fault, st.just(Fault())), min_size=1, max_size=most)


FAULT = st.one_of(
    st.builds(Fault, spoil=SPOILS), st.builds(Fault, box=BOX), st.builds(Fault, gateway=GATEWAY)
)
# Longer than the attempts of one request, or of three of them.
STORMS = st.builds(
    lambda fault, length: [fault] * length,
    st.sampled_from(
        [Fault(box=box) for box in ("lost_after", "lost_before", "503", "429")]
        + [Fault(spoil=Spoil("reset")), Fault(gateway="short")]
    ),
    st.sampled_from([5, 8, 16]),
)
UPSERTS = st.one_of(some(FAULT, most=8), some(FAULT, most=8), STORMS)
GETS = some(FAULT, most=3)
HANDSHAKES = st.lists(
    st.builds(
        Spoil,
        how=st.sampled_from(["reset", "close", "swallow", "repeat", "corrupt"]),
        lane=st.sampled_from(["to client", "to server"]),
        offset=st.integers(0, 2500),
    ),
    max_size=1,
)
NUMBERS = st.integers(1, 5)
MOMENTS = st.sampled_from(["before", "after"])
OPTIONS = st.fixed_dictionaries(
    {
        "chunk_size": st.sampled_from([2, 3, 5, 20]),
        "max_in_flight": st.sampled_from([1, 1, 3]),
        "max_rejects": st.sampled_from([1000, 1000, 1000, 0]),
    }
)
LIMITS = st.sampled_from([10, 60])
FIRST = st.one_of(*[GOOD] * 7, REFUSABLE).map(lambda fields: (fields, True))
ANY = st.one_of(FIRST, FIRST, BROKEN.map(lambda fields: (fields, False)))
CHANGES = st.dictionaries(st.sampled_from(CODES), ANY, min_size=1, max_size=8)
CALM_OPTIONS = {"chunk_size": 5, "max_rejects": 1000}


class Uploads(FaultMachine):
    """A source that changes, uploaded again and again."""

    must_hold = INVARIANTS
    rejects: Any

    def __init__(self) -> None:
        super().__init__()
        self.source = Source()
        self.left: list[Seen] = []

    # --- what changes -------------------------------------------------------------------------

    @initialize(people=st.dictionaries(st.sampled_from(CODES), FIRST, min_size=8))
    def the_first_members(self, people: dict[str, Any]) -> None:
        self.members_change(people)
        self.upload(CALM_OPTIONS, PLENTY)

    @rule(people=CHANGES)
    def members_change(self, people: dict[str, Any]) -> None:
        self.source.first |= {code: Given(code, *given) for code, given in people.items()}

    @rule(people=st.dictionaries(st.sampled_from(CODES), ANY, max_size=2))
    def some_come_twice(self, people: dict[str, Any]) -> None:
        self.source.second = {code: Given(code, *given) for code, given in people.items()}

    @rule(code=st.sampled_from(CODES), fields=GOOD)
    def a_plan_comes_second(self, code: str, fields: dict[str, Any]) -> None:
        self.members_change({code: (fields | {"plan": None}, True)})
        self.source.second = {code: Given(code, fields | {"plan": "basic"})}

    @rule(
        limit=st.sampled_from([6, PLENTY, PLENTY]),
        detail=st.sampled_from(["errors", "message", "none"]),
        body=st.sampled_from(["current", "earlier"]),
        touch=st.booleans(),
        ahead=st.sampled_from([0, 1, 3600, 100_000]),
    )
    def mediquo_changes(self, limit: int, detail: Any, body: Any, touch: bool, ahead: int) -> None:
        changed = self.box.settings
        changed.requests_per_minute = limit
        changed.validation_detail, changed.success_body = detail, body
        changed.touch_unchanged = touch
        changed.clock_skew += ahead

    # --- what runs ----------------------------------------------------------------------------

    @rule(upserts=UPSERTS, gets=GETS, handshakes=HANDSHAKES, options=OPTIONS, limit=LIMITS)
    def an_upload(self, **drawn: Any) -> None:
        self.upload(**drawn)

    @rule(upserts=UPSERTS, gets=GETS, options=OPTIONS, limit=LIMITS, number=NUMBERS, moment=MOMENTS)
    def an_upload_that_is_stopped(self, number: int, moment: Any, **drawn: Any) -> None:
        run = self.upload(strike=lambda upload: Strike(number, moment, upload.stop), **drawn)
        self.reached["stopped"] += isinstance(run.error, StoppedError)

    @rule(upserts=UPSERTS, gets=GETS, options=OPTIONS, limit=LIMITS, number=NUMBERS, moment=MOMENTS)
    def an_upload_while_mediquo_restarts(self, number: int, moment: Any, **drawn: Any) -> None:
        self.upload(strike=lambda _: Strike(number, moment, self.box.restart), lag=0.2, **drawn)

    @rule(people=CHANGES, options=OPTIONS, limit=LIMITS)
    def an_upload_before_mediquo_restarts(self, people: dict[str, Any], **drawn: Any) -> None:
        self.members_change(people)
        self.upload(then=self.box.restart, lag=60, **drawn)

    @precondition(lambda self: self.children < 3)  # starting one takes a second
    @rule(upserts=UPSERTS, options=OPTIONS, number=NUMBERS, moment=MOMENTS)
    def an_upload_whose_process_is_killed(
        self, upserts: list[Fault], options: dict[str, Any], number: int, moment: Any
    ) -> None:
        before, counted = self.begin()
        path = next(self.rejects)
        with self.start_child() as child:
            kill = Strike(number, moment, lambda: os.kill(child.pid, signal.SIGKILL))
            self.plan(TIMEOUT, LAG, kill, upserts)
            child.communicate(self.asked_of_a_child(path, options), timeout=60)
        self.reached["killed"] += child.returncode == -signal.SIGKILL
        seen, after = self.seen(), self.shown()
        self.check(Run(self.source, path, seen, before, after, self.box.accepted - counted))

    # --- how ----------------------------------------------------------------------------------

    def begin(self) -> tuple[dict[str, Any], Counter[str]]:
        """Return what mediQuo shows, and what it has accepted, up to here.

        A run has a second of its own: two writes within one look alike (docs/sensor.md).
        """
        self.box.settings.clock_skew += 2
        return self.shown(), self.box.accepted

    def seen(self, client: MediquoClient | None = None) -> list[Seen]:
        """What has come since the last time, when the client has closed its connections."""
        self.gateway.rest()
        seen = self.gateway.take_journal()
        if client:
            client.close()
        self.gateway.drain()
        return seen + self.gateway.take_journal()

    def client(self, limit: int, timeout: float = TIMEOUT) -> MediquoClient:
        return self.connect(self.box, self.gateway, requests_per_minute=limit, timeout=timeout)

    def asked_of_a_child(self, path: Path, options: dict[str, Any]) -> bytes:
        asked = {
            "settings": vars(self.client(limit=30).settings),
            "options": options,
            "rejects": str(path),
            "records": [given.record for given in self.source],
        }
        return json.dumps(asked).encode()

    def plan(
        self,
        timeout: float,
        lag: float,
        strike: Strike | None,
        upserts: Sequence[Fault] = (),
        gets: Sequence[Fault] = (),
        handshakes: Sequence[Spoil] = (),
    ) -> None:
        self.box.settings.lag = lag
        self.gateway.plan(upserts, gets, strike)
        self.gateway.patience = 1.5 * timeout
        for spoil in handshakes:
            self.gateway.proxy.plan(spoil)

    def upload(
        self,
        options: dict[str, Any],
        limit: int,
        *,
        timeout: float = TIMEOUT,
        lag: float = LAG,
        strike: Callable[[Upload], Strike] | None = None,
        then: Callable[[], None] = lambda: None,
        **faults: Any,
    ) -> Run:
        """Run one and its sensor, and check all that must hold.

        :param then: what happens between the two.
        """
        before, counted = self.begin()
        path, client = next(self.rejects), self.client(limit, timeout)
        upload = Upload(client, UploadOptions(**options), RejectLog(LocalFile(path)))
        self.plan(timeout, lag, strike and strike(upload), **faults)
        started = time.monotonic()
        error = failure_of(upload, self.source)
        seconds = time.monotonic() - started
        then()
        seen = self.seen(client)
        after = self.shown()
        is_seen = error is None and self.is_seen(self.client(limit, timeout), upload.report)
        seen += self.seen()
        self.left += seen
        accepted = self.box.accepted - counted
        run = Run(self.source, path, seen, before, after, accepted, upload.report, error)
        run.seconds, run.timeout, run.limit = seconds, timeout, limit
        run.reported_limit = self.box.settings.requests_per_minute
        run.left = by_endpoint(self.left)
        run.is_seen, run.is_calm = is_seen, timeout == CALM
        self.check(run)
        self.note(run)
        return run

    def is_seen(self, client: MediquoClient, report: UploadReport) -> bool:
        """Look as the sensor does, until it would give up."""
        with closing(VisibilityPoller(client, report.sample)) as watch, suppress(MediquoError):
            return any(watch.look() or time.sleep(MINUTE / 2) for _ in range(LOOKS))
        return False

    def note(self, run: Run) -> None:
        """Count what was reached, for the test that it was."""
        arrived = {code for seen in accepted_for_certain(run.upserts) for code in seen.codes}
        forgotten = [code for code in run.upserted if not run.has(code)]
        changed = any(code in run.after for code in forgotten)
        self.reached.update(
            {
                "runs": 1,
                "green": run.is_green,
                "green and seen": run.is_green and run.is_seen,
                "lost answers with retries, green": run.is_green and run.report.retries > 0,
                "429 pauses": sum(seen.status == 429 for seen in run.upserts),
                "paced": run.report.throttled_seconds > 0,
                "refused alone": bool(run.report.refused and len(run.upserts) > 2),
                "attempts used up": bool(run.report.unsettled and not run.report.stopped_because),
                "no answer": isinstance(run.error, UnreachableError),
                "mediQuo down": "consecutive chunks" in str(run.report.stopped_because),
                "accepted twice": any(count > 1 for count in run.accepted.values()),
                "certain": bool(arrived),
                "restarts that forgot somebody": bool(forgotten),
                "restarts that forgot a change, green": run.is_green and changed,
                "lost plans": run.source.loses_a_plan(),
            }
        )

    def teardown(self) -> None:
        try:
            if self.is_well and self.source.first:
                self.everything_heals()
        finally:
            self.reached.update(
                f"{spoil.how} {spoil.lane}" for spoil in self.gateway.proxy.happened
            )
            self.reached.update(self.gateway.happened)
            self.stack.close()

    def everything_heals(self) -> None:
        self.box.settings.requests_per_minute = PLENTY
        self.source.second = {}
        # The first may have to learn that the limit is another one.
        runs = [self.upload(CALM_OPTIONS, PLENTY, timeout=CALM)]
        if not (runs[-1].is_green and runs[-1].is_seen):
            runs.append(self.upload(CALM_OPTIONS, PLENTY, timeout=CALM))
        assert runs[-1].is_green, runs[-1].error
        assert runs[-1].is_seen


def failure_of(upload: Upload, source: Source) -> MediquoError | None:
    try:
        upload.run(given.record for given in source)
    except MediquoError as error:
        return error
    return None


REACHED = {
    "runs": 30,
    "green and seen": 10,
    "lost answers with retries, green": 3,
    "certain": 20,
    "accepted twice": 2,
    "429 pauses": 5,
    "paced": 5,
    "refused alone": 5,
    "no answer": 1,
    "stopped": 2,
    "killed": 3,
    "restarts that forgot somebody": 3,
    "restarts that forgot a change, green": 1,
    "lost plans": 3,
    "corrupt to client": 1,
    "swallow to client": 1,
    "reset to server": 1,
}


@pytest.mark.no_cover
@pytest.mark.timeout(TIME_LIMIT)
def test_nobody_is_lost_whatever_happens(place, connect, rejects):
    Uploads.place, Uploads.connect = staticmethod(place), staticmethod(connect)
    Uploads.rejects = rejects
    # With the hypothesis of uv.lock the first two reach all of it.
    run_until_reached(Uploads, REACHED, max_examples=4, steps=10, seeds=[13, 4, *range(12)])
