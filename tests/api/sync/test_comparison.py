from collections import Counter
from datetime import timedelta

import pytest

from airflow_provider_mediquo.api.patients.endpoints import encode_patient
from airflow_provider_mediquo.api.patients.schema import check_patient
from airflow_provider_mediquo.api.sync.comparison import Comparison, ResendPolicy
from airflow_provider_mediquo.api.sync.fingerprints import Fingerprints
from airflow_provider_mediquo.api.sync.members import (
    ACKNOWLEDGED,
    DOUBT,
    OWN,
    PLAN,
    PRESENT,
    SEEN,
    Members,
)

DAY = 86_400
NOW = 20_000 * DAY + 3 * 3600
KEY = "a secret key"
ADA = {"code": "7", "first_name": "Ada", "plan": "premium"}


# --- when an unchanged member is sent again -------------------------------------------------------


@pytest.mark.no_cover
@pytest.mark.parametrize("hour", [0, 12, 23])
@pytest.mark.parametrize("days", [2, 3, 7, 30])
def test_each_member_is_sent_once_in_a_period_and_about_as_many_on_each_day(days, hour):
    sent_at = {f * 7919 - 2**40: 0 for f in range(3000)}  # fingerprints, also negative ones
    on_day: Counter[int] = Counter()
    first = 20_000 * DAY + hour * 3600
    sent_at = dict.fromkeys(sent_at, first)  # all in the first run
    of_member: Counter[int] = Counter()
    for day in range(1, 4 * days + 1):
        now = first + day * DAY
        policy = ResendPolicy(timedelta(days=days), now=now)
        for fingerprint, sent in sent_at.items():
            assert now - sent <= days * DAY, "older than the period"
            if policy.is_due(sent, fingerprint):
                sent_at[fingerprint] = now
                of_member[fingerprint] += 1
                on_day[day] += 1
    assert set(of_member.values()) == {4}, "once per period"
    assert max(on_day.values()) < 1.5 * 3000 / days
    assert min(on_day[day] for day in range(1, 4 * days + 1)) > 0.5 * 3000 / days


def test_who_runs_rarely_gets_all_that_was_due_meanwhile():
    policy = ResendPolicy(timedelta(days=30), now=NOW)
    due = [policy.is_due(NOW - 10 * DAY, fingerprint) for fingerprint in range(3000)]
    assert sum(due) == 1000
    assert all(policy.is_due(NOW - 30 * DAY, fingerprint) for fingerprint in range(3000))
    assert not any(policy.is_due(NOW - 3600, fingerprint) for fingerprint in range(3000))


@pytest.mark.parametrize("hours", [1, 24, 47])
def test_a_period_below_two_days_is_not_spread(hours):
    policy = ResendPolicy(timedelta(hours=hours), now=NOW)
    assert not any(policy.is_due(NOW - hours * 3600 + 1, n) for n in range(100))
    assert all(policy.is_due(NOW - hours * 3600, n) for n in range(100))


def test_no_period_sends_everything_also_what_was_sent_in_this_second_or_by_a_clock_ahead():
    policy = ResendPolicy(timedelta(0), now=NOW)
    assert policy.is_due(NOW, 1)
    assert policy.is_due(NOW + 5, 1)


def test_what_a_clock_sent_that_was_days_ahead_is_sent_again():
    policy = ResendPolicy(timedelta(days=30), now=NOW)
    assert all(policy.is_due(NOW + 2 * DAY, n) for n in range(100))
    assert not any(policy.is_due(NOW + 3600, n) for n in range(100))


# --- what has changed -----------------------------------------------------------------------------


def make(*known, resend=timedelta(days=30), reading=None, key=KEY):
    """A comparison with members that were sent: pairs of record and flags."""
    members, fingerprints = Members(8), Fingerprints(KEY, None)
    for record, flags in known:
        patient, _ = check_patient(record)
        of_patient = fingerprints.of_patient(patient, encode_patient(patient))
        source = fingerprints.of_source(record) or 0
        members.add([(patient["code"], of_patient, source, NOW, flags)])
    return Comparison(members, Fingerprints(key, reading), ResendPolicy(resend, now=NOW))


def kind_of(comparison, record):
    patient, _ = check_patient(record)
    return comparison.compare(record, patient, encode_patient(patient)).kind


KNOWN = OWN | PLAN | ACKNOWLEDGED


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        (KNOWN, "unchanged"),
        (ACKNOWLEDGED, "resent"),  # of another sync
        (KNOWN | DOUBT, "resent"),
        (OWN | DOUBT, "resent"),
        (OWN, "changed"),  # never acknowledged
    ],
)
def test_only_what_is_acknowledged_and_in_no_doubt_is_unchanged(flags, kind):
    comparison = make((ADA, flags))
    assert comparison.is_unchanged(ADA, "code") is (kind == "unchanged")
    assert kind_of(make((ADA, flags)), ADA) == kind
    assert kind_of(make((ADA, flags)), ADA | {"code": "8"}) == "new"


def test_what_looks_otherwise_is_compared_as_it_is_sent():
    comparison = make((ADA, KNOWN))
    for spelling in (
        {**ADA, "code": 7},
        {**ADA, "first_name": "Ada "},
        dict(reversed(ADA.items())),
    ):
        assert not comparison.is_unchanged(spelling, "code")
        assert kind_of(comparison, spelling) == "unchanged"
    assert [code for code, _, _ in comparison.respelled] == ["7"] * 3
    assert not comparison.is_unchanged(ADA | {"first_name": "Eva"}, "code")
    assert kind_of(comparison, ADA | {"first_name": "Eva"}) == "changed"


def test_another_key_or_reading_never_skips():
    assert not make((ADA, KNOWN), key="another").is_unchanged(ADA, "code")
    assert kind_of(make((ADA, KNOWN), key="another"), ADA) == "changed"
    assert not make((ADA, KNOWN), reading=("other",)).is_unchanged(ADA, "code")
    assert kind_of(make((ADA, KNOWN), reading=("other",)), ADA) == "unchanged"


def test_what_is_due_is_sent_again_however_it_is_compared():
    comparison = make((ADA, KNOWN), resend=timedelta(0))
    assert not comparison.is_unchanged(ADA, "code")
    assert kind_of(comparison, ADA) == "resent"


def test_a_second_record_is_never_skipped():
    comparison = make((ADA, KNOWN))
    assert comparison.seen("7") is None
    assert comparison.is_unchanged(ADA, "code")
    assert comparison.seen("7") is True
    assert not comparison.is_unchanged(ADA, "code")
    rejected = make((ADA, KNOWN))
    rejected.see_rejected("7")
    assert not rejected.is_unchanged(ADA, "code"), "it may have lost the plan of that one"


def test_a_code_that_is_no_text_is_not_skipped_for_that_of_another():
    comparison = make(({**ADA, "code": 1}, KNOWN))
    assert comparison.is_unchanged({**ADA, "code": 1}, "code")
    for code in (True, 1.0, "1", None, "1 "):
        fresh = make(({**ADA, "code": 1}, KNOWN))
        assert not fresh.is_unchanged({**ADA, "code": code}, "code")


def test_the_code_is_in_the_column_that_becomes_it():
    record = {"member": "7", "first_name": "Ada", "plan": "premium"}
    members, fingerprints = Members(1), Fingerprints(KEY, None)
    members.add([("7", 1, fingerprints.of_source(record), NOW, KNOWN)])
    comparison = Comparison(members, fingerprints, ResendPolicy(timedelta(days=30), now=NOW))
    assert not comparison.is_unchanged(record, "code")
    assert comparison.is_unchanged(record, "member")


def test_a_change_says_what_is_known():
    patient, _ = check_patient(ADA)
    arguments = ADA, patient, encode_patient(patient)
    change = make((ADA, OWN | ACKNOWLEDGED)).compare(*arguments)
    assert (change.was_known, change.had_plan, change.was_in_doubt) == (True, False, False)
    change = make((ADA, KNOWN | DOUBT)).compare(*arguments)
    assert (change.was_known, change.had_plan, change.was_in_doubt) == (True, True, True)
    change = make().compare(*arguments)
    assert (change.was_known, change.had_plan, change.was_in_doubt) == (False, False, False)
    assert make().compare(*arguments, can_skip=False).source is None


@pytest.mark.parametrize("fields", [{}, {"first_name": "Eva"}])
def test_a_member_of_another_sync_is_sent_and_moves(fields):
    comparison, record = make((ADA, ACKNOWLEDGED | PLAN)), ADA | fields
    assert not comparison.is_unchanged(record, "code")
    patient, _ = check_patient(record)
    change = comparison.compare(record, patient, encode_patient(patient))
    assert change.kind == ("changed" if fields else "resent")
    assert change.was_foreign


def test_missing_is_who_is_known_and_was_not_there():
    comparison = make(*(({**ADA, "code": code}, KNOWN) for code in "abcd"))
    assert comparison.is_unchanged({**ADA, "code": "a"}, "code")
    assert comparison.see("b", has_plan=True)
    assert not comparison.see("new", has_plan=True)
    comparison.see_rejected("c")
    assert [code for code in ["a", "b", "c", "d", "new"] if comparison.is_missing(code)] == ["d"]
    assert comparison.members.count(OWN, PRESENT) == 1
    assert comparison.members.count(SEEN) == 2
    assert comparison.unreadable == 0
    comparison.see_rejected(None)
    comparison.see_rejected(None)
    assert comparison.unreadable == 2
