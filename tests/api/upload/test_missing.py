from dataclasses import dataclass

import pytest

from airflow_provider_mediquo.api.errors import (
    AuthenticationError,
    MediquoError,
    RejectedRequestError,
    ServerError,
    StoppedError,
)
from airflow_provider_mediquo.api.upload import missing as missing_module
from tests.support.states import heal, one_of_each

MIRROR = {"on_missing": "unsubscribe", "max_unsubscribed": None}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(missing_module, "_WAITS", (0.01, 0.01))


def known(box, state, sync, records):
    sync(box, state, records).ok()
    state.run("UPDATE mediquo_member SET sent_at = sent_at - 3600")


OPTIONS = MIRROR


def test_many_are_read_one_by_one_and_written_in_chunks(box, state, sync, people):
    known(box, state, sync, people(60))
    before = len(box.journal)
    run = sync(box, state, people(10), chunk_size=20, **OPTIONS).ok()
    assert (run.missing, run.missing_unsubscribed, run.unsubscribed) == (50, 50, 50)
    seen = box.journal[before:]
    assert sorted(entry.patients for entry in seen if entry.endpoint == "upsert") == [10, 20, 20]
    assert sum(entry.endpoint == "get" for entry in seen) == 50
    assert sum(bool(shown["plan"]) for shown in box.patients.values()) == 10
    assert len(state.members()) == 10


def test_no_more_requests_are_in_flight_than_allowed(box, state, sync, people):
    known(box, state, sync, people(40))
    box.settings.latency = 0.05
    run = sync(box, state, people(20), chunk_size=5, max_in_flight=2, **OPTIONS).ok()
    assert run.missing_unsubscribed == 20
    assert box.counters.max_in_flight == 2


def test_who_has_no_plan_there_is_not_written(box, state, sync, people):
    """Somebody has taken it away already."""
    known(box, state, sync, people(3))
    box._mediquo.store.accept([{"code": "m-3", "first_name": "Ada"}])
    before = box.counters.accepted
    run = sync(box, state, people(2), **OPTIONS).ok()
    assert run.missing_unsubscribed == 1
    assert box.counters.accepted == before
    assert "m-3" not in state.members()


def test_who_was_sent_just_now_is_written_even_if_it_shows_no_plan(box, state, sync, people):
    """What mediQuo shows may be older than what was sent."""
    box._mediquo.store.accept([{"code": "m-3", "first_name": "Old"}])
    box.settings.lag = 60
    sync(box, state, people(3)).ok()
    before = box.accepted["m-3"]
    run = sync(box, state, people(2), **OPTIONS).ok()
    assert run.missing_unsubscribed == 1
    assert box.accepted["m-3"] == before + 1
    box.settings.lag = 0


def test_who_was_sent_by_a_clock_ahead_is_not_waited_for(box, state, sync, people):
    """mediQuo has deleted the patient: otherwise that would be unsettled until the time has come."""
    sync(box, state, people(3)).ok()
    state.run("UPDATE mediquo_member SET sent_at = sent_at + 86400")
    box.reset()
    assert sync(box, state, people(2), **OPTIONS).ok().missing_unsubscribed == 1
    assert "m-3" not in state.members()


def test_one_that_cannot_be_read_stays_for_the_next_run(box, state, sync, people):
    known(box, state, sync, people(4))
    box.script("get", *["503"] * 5)
    run = sync(box, state, people(2), max_in_flight=1, **OPTIONS)
    assert isinstance(run.error, MediquoError)
    assert "1 member missing, without a final answer" in str(run.error)
    assert (run.missing, run.missing_unsubscribed, run.missing_unsettled) == (2, 1, 1)
    assert len(state.members()) == 3
    heal(box)
    assert sync(box, state, people(2), **OPTIONS).ok().missing_unsubscribed == 1


def test_a_mediquo_that_is_down_ends_it(box, state, sync, people):
    known(box, state, sync, people(100))
    box.script("get", *["503"] * 1000)
    run = sync(box, state, people(2), **OPTIONS)
    assert isinstance(run.error, MediquoError)
    assert run.missing == 98
    assert run.missing_unsubscribed == 0
    assert len(state.members()) == 100


@pytest.mark.no_cover
@pytest.mark.parametrize("status", ["401", "403"])
@one_of_each
def test_keys_that_may_not_read_end_it(box, every_state, sync, people, status):
    known(box, every_state, sync, people(3))
    before = every_state.members()
    box.script("get", *[status] * 5)
    run = sync(box, every_state, people(1), max_in_flight=1, **OPTIONS)
    assert isinstance(run.error, AuthenticationError)
    assert (run.missing, run.missing_unsettled) == (2, 2)
    assert every_state.members() == before, "no request was made that could change them"
    assert all(shown["plan"] for shown in box.patients.values())
    heal(box)
    assert sync(box, every_state, people(1), **OPTIONS).ok().missing_unsubscribed == 2


def test_one_that_is_refused_does_not_keep_the_others(box, state, sync, people):
    records = [*people(5), *people(1, start=6, tax_id="bad")]
    known(box, state, sync, records)
    box.settings.refuse_tax_id = "bad"
    run = sync(box, state, people(2), **OPTIONS)
    assert (run.missing, run.missing_unsubscribed, run.missing_unsettled) == (4, 3, 1)
    (line,) = [line for line in run.lines if line["code"] == "m-6"]
    assert (line["refused_by"], line["status"]) == ("mediquo", 422)
    assert run.refused == 0, "it is no record of the source"


def test_what_mediquo_shows_and_nobody_can_write_back_keeps_no_other(box, state, sync, people):
    """Half a surrogate pair, or a number that JSON does not have. No error holds the patient."""
    known(box, state, sync, people(5))
    odd = {
        "m-3": {"first_name": "canaryinamine \ud800"},
        "m-4": {"meta": {"canaryinamine": float("nan")}},
    }
    for code, values in odd.items():
        shown = {"code": code, "first_name": "Ada", "plan": "gold"}
        box._mediquo.store.accept([shown | values])
    run = sync(box, state, people(2), **OPTIONS)
    assert "2 members missing, without a final answer" in str(run.error)
    assert (run.missing, run.missing_unsubscribed, run.missing_unsettled) == (3, 1, 2)
    assert {line["code"] for line in run.lines if line["refused_by"] == "mediquo"} == {*odd}
    assert "canaryinamine" not in repr(run.error) + repr(vars(run.error))


def test_a_kill_ends_the_waiting_for_what_is_not_shown(
    box, state, prepare_sync, sync, people, monkeypatch
):
    box.settings.lag = 600
    sync(box, state, people(3)).ok()
    monkeypatch.setattr(missing_module, "_WAITS", (300,))
    run = prepare_sync(box, state, people(2), **OPTIONS)
    pause = run.upload._client.pause

    def kill(seconds):
        run.upload.stop()
        pause(seconds)

    monkeypatch.setattr(run.upload._client, "pause", kill)
    run.go()
    assert isinstance(run.error, StoppedError)
    assert state.sync()["holder"] is None


def test_who_another_sync_has_sent_meanwhile_is_not_missing(box, state, sync, people, monkeypatch):
    known(box, state, sync, people(4))
    count = missing_module.MissingMembers.chunks

    def later(self):
        sync(box, state, people(1, start=4, first_name="Eva"), name="other").ok()
        yield from count(self)

    monkeypatch.setattr(missing_module.MissingMembers, "chunks", later)
    run = sync(box, state, people(2), **OPTIONS).ok()
    assert (run.missing, run.missing_unsubscribed) == (1, 1)
    assert box.patients["m-4"]["plan"] == "premium"


def test_the_sample_and_the_list_of_the_unsubscribed_have_them(box, state, sync, people):
    known(box, state, sync, people(3))
    run = sync(box, state, people(2), **OPTIONS).ok()
    assert set(run.report.sample) == {"m-3"}
    assert run.unsubscribed_lines == [{"row": 0, "code": "m-3", "reason": "left", "had_plan": True}]


@pytest.mark.parametrize("dry_run", [True, False])
def test_the_list_says_why_and_who_had_a_plan(box, state, sync, people, dry_run):
    known(box, state, sync, [*people(4), *people(2, start=5, plan=None)])
    records = [
        *people(2),
        *people(1, start=3, plan=None),  # loses it
        *people(1, start=5, plan=None, first_name="Eva"),  # had none
        *people(1, start=7, plan=None),  # is new
    ]  # m-4 leaves with a plan, m-6 without one
    run = sync(box, state, records, dry_run=dry_run, **OPTIONS).ok()
    assert {
        line["code"]: (line["reason"], line["had_plan"]) for line in run.unsubscribed_lines
    } == {
        "m-3": ("no plan", True),
        "m-5": ("no plan", False),
        "m-7": ("no plan", False),
        "m-4": ("left", True),
    }
    assert (run.without_plan, run.unsubscribed, run.missing_unsubscribed) == (3, 2, 2)
    assert run.missing_had_plan == 1


def test_who_has_lost_the_plan_there_already_is_listed_and_counted(box, state, sync, people):
    known(box, state, sync, people(3))
    box._mediquo.store.accept([{"code": "m-3", "first_name": "Ada"}])
    run = sync(box, state, people(2), **OPTIONS).ok()
    assert [line["code"] for line in run.unsubscribed_lines] == ["m-3"]
    assert run.unsubscribed == run.missing_had_plan == 1


@pytest.mark.parametrize(("dry_run", "verb"), [(True, "would lose"), (False, "lost")])
def test_the_log_says_how_many_lost_their_plan(box, state, sync, people, caplog, dry_run, verb):
    caplog.set_level("INFO")
    known(box, state, sync, people(5))
    sync(box, state, people(5), **OPTIONS).ok()
    assert "their plan" not in caplog.text
    records = [*people(2), *people(1, start=3, plan=None)]
    sync(box, state, records, dry_run=dry_run, **OPTIONS).ok()
    (line,) = [line for line in caplog.messages if "their plan" in line]
    assert line == (
        f"3 members {verb} their plan: 1 by a record without one, 2 because they left the source."
    )


def test_one_member_is_no_plural(box, state, sync, people, caplog):
    caplog.set_level("INFO")
    known(box, state, sync, people(2))
    sync(box, state, people(1), **OPTIONS).ok()
    assert "1 member lost their plan: 0 by a record without one, 1 because" in caplog.text


def test_the_log_of_a_dry_run_says_how_many_too_many_would_be(box, state, sync, people, caplog):
    caplog.set_level("INFO")
    known(box, state, sync, people(3))
    limit = {"on_missing": "unsubscribe", "max_unsubscribed": 1}
    sync(box, state, people(1), dry_run=True, **limit).ok()
    assert "2 members would lose their plan: 0 by a record without one" in caplog.text


def test_who_has_been_unsubscribed_takes_no_memory(
    box, state, prepare_sync, sync, people, monkeypatch
):
    known(box, state, sync, people(60))
    open_at_once = []
    accept = missing_module._MissingLedger.accept

    def counted(self, records, sent_at):
        open_at_once.append(len(self._open))
        accept(self, records, sent_at)
        open_at_once.append(len(self._open))

    monkeypatch.setattr(missing_module._MissingLedger, "accept", counted)
    run = sync(box, state, people(20), chunk_size=10, max_in_flight=1, **OPTIONS).ok()
    assert run.missing_unsubscribed == 40
    assert open_at_once == [10, 0] * 4


def test_members_that_a_search_has_not_settled_are_given_up(box, state, sync, people):
    """mediQuo goes down while it is looked for one that it refuses."""
    known(box, state, sync, people(12))
    box.script("upsert", "422", *["503"] * 100)
    run = sync(box, state, people(2), **OPTIONS)
    assert isinstance(run.error, MediquoError)
    assert (run.missing, run.missing_unsettled) == (10, 10)
    assert len(state.in_doubt()) == 10
    heal(box)
    assert sync(box, state, people(2), **OPTIONS).ok().missing_unsubscribed == 10


def test_one_whose_last_request_has_no_answer_is_not_taken_for_shown(
    box, state, sync, people, monkeypatch
):
    """mediQuo still shows what was sent before, and applies the request while the run waits."""
    known(box, state, sync, people(3))
    newer = [*people(2), people(3)[2] | {"first_name": "Eva"}]
    box.script("upsert", *["lost_before"] * 5)
    assert sync(box, state, newer).unsettled == 1

    def waits():
        yield 0
        box._mediquo.store.accept(newer[2:])
        yield 0

    monkeypatch.setattr(missing_module, "_WAITS", waits())
    assert sync(box, state, people(2), **OPTIONS).ok().missing_unsubscribed == 1
    shown = box.patients["m-3"]
    assert (shown["first_name"], shown["plan"]) == ("Eva", None)


@pytest.mark.no_cover
@one_of_each
def test_those_that_may_not_be_read_stay_and_the_others_go(box, every_state, sync, people):
    """A firewall that refuses some paths."""
    known(box, every_state, sync, people(6))
    box.script("get", "ok", "400", "ok", "422")
    run = sync(box, every_state, people(2), max_in_flight=1, **OPTIONS)
    assert type(run.error) is MediquoError
    assert "2 members missing, without a final answer" in str(run.error)
    assert (run.missing, run.missing_unsubscribed, run.missing_unsettled) == (4, 2, 2)
    statuses = [line["status"] for line in run.lines if line["refused_by"] == "mediquo"]
    assert statuses == [400, 422]
    assert len(every_state.members()) == 4
    assert not every_state.in_doubt()
    heal(box)
    assert sync(box, every_state, people(2), **OPTIONS).ok().missing_unsubscribed == 2


def test_many_that_may_not_be_read_end_the_run_only_in_a_row(box, state, sync, people, monkeypatch):
    monkeypatch.setattr(missing_module, "_MAX_REFUSED", 10)
    known(box, state, sync, people(26))
    box.script("get", *["ok", "400"] * 12)
    run = sync(box, state, people(2), max_in_flight=1, **OPTIONS)
    assert (run.missing, run.missing_unsubscribed, run.missing_unsettled) == (24, 12, 12)
    box.script("get", *["400"] * 12)
    run = sync(box, state, people(2), max_in_flight=1, **OPTIONS)
    assert isinstance(run.error, RejectedRequestError)
    assert (run.missing_unsubscribed, run.missing_unsettled) == (0, 12)
    assert box.counters.requests["get"]["400"] == 12 + 10 + 1


def test_a_member_that_a_firewall_hides_is_unsettled(box, state, sync, people):
    """A refusal that is not mediQuo's own, after mediQuo has answered others."""
    known(box, state, sync, people(4))
    box.script("get", "ok", *["409"] * 10)
    run = sync(box, state, people(2), max_in_flight=1, **OPTIONS)
    assert "1 member missing, without a final answer" in str(run.error)
    assert (run.missing, run.missing_unsubscribed, run.missing_unsettled) == (2, 1, 1)
    assert len(state.members()) == 3


# --- a 404 that is not mediQuo's own --------------------------------------------------------------


@dataclass
class Gateway:
    """Stands where mediQuo was, as far as the client sees."""

    url: str


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "body", [{"message": "no Route matched with those values"}, {"message": "Not Found"}]
)
@one_of_each
def test_a_404_of_a_gateway_forgets_nobody(box, every_state, sync, people, serve, answer, body):
    known(box, every_state, sync, people(3))
    before = every_state.members()
    wire = serve(answer(x_ratelimit_limit="600"), answer(404, body), answer(404, body))
    changed = people(1, first_name="Eva")
    run = sync(Gateway(wire.url), every_state, changed, max_in_flight=1, **OPTIONS)
    assert "2 members missing, without a final answer" in str(run.error)
    assert (run.missing, run.missing_unsubscribed, run.missing_unsettled) == (2, 0, 2)
    assert [(line["code"], line["status"]) for line in run.lines] == [("m-2", 404), ("m-3", 404)]
    assert {*every_state.members()} == {*before}
    assert sync(box, every_state, people(1), **OPTIONS).ok().missing_unsubscribed == 2
    assert not box.patients["m-3"]["plan"]


def test_a_gateway_that_answers_nothing_else_ends_the_run(box, state, sync, people, serve, answer):
    known(box, state, sync, people(30))
    gone = [answer(404, {"message": "Not Found"})] * 30
    wire = serve(answer(x_ratelimit_limit="600"), *gone)
    changed = people(1, first_name="Eva")
    run = sync(Gateway(wire.url), state, changed, max_in_flight=1, **OPTIONS)
    assert isinstance(run.error, ServerError), "it is tried again"
    assert "without the header `x-ratelimit-limit`" in str(run.error)
    assert (run.missing_unsubscribed, run.missing_unsettled) == (0, 29)
    assert len(state.members()) == 30


def test_a_404_forgets_nobody_if_mediquo_has_answered_nothing(
    box, state, sync, people, serve, answer
):
    """Nothing has changed, so nothing is sent: what mediQuo's own answers look like is not known."""
    known(box, state, sync, people(3))
    wire = serve(*[answer(404, {"message": "Not Found"})] * 2)
    run = sync(Gateway(wire.url), state, people(1), max_in_flight=1, **OPTIONS)
    assert run.error
    assert (run.missing_unsubscribed, run.missing_unsettled) == (0, 2)
    assert len(state.members()) == 3


def test_if_mediquo_shows_no_limit_either_a_404_is_believed(
    box, state, sync, people, serve, answer
):
    known(box, state, sync, people(3))
    wire = serve(answer(), *[answer(404, {"message": "Not Found"})] * 2)
    changed = people(1, first_name="Eva")
    run = sync(Gateway(wire.url), state, changed, max_in_flight=1, **OPTIONS).ok()
    assert run.missing_unsubscribed == 2


def test_a_404_of_mediquo_itself_is_believed(box, state, sync, people):
    """Whoever is deleted in mediQuo has nothing to lose."""
    known(box, state, sync, people(3))
    box.reset()
    assert sync(box, state, people(1), **OPTIONS).ok().missing_unsubscribed == 2
    assert set(state.members()) == {"m-1"}
