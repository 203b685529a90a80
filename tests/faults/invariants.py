"""What holds after every run, whatever happened: each promise a function."""

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_mediquo.api.errors import (
    MediquoError,
    RateLimitedError,
    ServerError,
    StoppedError,
    UnreachableError,
)
from airflow_provider_mediquo.api.report import UploadReport
from tests.faults.child import MINUTE
from tests.faults.members import OWN, Source, as_shown
from tests.support.carried import texts_of
from tests.support.gateway import Seen

PASSING = (RateLimitedError, ServerError, StoppedError, UnreachableError)
"""The errors that a retry may cure."""

SHARE = 0.8
"""Of the minute in which requests are counted: they are seen a little later than they leave."""


@dataclass
class Run:
    """One upload, its sensor, and what both sides say of it.

    :param report: None where the process was killed.
    :param before: what mediQuo showed when it began; `after` when all was over.
    :param accepted: by the sandbox's count, how often each code was.
    :param left: when the requests of this process left, those of earlier runs too, by endpoint.
    :param limit: requests within MINUTE.
    :param is_seen: whether the sensor saw everybody.
    """

    source: Source
    path: Path
    seen: list[Seen]
    before: Mapping[str, Mapping[str, Any]]
    after: Mapping[str, Mapping[str, Any]]
    accepted: Counter[str]
    report: UploadReport | None = None
    error: BaseException | None = None
    seconds: float = 0.0
    timeout: float = 0.0
    limit: int = 0
    reported_limit: int = 0
    left: Mapping[str, list[float]] = field(default_factory=dict)
    is_calm: bool = False
    is_seen: bool = False

    @property
    def upserts(self) -> list[Seen]:
        return [each for each in self.seen if each.endpoint == "upsert"]

    @property
    def lines(self) -> list[dict[str, Any]]:
        text = self.path.read_text() if self.path.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def codes(self, refused_by: str) -> set[str]:
        return {line["code"] for line in self.lines if line["refused_by"] == refused_by}

    @property
    def upserted(self) -> set[str]:
        """The codes that the ledger and the rejects file say have arrived."""
        read = [*self.source][: self.report.read]
        return (
            {g.code for g in read if g.is_valid} - self.codes("unsettled") - self.codes("mediquo")
        )

    def has(self, code: str) -> bool:
        """Whether mediQuo shows exactly what the source has, and what was left out as it was."""
        expected = as_shown(self.source.good()[code], self.before.get(code))
        return expected.items() <= self.after.get(code, {}).items()

    @property
    def is_green(self) -> bool:
        return self.report is not None and self.error is None


def everybody_is_there(run: Run) -> None:
    """After a run that ended well, and whose sensor did, each valid record is there, exactly."""
    if run.is_green and run.is_seen:
        for code, given in run.source.good().items():
            # The sensor looks for codes with a slash only where there are no others.
            is_proven = code in run.report.sample or "/" not in code
            assert code in run.upserted or given.is_refused
            assert run.has(code) or given.is_refused or not is_proven


def the_ledger_adds_up(run: Run) -> None:
    """With the source, the rejects file and both journals."""
    if report := run.report:
        written = Counter(line["refused_by"] for line in run.lines)
        assert written == Counter(
            schema=report.invalid,
            duplicate=report.duplicate,
            mediquo=report.refused,
            unsettled=report.unsettled,
        )
        rows = [line["row"] for line in run.lines]
        assert len({*rows}) == len(rows) == report.read - report.upserted
        assert report.upserted == len(run.upserted)
        assert report.requests >= len(run.upserts)
        assert report.read == len([*run.source]) or report.stopped_because
        if run.is_calm:  # no fault, and time enough
            assert report.requests == len(run.upserts)
            assert report.unsettled == report.retries == 0
        if run.is_green:
            assert report.unsettled == 0


def no_record_is_upserted_that_mediquo_never_accepted(run: Run) -> None:
    """What the client reports, the gateway heard, and the sandbox did."""
    heard = {code for each in run.upserts if each.is_accepted for code in each.codes}
    if run.report:
        known = {code for each in accepted_for_certain(run.upserts) for code in each.codes}
        assert known <= run.upserted <= heard


def nothing_is_sent_again_whose_acceptance_arrived(run: Run) -> None:
    settled: set[str] = set()
    for each in run.upserts:
        assert not settled.intersection(each.codes)
        if each in accepted_for_certain([each]):
            settled.update(each.codes)


def nobody_loses_a_plan(run: Run) -> None:
    """Neither on the way, for a moment, nor in mediQuo."""
    good = run.source.good()
    for each in run.upserts:
        for record in each.records:
            assert record == without_blank_plan(good[record["code"]].record)
    for code, given in good.items():
        if given.has_plan and run.before.get(code, {}).get("plan"):
            assert run.after[code]["plan"]
            assert run.after[code]["unsubscribed_at"] is None


def a_lost_plan_is_told(run: Run) -> None:
    """A duplicate that would have had one: the task does not end well."""
    assert not (run.is_green and run.source.loses_a_plan())


def the_rate_is_kept(run: Run) -> None:
    for endpoint, moments in run.left.items():
        for each in (seen for seen in run.seen if seen.endpoint == endpoint):
            limit = min(run.limit, run.reported_limit) if knows_limit(each, run) else run.limit
            assert within(moments, each.at) <= limit


def pauses_are_kept(run: Run) -> None:
    """What comes on a connection after a 429 comes no sooner than that asked."""
    for endpoint in ("upsert", "get"):
        asked: dict[Any, Seen] = {}
        for each in (seen for seen in run.seen if seen.endpoint == endpoint):
            if pause := asked.get(each.link):
                assert each.at >= pause.answered_at + seconds_asked(pause)
            if each.status == 429 and each.is_whole:
                asked[each.link] = each


def it_ends_in_time(run: Run) -> None:
    """Each request takes its time-out at most, each 429 its pause, and so many the minute."""
    if run.report:
        pauses = [seconds_asked(each) for each in run.seen if each.status == 429]
        count = run.report.requests + 1
        minutes = count / min(run.limit, run.reported_limit) + 2
        assert run.seconds <= count * run.timeout + sum(pauses) + minutes * MINUTE + 20


def no_thread_lives_on(run: Run) -> None:
    alive = [thread.name for thread in threading.enumerate() if thread.name.startswith("mediquo")]
    assert set(alive) <= {"mediquo-sandbox"}


def no_value_is_told(run: Run) -> None:
    told = [*texts_of(run.error), repr(run.report)]
    told.append(run.path.read_text() if run.path.exists() else "")
    assert not [text for text in told if any(value in text for value in OWN)]


def it_says_what_to_do(run: Run) -> None:
    if isinstance(run.error, MediquoError):
        first_line = str(run.error).splitlines()[0]
        assert f"{run.report}." in first_line
        assert ("Safe to run again." in first_line) is run.error.can_retry


INVARIANTS = (
    everybody_is_there,
    the_ledger_adds_up,
    no_record_is_upserted_that_mediquo_never_accepted,
    nothing_is_sent_again_whose_acceptance_arrived,
    nobody_loses_a_plan,
    a_lost_plan_is_told,
    the_rate_is_kept,
    pauses_are_kept,
    it_ends_in_time,
    no_thread_lives_on,
    no_value_is_told,
    it_says_what_to_do,
)


def accepted_for_certain(seen: Iterable[Seen]) -> list[Seen]:
    """Those whose answer, an acceptance, the client has got."""
    return [each for each in seen if each.is_accepted and each.status == 200 and each.has_arrived]


def without_blank_plan(record: Mapping[str, Any]) -> dict[str, Any]:
    return {n: value for n, value in record.items() if n != "plan" or value is not None}


def within(moments: Iterable[float], last: float) -> int:
    """How many came within the minute that ends at this moment."""
    return sum(last - SHARE * MINUTE < moment <= last for moment in moments)


def knows_limit(each: Seen, run: Run) -> bool:
    """Whether its connection has been told the limit in this run: another one came before."""
    earlier = [seen for seen in run.seen if seen.link is each.link and seen.at < each.at]
    return any(
        "x-ratelimit-limit" in seen.headers and seen.endpoint == each.endpoint for seen in earlier
    )


def seconds_asked(each: Seen) -> float:
    """The pause of a 429: a whole number of seconds, or the minute."""
    return float(each.headers.get("retry-after", MINUTE))


def by_endpoint(seen: Iterable[Seen]) -> dict[str, list[float]]:
    moments: dict[str, list[float]] = defaultdict(list)
    for each in seen:
        moments[each.endpoint].append(each.at)
    return moments
