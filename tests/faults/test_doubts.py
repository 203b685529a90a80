"""What is in doubt, and for how long: one fault at a certain place, and the runs after it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_mediquo.api.errors import MediquoError
from airflow_provider_mediquo.api.report import UploadReport
from airflow_provider_mediquo.api.upload import missing
from airflow_provider_mediquo.api.upload.options import UploadOptions
from airflow_provider_mediquo.api.upload.reject_log import RejectLog
from airflow_provider_mediquo.api.upload.runner import Upload
from airflow_provider_mediquo.sandbox import Sandbox
from tests.faults.child import sync_of
from tests.faults.state import State
from tests.support.gateway import Fault, Gateway, Strike

MIRROR = {"on_missing": "unsubscribe", "max_unsubscribed": None}


def member(code: str = "m-1", **fields: Any) -> dict[str, Any]:
    return {"code": code, "first_name": "Ada", "plan": "premium"} | fields


@dataclass
class Place:
    """A sandbox behind its gateway, a state, and runs of any sync."""

    box: Sandbox
    gateway: Gateway
    state: State
    connect: Callable[..., Any]

    def run(self, *patients: Any, **options: Any) -> UploadReport:
        """Run one; it may fail, and its ledger says what became of the members."""
        return self.run_over(iter(patients), **options)

    def run_over(self, patients: Iterator[Any], **options: Any) -> UploadReport:
        chosen = UploadOptions(state_conn_id="state", max_rejects=10, **options)
        client = self.connect(self.box, self.gateway, timeout=3)
        sync = sync_of(self.state.engine(), chosen, self.box.secret_key)
        upload = Upload(client, chosen, RejectLog(), sync=sync)
        try:
            return upload.run(patients)
        except MediquoError as error:
            assert error.report
            return error.report
        finally:
            client.close()

    def doubts(self) -> list[str]:
        return [row.code for row in self.state.members() if row.in_doubt_by is not None]


@pytest.fixture
def here(place, connect, tmp_path, monkeypatch):
    monkeypatch.setattr(missing, "_WAITS", (0.05,) * 6)
    with place() as (box, gateway):
        gateway.patience = 5
        yield Place(box, gateway, State(tmp_path / "state.db"), connect)


def test_a_refusal_after_a_lost_answer_leaves_a_doubt(here):
    """A, B accepted without an answer and refused when it is sent again, A."""
    here.run(member())
    here.gateway.plan([Fault(box="lost_after"), Fault(box="422")])
    assert here.run(member(first_name="Grace")).refused == 1
    assert here.box.patients["m-1"]["first_name"] == "Grace"
    assert here.run(member()).resent == 1
    assert here.box.patients["m-1"]["first_name"] == "Ada"


def test_a_refusal_leaves_the_doubt_of_an_earlier_run(here):
    """A, B accepted without an answer, C refused, A."""
    here.run(member())
    here.gateway.plan([Fault(box="lost_after")] * 20)
    here.run(member(first_name="Grace"))
    here.gateway.plan([Fault(box="422")])
    assert here.run(member(first_name="Eva")).refused == 1
    assert here.box.patients["m-1"]["first_name"] == "Grace"
    assert here.run(member()).resent == 1
    assert here.box.patients["m-1"]["first_name"] == "Ada"


def test_a_refusal_alone_leaves_none(here):
    here.run(member())
    here.gateway.plan([Fault(box="422")])
    before = here.state.members()
    assert here.run(member(first_name="Grace")).refused == 1
    assert here.state.members() == before
    assert here.run(member()).unchanged == 1


def test_who_was_about_to_be_sent_and_never_arrived_is_forgotten_once_that_is_sure(here):
    here.gateway.plan([Fault(box="lost_before")] * 20)
    here.run(member(), member("m-2"))
    here.gateway.plan()
    here.state.free_lease()
    first = here.run(member("m-2"), **MIRROR)
    assert (first.missing, first.missing_unsettled) == (1, 1)  # it may become visible yet
    here.state.an_hour_passes()
    second = here.run(member("m-2"), **MIRROR)
    assert (second.missing, second.missing_unsubscribed) == (1, 1)
    assert [row.code for row in here.state.members()] == ["m-2"]


def test_who_left_keeps_a_change_that_mediquo_does_not_show_yet(here, eventually):
    here.run(member(), member("m-2"))
    here.box.settings.lag = 0.15
    here.run(member(last_name="Byron"), member("m-2"))
    assert here.run(member("m-2"), **MIRROR).missing_unsubscribed == 1
    eventually(lambda: here.box.patients["m-1"]["plan"] is None)
    assert here.box.patients["m-1"]["last_name"] == "Byron"


def test_who_left_and_is_shown_as_it_was_sent_does_not_wait(here, monkeypatch):
    monkeypatch.setattr(missing, "_WAITS", (3600,))
    here.run(member(), member("m-2"))
    assert here.run(member("m-2"), **MIRROR).missing_unsubscribed == 1
    assert here.box.patients["m-1"]["plan"] is None


def test_a_code_with_a_slash_that_is_not_found_may_have_a_plan(here):
    here.run(member("a/b"), member(), member("m-2"))
    here.state.an_hour_passes()
    here.box.reset()
    report = here.run(member("m-2"), **MIRROR)
    assert (report.missing_unsubscribed, report.missing_unsettled) == (1, 1)
    assert [row.code for row in here.state.members()] == ["a/b", "m-2"]


def test_two_syncs_that_send_a_member_at_the_same_time_leave_a_doubt(here):
    here.run(member())

    def other() -> None:
        here.gateway.plan()
        here.run(member(first_name="Grace"), sync_name="other")

    here.gateway.plan(strike=Strike(1, "after", other))
    here.gateway.take_journal()
    here.run(member(first_name="Eva"))
    assert here.box.patients["m-1"]["first_name"] == "Grace"
    assert here.doubts() == ["m-1"]
    assert here.run(member(first_name="Eva")).resent == 1
    assert here.box.patients["m-1"]["first_name"] == "Eva"


def test_a_second_run_of_a_sync_while_one_is_under_way_changes_nothing(here):
    here.run(member(), member("m-2"))
    told = []

    def second() -> None:
        here.gateway.plan()
        before = here.state.members()
        told.append(here.run(member(first_name="Grace")).stopped_because)
        assert here.state.members() == before
        told.append("nothing changed")

    here.gateway.plan(strike=Strike(1, "after", second))
    here.gateway.take_journal()
    assert here.run(member(first_name="Eva"), member("m-2")).changed == 1
    assert "has been running since" in told[0]
    assert told[1:] == ["nothing changed"]
    assert here.box.patients["m-1"]["first_name"] == "Eva"


def test_another_spelling_is_noted_only_of_what_was_sent(here):
    """Another sync sends the member after this one has compared it."""
    here.run(member())
    padded = member(first_name=" Ada ")

    def source() -> Iterator[Any]:
        yield padded
        here.run(member(first_name="Grace"), sync_name="other")

    assert here.run_over(source()).unchanged == 1
    assert here.box.patients["m-1"]["first_name"] == "Grace"
    assert here.run(padded).changed == 1
    assert here.box.patients["m-1"]["first_name"] == "Ada"
