"""What holds after every run of a sync, whatever happened: each promise a function."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_mediquo.api.errors import StateError
from airflow_provider_mediquo.api.report import UploadReport
from tests.faults.members import CANARY, OWN
from tests.faults.population import Versions
from tests.support.carried import texts_of
from tests.support.gateway import Seen

Patients = Mapping[str, Mapping[str, Any]]


@dataclass
class Synced:
    """One run of a sync, and what both sides say of it.

    :param rows_before: the state's members when it began; `rows` when all was over.
    :param before: what mediQuo showed when it began; `after` when all was over.
    :param present: the codes that its source has, in valid records or not.
    :param with_plan: those of them that may not lose a plan.
    :param may_miss: whether the members that its source does not have may lose theirs.
    :param report: None where the process was killed.
    :param stolen: the state's members when another run took the lease.
    :param limit: how many may lose their plan.
    """

    versions: Versions
    rows_before: list[Any]
    rows: list[Any]
    before: Patients
    after: Patients
    present: set[str]
    with_plan: set[str]
    may_miss: bool
    seen: list[Seen]
    limit: float | None
    stored: bytes
    report: UploadReport | None = None
    error: BaseException | None = None
    stolen: list[Any] | None = None
    is_dry_run: bool = False

    @property
    def lost_plans(self) -> set[str]:
        return {
            code
            for code, patient in self.before.items()
            if patient["plan"] and not self.after[code]["plan"]
        }


def mediquo_has_what_is_left_out(run: Synced) -> None:
    """Each member that the state is certain of is in mediQuo, exactly so."""
    for row in run.rows:
        if row.fingerprint is not None and row.in_doubt_by is None:
            expected = run.versions.sent(row)
            assert expected.items() <= run.after[row.code].items()
            assert bool(row.has_plan) == bool(expected["plan"])


def nobody_loses_a_plan_beyond_the_limit(run: Synced) -> None:
    limit = math.inf if run.limit is None else run.limit
    if isinstance(limit, float) and limit < 1:
        limit = math.ceil(limit * sum(row.has_plan for row in run.rows_before))
    assert len(run.lost_plans) <= limit


def nobody_loses_a_plan_without_a_reason(run: Synced) -> None:
    assert not run.lost_plans & run.with_plan
    assert run.may_miss or run.lost_plans <= run.present


def the_state_knows_every_subscriber(run: Synced) -> None:
    """Otherwise the limit would not count them."""
    known = {row.code for row in run.rows if row.has_plan}
    assert {code for code, patient in run.after.items() if patient["plan"]} <= known


def who_left_keeps_all_else(run: Synced) -> None:
    for code, patient in run.before.items():
        if code not in run.present:
            for name in patient.keys() - {"plan", "updated_at", "unsubscribed_at"}:
                assert run.after[code][name] == patient[name]


def the_counts_add_up(run: Synced) -> None:
    if report := run.report:
        counts = report.as_dict()
        assert all(value >= 0 for value in report.counts().values())
        assert report.upserted == report.new + report.changed + report.resent
        assert counts["missing_unsettled"] >= 0
        if run.error is None:
            assert report.unsettled == counts["missing_unsettled"] == 0
            assert run.is_dry_run or report.withheld == 0


def a_run_without_the_lease_writes_nothing(run: Synced) -> None:
    if run.stolen is not None:
        assert run.rows == run.stolen


def a_dry_run_changes_nothing(run: Synced) -> None:
    if run.is_dry_run:
        assert (run.rows, run.after) == (run.rows_before, run.before)
        assert not [each for each in run.seen if each.endpoint == "upsert"]


def no_value_is_told(run: Synced) -> None:
    told = [*texts_of(run.error), repr(run.report)] if run.error else [repr(run.report)]
    assert not [text for text in told if any(value in text for value in OWN)]
    assert CANARY.encode() not in run.stored


INVARIANTS = (
    mediquo_has_what_is_left_out,
    nobody_loses_a_plan_beyond_the_limit,
    nobody_loses_a_plan_without_a_reason,
    the_state_knows_every_subscriber,
    who_left_keeps_all_else,
    the_counts_add_up,
    a_run_without_the_lease_writes_nothing,
    a_dry_run_changes_nothing,
    no_value_is_told,
)


def is_refused_start(error: BaseException | None) -> bool:
    """Whether a run was refused because another one is under way."""
    return isinstance(error, StateError) and "has been running since" in str(error)
