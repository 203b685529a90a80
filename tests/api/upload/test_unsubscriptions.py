import pytest

from airflow_provider_mediquo.api.errors import InvalidPatientsError, UnsubscribeLimitError
from airflow_provider_mediquo.api.records import EmptyPart, Unreadable
from airflow_provider_mediquo.api.upload import unsubscriptions
from tests.support.states import heal


def without_plan(records):
    return [{k: v for k, v in record.items() if k != "plan"} for record in records]


def test_what_takes_a_plan_comes_last(box, state, sync, people):
    """It waits until the source is read to its end."""
    sync(box, state, people(30)).ok()
    before = len(box.journal)
    records = without_plan(people(2)) + people(28, start=3, first_name="Eva")
    sync(box, state, records, max_unsubscribed=2, chunk_size=7, max_in_flight=1).ok()
    sent = [entry.patients for entry in box.journal[before:]]
    assert sent == [7, 7, 7, 7, 2]
    assert [code for code, shown in box.patients.items() if not shown["plan"]] == ["m-1", "m-2"]


@pytest.mark.parametrize("limit", [1, None])
def test_a_code_that_comes_again_with_a_plan_keeps_it(box, state, sync, people, limit):
    sync(box, state, people(3)).ok()
    records = [*without_plan(people(1)), *people(3)]
    run = sync(box, state, records, max_unsubscribed=limit, max_rejects=1)
    assert isinstance(run.error, InvalidPatientsError)
    assert (run.withheld, run.duplicate, run.unsubscribed) == (1, 1, 0)
    assert all(shown["plan"] for shown in box.patients.values())


def test_without_a_limit_only_the_first_are_kept(
    box, state, sync, prepare_sync, people, monkeypatch
):
    monkeypatch.setattr(unsubscriptions, "_MAX_KEPT", 3)
    sync(box, state, people(30)).ok()
    seen = []

    def source():
        yield from without_plan(people(10))
        seen.append(len(run.upload._unsubscriptions._kept))
        yield from people(20, start=11)

    run = prepare_sync(box, state, source(), max_unsubscribed=None)
    run.go()
    assert seen == [3]
    assert (run.ok().unsubscribed, run.unchanged) == (10, 20)


@pytest.mark.no_cover
def test_beyond_the_limit_they_are_counted_and_not_kept(box, state, prepare_sync, sync, people):
    sync(box, state, people(700)).ok()
    seen: list[tuple[int, int, int]] = []

    def source():
        yield from people(200, start=501)
        for number, record in enumerate(without_plan(people(500)), 1):
            yield record
            if number in (51, 500):
                held, unsettled = run.upload._unsubscriptions, run.upload._ledger._unsettled
                seen.append((number, len(held._kept), len(unsettled)))

    run = prepare_sync(box, state, source(), max_unsubscribed=50)
    run.go()
    assert [kept for _, kept, _ in seen] == [0, 0]
    assert all(unsettled <= 1 for *_, unsettled in seen)
    assert isinstance(run.error, UnsubscribeLimitError)
    assert (run.withheld, run.unchanged) == (500, 200)
    assert "max_unsubscribed=500." in str(run.error)
    assert len(run.codes("withheld")) == 500


def test_up_to_the_limit_they_are_kept(box, state, sync, people):
    sync(box, state, people(60)).ok()
    seen = []

    def source():
        yield from without_plan(people(50))
        seen.append(box.counters.accepted)
        yield from people(10, start=51)

    run = sync(box, state, source(), max_unsubscribed=50, chunk_size=10).ok()
    assert seen == [60], "nobody was sent again before the end"
    assert (run.changed, run.unsubscribed, run.without_plan) == (50, 50, 50)


@pytest.mark.parametrize("limit", [1, 0])
def test_a_contradicted_record_is_no_part_of_the_count(box, state, sync, people, limit):
    sync(box, state, people(3)).ok()
    records = [*without_plan(people(1)), *people(1), *people(2, start=2)]
    run = sync(box, state, records, max_unsubscribed=limit, max_rejects=1)
    assert isinstance(run.error, InvalidPatientsError)
    assert (run.withheld, run.unsubscribed) == (1, 0)
    assert all(shown["plan"] for shown in box.patients.values())


def test_nor_of_that_of_those_who_left(box, state, sync, people):
    sync(box, state, people(4)).ok()
    records = [*without_plan(people(1)), *people(1), *people(2, start=2)]
    run = sync(box, state, records, max_unsubscribed=1, max_rejects=1, on_missing="unsubscribe")
    assert isinstance(run.error, InvalidPatientsError)
    assert (run.withheld, run.missing, run.missing_withheld) == (1, 1, 0)
    assert run.would_unsubscribe == 1


def test_beyond_the_limit_a_contradiction_is_what_the_run_fails_for(box, state, sync, people):
    """Its count of those who would lose a plan would be too high."""
    sync(box, state, people(6)).ok()
    records = [*without_plan(people(4)), *people(3), *people(2, start=5)]
    options = {"max_unsubscribed": 1, "max_rejects": 3}
    for dry_run in (True, False):
        run = sync(box, state, records, dry_run=dry_run, **options)
        assert isinstance(run.error, InvalidPatientsError)
        assert "max_unsubscribed" not in str(run.error)
        assert (run.withheld, run.duplicate, run.unchanged) == (4, 3, 2)
    assert run.codes("withheld") == {"m-1", "m-2", "m-3", "m-4"}
    assert all(shown["plan"] for shown in box.patients.values())
    run = sync(
        box, state, [*people(3), *without_plan(people(1, start=4)), *people(2, start=5)], **options
    )
    assert run.ok().unsubscribed == 1, "without the contradiction it is within the limit"


def test_a_member_whose_plan_is_in_doubt_is_guarded(box, state, sync, people):
    """It may have one: taking it away counts."""
    box.script("upsert", *["lost_after"] * 50)
    sync(box, state, people(2))
    heal(box)
    run = sync(box, state, without_plan(people(2)), max_unsubscribed=1)
    assert isinstance(run.error, UnsubscribeLimitError)
    assert run.withheld == 2


def test_the_share_is_of_those_who_have_a_plan(box, state, sync, people):
    sync(box, state, people(100) + without_plan(people(100, start=101))).ok()
    records = without_plan(people(2)) + people(98, start=3) + without_plan(people(100, start=101))
    run = sync(box, state, records, max_unsubscribed=0.01)
    assert isinstance(run.error, UnsubscribeLimitError)
    assert "(0.01 of 100 = 1)" in str(run.error)


def test_a_share_is_rounded_up(box, state, sync, people):
    sync(box, state, people(150)).ok()
    records = without_plan(people(2)) + people(148, start=3)
    assert sync(box, state, records, max_unsubscribed=0.01).ok().unsubscribed == 2


def test_those_who_have_lost_it_already_do_not_count_in_the_next_run(box, state, sync, people):
    sync(box, state, people(10)).ok()
    for lost in range(1, 6):
        records = without_plan(people(lost)) + people(10 - lost, start=lost + 1)
        run = sync(box, state, records, max_unsubscribed=1).ok()
        assert (run.unsubscribed, run.changed) == (1, 1)


def test_rejects_and_withheld_records_are_told_together(box, state, sync, people):
    sync(box, state, people(10)).ok()
    records = without_plan(people(2)) + [{"code": "m-3"}] + people(7, start=4)
    run = sync(box, state, records, max_unsubscribed=0)
    assert isinstance(run.error, UnsubscribeLimitError)
    assert "1 rejected" in str(run.error)
    assert (run.withheld, run.rejected) == (2, 1)


def test_a_run_that_stops_early_unsubscribes_nobody(box, state, sync, people):
    sync(box, state, people(10)).ok()
    box.script("upsert", *["401"] * 5)
    records = people(8, first_name="Eva")
    run = sync(box, state, records, on_missing="unsubscribe", max_unsubscribed=None)
    assert run.error
    assert run.unsubscribed == 0
    assert all(shown["plan"] for shown in box.patients.values())


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(("new", "is_told"), [(30, True), (15, True), (14, False)])
def test_where_about_as_many_are_new_their_codes_may_have_changed(
    box, state, sync, people, new, is_told, dry_run, caplog
):
    caplog.set_level("INFO")
    sync(box, state, people(30)).ok()
    records = people(new, start=101)
    run = sync(box, state, records, on_missing="unsubscribe", dry_run=dry_run)
    told = caplog.text if dry_run else str(run.error)
    assert "30 members would lose their plan" in told
    assert (f"The source has {new} new codes: if codes have another format now" in told) is is_told


def test_nobody_is_asked_about_codes_where_records_have_no_plan(box, state, sync, people):
    sync(box, state, people(3)).ok()
    records = [*without_plan(people(3)), *people(3, start=101)]
    run = sync(box, state, records, max_unsubscribed=0, max_without_plan=None)
    assert isinstance(run.error, UnsubscribeLimitError)
    assert "another format" not in str(run.error)


MIRROR = {"on_missing": "unsubscribe", "max_unsubscribed": None}


@pytest.mark.parametrize("dry_run", [False, True])
def test_where_a_part_of_the_source_is_empty_nobody_is_missing(
    box, state, sync, people, caplog, dry_run
):
    sync(box, state, people(5)).ok()
    records = [EmptyPart("b.csv"), *people(3), EmptyPart("d.csv")]
    caplog.clear()
    run = sync(box, state, records, dry_run=dry_run, **MIRROR).ok()
    assert run.counts == {"read": 3, "unchanged": 3, "missing": 2, "missing_withheld": 2}
    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert warnings == [
        "2 members missing from the source. Nobody is unsubscribed for being missing, because of 2 files "
        "without a record, whose export may have failed: b.csv, d.csv. Export again, or leave such "
        "files out with a glob in `path`, so that members who left are unsubscribed."
    ]
    assert all(shown["plan"] for shown in box.patients.values())
    run = sync(box, state, people(3), **MIRROR).ok()
    assert run.missing_unsubscribed == 2, "the state still has them"


def test_who_has_no_plan_in_the_source_loses_it_all_the_same(box, state, sync, people):
    sync(box, state, people(3)).ok()
    records = [EmptyPart("b.csv"), *without_plan(people(1)), *people(1, start=2)]
    run = sync(box, state, records, **MIRROR).ok()
    assert (run.unsubscribed, run.missing, run.missing_withheld) == (1, 1, 1)
    assert [code for code, shown in box.patients.items() if not shown["plan"]] == ["m-1"]


def test_what_is_empty_and_what_cannot_be_read_are_both_told(box, state, sync, people, caplog):
    sync(box, state, people(3)).ok()
    records = [*people(2), EmptyPart("b.csv"), Unreadable("cells")]
    run = sync(box, state, records, max_rejects=1, **MIRROR).ok()
    assert (run.missing, run.missing_withheld) == (1, 1)
    for cause in ("1 record without a readable code", "1 file without a record"):
        assert f"Nobody is unsubscribed for being missing, because of {cause}" in caplog.text


@pytest.mark.parametrize("given", [1, 3])
def test_an_empty_part_says_nothing_where_nobody_would_lose_a_plan_for_it(
    box, state, sync, people, caplog, given
):
    """The members are there, or are not to be unsubscribed."""
    sync(box, state, people(3)).ok()
    options = MIRROR if given == 3 else {}
    run = sync(box, state, [EmptyPart("b.csv"), *people(given)], **options).ok()
    assert run.counts == {"read": given, "unchanged": given}
    assert "without a record" not in caplog.text


def test_a_source_of_empty_parts_has_no_records(box, state, sync, people, caplog):
    sync(box, state, people(3)).ok()
    run = sync(box, state, [EmptyPart("a.csv"), EmptyPart("b.csv")], **MIRROR).ok()
    assert run.counts == {}
    assert "The source has no records." in caplog.text
    assert "without a record" not in caplog.text
