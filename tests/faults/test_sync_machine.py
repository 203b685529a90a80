"""Syncs through random faults, of the state too: what is left out is there, and nobody loses a plan."""

import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from airflow_provider_mediquo.api.client.client import MediquoClient
from airflow_provider_mediquo.api.errors import MediquoError, StateError, UnsubscribeLimitError
from airflow_provider_mediquo.api.sync.fingerprints import Fingerprints
from airflow_provider_mediquo.api.upload import missing
from airflow_provider_mediquo.api.upload.options import UploadOptions
from airflow_provider_mediquo.api.upload.reject_log import RejectLog
from airflow_provider_mediquo.api.upload.runner import Upload
from tests.faults.child import sync_of
from tests.faults.conftest import TIMEOUT
from tests.faults.machine import CALM, LAG, TIME_LIMIT, FaultMachine, run_until_reached
from tests.faults.population import CODES, FIELDS, SPELLINGS, Population, Versions
from tests.faults.state import Moment, State
from tests.faults.sync_invariants import INVARIANTS, Synced, is_refused_start
from tests.support.gateway import Fault, Strike

ALWAYS = 1_000_000

FAULT = st.one_of(
    st.builds(
        Fault,
        box=st.sampled_from(
            ["lost_after", "lost_after", "lost_before", "503", "500", "429", "422", "400"]
            + ["not_json", "slow_body", "hang"]
        ),
    ),
    st.builds(Fault, gateway=st.sampled_from(["twice", "late", "502", "504", "short"])),
)
FAULTS: st.SearchStrategy[list[Fault]] = st.one_of(
    st.just([]),
    st.lists(st.one_of(FAULT, st.just(Fault())), min_size=1, max_size=6),
    # Longer than the attempts of one request.
    st.builds(
        lambda box, length: [Fault(box=box)] * length,
        st.sampled_from(["lost_after", "lost_before", "503", "422"]),
        st.sampled_from([5, 10]),
    ),
)
GROUP = st.sets(st.sampled_from(CODES), min_size=1, max_size=4)
MEMBERS = st.dictionaries(st.sampled_from(CODES), FIELDS, min_size=1, max_size=6)
OPTIONS = st.fixed_dictionaries(
    {
        "chunk_size": st.sampled_from([1, 2, 5]),
        "max_in_flight": st.sampled_from([1, 1, 3]),
        "on_missing": st.sampled_from(["keep", "unsubscribe", "unsubscribe"]),
        "max_unsubscribed": st.sampled_from([0, 1, 2, 5, 0.2, None]),
    }
)
CALM_OPTIONS = {"chunk_size": 5, "on_missing": "unsubscribe", "max_unsubscribed": None}
WHEN = st.sampled_from(["before", "after"])
HAPPENS = st.sampled_from(["state gone", "state gone for a moment", "power cut", "stopped"])
AFTER = st.sampled_from(["lease lost", "second run"])  # not while a transaction is open


class Syncs(FaultMachine):
    """A source that changes, synced again and again."""

    must_hold = INVARIANTS
    states: Iterator[Path]

    def __init__(self) -> None:
        super().__init__()
        self.state = State(next(self.states))
        self.source = Population()
        self.versions = Versions(
            Fingerprints(self.box.secret_key, UploadOptions().reading(), frozenset())
        )
        self.stolen: list[Any] | None = None

    # --- what changes -------------------------------------------------------------------------

    @initialize(members=st.dictionaries(st.sampled_from(CODES), FIELDS, min_size=8))
    def the_first_members(self, members: dict[str, Any]) -> None:
        self.source.change(members)
        self.sync(CALM_OPTIONS)

    @rule(members=MEMBERS)
    def members_change(self, members: dict[str, Any]) -> None:
        self.source.change(members)

    @rule(codes=GROUP)
    def members_leave(self, codes: set[str]) -> None:
        self.source.leave(codes)

    @rule(codes=GROUP)
    def plans_end(self, codes: set[str]) -> None:
        self.source.end_plans(codes)

    @rule(codes=GROUP)
    def members_are_again_what_they_were(self, codes: set[str]) -> None:
        self.source.go_back(codes)

    @rule(spellings=st.dictionaries(st.sampled_from(CODES), SPELLINGS, min_size=1))
    def members_are_spelled_otherwise(self, spellings: dict[str, str]) -> None:
        self.source.spellings |= spellings

    @rule(
        broken=st.sets(st.sampled_from(CODES), max_size=5),
        second=st.dictionaries(st.sampled_from(CODES), FIELDS, max_size=1),
        has_unreadable=st.booleans(),
        left=GROUP,
    )
    def records_break(
        self, broken: set[str], second: dict[str, Any], has_unreadable: bool, left: set[str]
    ) -> None:
        self.source.leave(left)
        self.source.broken, self.source.has_unreadable = broken, has_unreadable
        self.source.second = second
        self.sync(CALM_OPTIONS)  # all may go who are missing

    @rule(detail=st.sampled_from(["errors", "message", "none"]), touch=st.booleans())
    def mediquo_changes(self, detail: Any, touch: bool) -> None:
        self.box.settings.validation_detail, self.box.settings.touch_unchanged = detail, touch

    # --- what runs ----------------------------------------------------------------------------

    @rule(options=OPTIONS, upserts=FAULTS, gets=FAULTS)
    def a_sync(self, **drawn: Any) -> None:
        self.sync(**drawn)

    @rule(options=OPTIONS, upserts=FAULTS, what=HAPPENS, number=st.integers(1, 20), when=WHEN)
    def a_sync_that_is_hit_at_a_commit(
        self, what: str, number: int, when: Any, **drawn: Any
    ) -> None:
        self.sync(moment=lambda act: Moment(number, when, act), what=what, **drawn)

    @rule(options=OPTIONS, upserts=FAULTS, what=AFTER, number=st.integers(5, 14))
    def a_sync_that_meets_another(self, what: str, number: int, **drawn: Any) -> None:
        self.sync(moment=lambda act: Moment(number, "after", act), what=what, **drawn)

    @rule(
        options=OPTIONS,
        what=st.one_of(HAPPENS, AFTER),
        number=st.integers(1, 4),
        when=WHEN,
    )
    def a_sync_that_is_hit_at_a_request(
        self, what: str, number: int, when: Any, **drawn: Any
    ) -> None:
        self.sync(strike=lambda act: Strike(number, when, act), what=what, **drawn)

    @rule(members=MEMBERS, options=OPTIONS, upserts=FAULTS, what=HAPPENS, number=st.integers(8, 20))
    def a_change_that_is_taken_back(
        self, members: dict[str, Any], what: str, number: int, **drawn: Any
    ) -> None:
        """A, B without an answer, A."""
        self.source.change(members)
        self.sync(moment=lambda act: Moment(number, "before", act), what=what, **drawn)
        self.source.go_back({*members})
        self.sync(drawn["options"])

    @rule(options=OPTIONS, number=st.integers(0, 12))
    def a_sync_whose_source_fails(self, number: int, **drawn: Any) -> None:
        self.sync(fails_after=number, **drawn)

    @rule(options=OPTIONS)
    def a_dry_run(self, options: dict[str, Any]) -> None:
        self.sync(options | {"dry_run": True})

    @precondition(lambda self: self.children < 1)  # starting one takes a second
    @rule(options=OPTIONS, upserts=FAULTS, number=st.integers(1, 4), when=WHEN)
    def a_sync_whose_process_is_killed(
        self, options: dict[str, Any], upserts: list[Fault], number: int, when: Any
    ) -> None:
        self.state.an_hour_passes()
        usual = dict.fromkeys(self.source.fields, "usual")
        self.source.spellings = usual  # a date is not JSON
        before = self.begin()
        options = {"max_rejects": 1000, "state_conn_id": "state"} | options
        asked = {
            "settings": vars(self.client().settings),
            "options": options,
            "rejects": os.devnull,
            "state": self.state.url,
            "records": [*self.source],
        }
        with self.start_child() as child:
            kill = Strike(number, when, lambda: os.kill(child.pid, signal.SIGKILL))
            self.gateway.plan(upserts, strike=kill)
            child.communicate(json.dumps(asked).encode(), timeout=60)
        is_killed = child.returncode == -signal.SIGKILL
        self.reached["killed"] += is_killed
        self.check(self.end(before, options))
        if is_killed:
            self.no_run_begins()

    # --- how ----------------------------------------------------------------------------------

    def begin(self) -> tuple[list[Any], dict[str, Any]]:
        self.box.settings.clock_skew += 2  # two writes within one second look alike
        self.versions.note(iter(self.source))
        self.stolen = None
        return self.state.members(), self.shown()

    def end(self, before: tuple[list[Any], dict[str, Any]], options: dict[str, Any]) -> Synced:
        after = self.shown()
        return Synced(
            versions=self.versions,
            rows_before=before[0],
            before=before[1],
            rows=self.state.members(),
            after=after,
            present={*self.source.fields, *self.source.second},
            with_plan=self.source.with_plan(),
            may_miss=options["on_missing"] == "unsubscribe" and not self.source.has_unreadable,
            seen=self.gateway.take_journal(),
            limit=options["max_unsubscribed"],
            stored=self.state.bytes(),
            stolen=self.stolen,
            is_dry_run=options.get("dry_run", False),
        )

    def client(self, timeout: float = TIMEOUT) -> MediquoClient:
        return self.connect(self.box, self.gateway, timeout=timeout)

    def sync(
        self,
        options: dict[str, Any],
        *,
        upserts: Iterable[Fault] = (),
        gets: Iterable[Fault] = (),
        moment: Callable[[Callable[[], None]], Moment] | None = None,
        strike: Callable[[Callable[[], None]], Strike] | None = None,
        what: str = "",
        fails_after: int | None = None,
        timeout: float = TIMEOUT,
    ) -> Synced:
        """Run one, and check all that must hold."""
        self.state.an_hour_passes()
        before = self.begin()
        client = self.client(timeout)
        upload = self.upload(client, options)

        def act() -> None:
            self.reached[what] += 1
            self.happen(what, upload)

        self.gateway.patience = 1.5 * timeout
        self.gateway.plan(upserts, gets, strike(act) if strike else None)
        self.state.plan(moment(act) if moment else None)
        error = failure_of(upload, _until(self.source, fails_after))
        self.state.plan()
        self.gateway.rest()
        client.close()
        run = self.end(before, options)
        run.report, run.error = upload.report, error
        run.may_miss &= fails_after is None
        self.check(run)
        self.note(run)
        return run

    def upload(self, client: MediquoClient, options: dict[str, Any]) -> Upload:
        chosen = UploadOptions(max_rejects=1000, state_conn_id="state", **options)
        sync = sync_of(self.state.engine(), chosen, self.box.secret_key)
        return Upload(client, chosen, RejectLog(), sync=sync)

    def happen(self, what: str, upload: Upload) -> None:
        if what == "state gone":
            self.state.fail(ALWAYS)
        elif what == "state gone for a moment":
            self.state.fail(1)
        elif what == "power cut":
            self.state.fail(ALWAYS)
            upload.stop()
        elif what == "stopped":
            upload.stop()
        elif what == "lease lost":
            self.stolen = self.state.take_lease()
        else:
            self.another_run()

    def another_run(self) -> None:
        """While one is under way: it changes nothing, unless that one has not begun."""
        client = self.client()
        options = {"max_unsubscribed": 0}
        error = failure_of(self.upload(client, options), iter(self.source))
        client.close()
        assert error is None or isinstance(error, StateError | UnsubscribeLimitError)

    def no_run_begins(self) -> None:
        """Right after a kill: who was killed may still be running, as far as anybody knows."""
        client = self.client()
        rows = self.state.members()
        error = failure_of(self.upload(client, CALM_OPTIONS), iter(self.source))
        client.close()
        assert is_refused_start(error) or not rows
        assert self.state.members() == rows or not rows

    def note(self, run: Synced) -> None:
        report = run.report
        assert report
        self.reached.update(
            {
                "runs": 1,
                "green": run.error is None,
                "plans lost": bool(run.lost_plans),
                "limit": isinstance(run.error, UnsubscribeLimitError),
                "unsubscribed because missing": report.missing_unsubscribed > 0,
                "left out": report.unchanged > 0,
                "in doubt": any(row.in_doubt_by is not None for row in run.rows),
                "resent": report.resent > 0,
                "refused": report.refused > 0,
                "state failed": isinstance(run.error, StateError),
            }
        )

    def teardown(self) -> None:
        try:
            if self.is_well and self.source.fields:
                self.everything_heals()
        finally:
            self.reached.update(self.gateway.happened)
            self.stack.close()

    def everything_heals(self) -> None:
        """One undisturbed run: mediQuo equals the source, field by field."""
        self.source.correct()
        run = self.sync(CALM_OPTIONS, timeout=CALM)
        assert run.error is None, run.error
        sendable = self.source.sendable()
        for code, fields in sendable.items():
            assert fields.items() <= run.after[code].items()
        left = run.after.keys() - self.source.fields.keys()
        assert not [code for code in left if run.after[code]["plan"]]
        again = self.sync(CALM_OPTIONS, timeout=CALM)
        assert again.report and again.report.unchanged == len(sendable)
        assert again.report.upserted == again.report.missing == 0


def failure_of(upload: Upload, source: Iterator[Any]) -> BaseException | None:
    try:
        upload.run(source)
    except (MediquoError, RuntimeError) as error:
        return error
    return None


def _until(source: Iterable[Any], number: int | None) -> Iterator[Any]:
    """Yield the records; fail after so many."""
    yield from islice(source, number)
    if number is not None:
        raise RuntimeError


REACHED = {
    "runs": 100,
    "green": 50,
    "plans lost": 5,
    "limit": 2,
    "unsubscribed because missing": 3,
    "left out": 50,
    "in doubt": 20,
    "resent": 5,
    "refused": 10,
    "state failed": 5,
    "state gone": 2,
    "state gone for a moment": 2,
    "power cut": 2,
    "stopped": 2,
    "lease lost": 2,
    "second run": 2,
    "killed": 2,
    "lost_after": 3,
}


@pytest.fixture
def states(tmp_path: Path) -> Iterator[Path]:
    """Names of databases that are not there yet."""
    return (tmp_path / f"{number}.db" for number in count())


@pytest.mark.no_cover
@pytest.mark.timeout(TIME_LIMIT)
def test_mediquo_is_in_step_whatever_happens(place, connect, states, monkeypatch):
    monkeypatch.setattr(missing, "_WAITS", (LAG,) * 4)
    Syncs.place, Syncs.connect = staticmethod(place), staticmethod(connect)
    Syncs.states = states
    # The first example of a batch is the simplest, and reaches little.
    run_until_reached(Syncs, REACHED, max_examples=6, steps=12, seeds=range(6))
