"""When a record is in doubt, and when it is certain, by mediQuo's answer."""

import pytest

from airflow_provider_mediquo.api.errors import MediquoError


@pytest.mark.parametrize("status", [400, 422])
def test_a_definite_refusal_leaves_what_was_there(box, state, sync, people, status):
    sync(box, state, people(1)).ok()
    before = state.members()
    box.script("upsert", str(status), str(status))
    run = sync(box, state, people(1, first_name="Eva"), max_rejects=1).ok()
    assert run.refused == 1
    assert state.members() == before


def test_a_record_that_is_too_large_for_mediquo_is_refused(box, state, sync, people):
    sync(box, state, people(1)).ok()
    before = state.members()
    box.script("upsert", "413")
    assert sync(box, state, people(1, first_name="Eva"), max_rejects=1).ok().refused == 1
    assert state.members() == before


@pytest.mark.no_cover
@pytest.mark.parametrize("status", [403, 404, 409, 451, 503])
def test_any_other_leaves_the_doubt(box, state, sync, people, status):
    sync(box, state, people(1)).ok()
    box.script("upsert", *[str(status)] * 30)
    run = sync(box, state, people(1, first_name="Eva"))
    assert isinstance(run.error, MediquoError)
    assert state.in_doubt() == {"m-1"}


def test_a_refusal_after_a_lost_answer_leaves_the_doubt(box, state, sync, people):
    sync(box, state, people(1)).ok()
    box.script("upsert", "lost_before", "422")
    run = sync(box, state, people(1, first_name="Eva"), max_rejects=1).ok()
    assert run.refused == 1
    assert state.in_doubt() == {"m-1"}


def test_one_refused_in_a_search_that_a_firewall_may_have_stopped_stays_in_doubt(
    box, state, sync, people
):
    """409 for one record alone, while the others are accepted."""
    sync(box, state, people(4)).ok()
    # The chunk without an answer; then the other three; then this one alone.
    box.script("upsert", "422", "ok", "ok", "409", "409")
    run = sync(box, state, people(4, first_name="Eva"), max_rejects=4)
    in_doubt = state.in_doubt()
    assert len(in_doubt) == run.refused + run.unsettled == 4 - run.changed
    assert all(box.patients[code]["first_name"] == "Ada" for code in in_doubt)


def test_of_a_chunk_with_one_that_is_refused_the_others_are_certain(box, state, sync, people):
    box.settings.refuse_tax_id = "bad"
    records = [*people(10), *people(1, start=11, tax_id="bad"), *people(10, start=12)]
    run = sync(box, state, records, max_rejects=1).ok()
    assert (run.new, run.refused) == (20, 1)
    assert len(state.members()) == 20
    assert not state.in_doubt()


def test_the_ledger_counts_as_before(box, state, sync, people):
    """Also what a state adds stays out of the counts of an upload without one."""
    run = sync(box, state, people(250)).ok()
    assert run.upserted == 250
    assert len(run.report.sample) == 20
    assert run.report.sync == {"state_conn_id": None, "name": "members", "run": 1}
