import pytest

from airflow_provider_mediquo.api.upload.seen_codes import SeenCodes


def test_a_code_belongs_to_its_first_valid_record():
    seen = SeenCodes()
    assert seen.first_had_plan("a") is None
    assert not seen.add("a", has_plan=True)
    assert not seen.add("b", has_plan=False)
    assert (seen.first_had_plan("a"), seen.first_had_plan("b")) == (True, False)
    assert seen.first_had_plan("c") is None


@pytest.mark.parametrize("is_valid_first", [True, False])
def test_a_plan_is_lost_to_a_record_of_the_same_code_whatever_comes_first(is_valid_first):
    seen = SeenCodes()
    if is_valid_first:
        assert not seen.add("a", has_plan=False)
        assert seen.reject("a", has_plan=True)
    else:
        assert not seen.reject("a", has_plan=True)
        assert seen.add("a", has_plan=False)


def test_no_plan_is_lost_where_there_is_none_or_both_have_one():
    seen = SeenCodes()
    assert not seen.reject("a", has_plan=False)
    assert not seen.add("a", has_plan=False)
    assert not seen.reject("b", has_plan=True)
    assert not seen.add("b", has_plan=True)
    assert not seen.reject("b", has_plan=True)
    assert not seen.reject(None, has_plan=True)


@pytest.mark.parametrize("known", [True, False])
def test_with_a_state_it_is_the_same(box, state, sync, people, known):
    """Those that the state knows are remembered elsewhere."""
    if known:
        sync(box, state, people(10)).ok()
    changed = people(10, first_name="Eva")
    run = sync(box, state, changed + people(10), max_rejects=10).ok()
    assert (run.upserted, run.duplicate) == (10, 10)
    assert len(run.upload._validator._seen._valid) == (0 if known else 10)
    assert {shown["first_name"] for shown in box.patients.values()} == {"Eva"}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("is_valid_first", [True, False])
def test_with_a_state_a_lost_plan_is_told_too(box, state, sync, people, known, is_valid_first):
    if known:
        sync(box, state, people(10)).ok()
    no_plan = [{"code": "m-1", "first_name": "Eva"}]
    invalid = people(1, birth_date="2980-01-01")
    first, second = (no_plan, invalid) if is_valid_first else (invalid, no_plan)
    run = sync(box, state, [*first, *second], max_rejects=1, max_unsubscribed=5)
    assert "1 plan lost to another record of the same code" in str(run.error)
    assert run.withheld == known, "a known one keeps it"
