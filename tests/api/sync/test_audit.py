"""The audit: what was changed behind our back is found, and goes out with the next run."""

import logging

import pytest
import requests
from sqlalchemy import create_engine

from airflow_provider_mediquo.api.errors import ConnectionSettingsError, UnreachableError
from airflow_provider_mediquo.api.sync.audit import AuditReport, audit, choose, upper_bound
from airflow_provider_mediquo.api.sync.run import SyncRun
from airflow_provider_mediquo.api.sync.settings import SyncSettings
from airflow_provider_mediquo.api.sync.store import Store
from airflow_provider_mediquo.api.upload.options import UploadOptions
from airflow_provider_mediquo.api.upload.reject_log import RejectLog
from airflow_provider_mediquo.api.upload.runner import Upload
from airflow_provider_mediquo.sandbox import Sandbox

# scipy 1.17.1: beta.ppf(0.95, wrong + 1, checked - wrong)
BOUNDS = {
    (0, 1): 0.95,
    (0, 300): 0.009936081944457708,
    (0, 3000): 0.0009980790119965865,
    (1, 1): 1.0,
    (1, 2): 0.9746794344808963,
    (1, 300): 0.01571455489158395,
    (3, 300): 0.025641393082609616,
    (12, 3000): 0.006472816727760375,
    (150, 300): 0.5489912452912065,
    (299, 300): 0.9998290369678865,
    (500, 10000): 0.05373317819066032,
    (5000, 10000): 0.5082734955962607,
}


@pytest.fixture
def state(tmp_path):
    return Store(create_engine(f"sqlite:///{tmp_path / 'state.db'}"))


def put(box, *patients):
    """Change patients behind our back."""
    sent = {"patients": patients}
    requests.put(
        f"{box.url}/patients", json=sent, headers=box.headers, timeout=10
    ).raise_for_status()


@pytest.fixture
def sync(state, client):
    """Run a sync of some patients."""

    def sync(patients):
        options = UploadOptions(state_conn_id="state", max_without_plan=None)
        settings = SyncSettings(name="members", secret_key=client.settings.secret_key)
        return Upload(client, options, RejectLog(), sync=SyncRun(state, settings)).run(patients)

    return sync


@pytest.mark.parametrize(
    ("counts", "bound"),
    [
        pytest.param(counts, bound, marks=[pytest.mark.no_cover] if counts[1] > 3000 else [])
        for counts, bound in BOUNDS.items()
    ],
)
def test_the_bound_is_that_of_clopper_and_pearson(counts, bound):
    assert upper_bound(*counts) == pytest.approx(bound, rel=1e-9)


def test_nothing_is_known_where_there_is_no_state(state, client, box):
    assert audit(state, client, 300) == AuditReport(0, 0, 0, 0, at_most=1.0)
    assert len(box.journal) == 0


def test_members_that_are_as_they_were_sent(state, client, sync, people):
    sync([*people(15), {"code": "gone", "first_name": "Ada"}])
    report = audit(state, client, 300)
    assert report == AuditReport(
        known=16, checked=16, differ=0, not_found=0, at_most=upper_bound(0, 16)
    )
    assert report.confidence == 0.95
    assert report.as_dict()["at_most"] == report.at_most


def test_what_was_changed_behind_our_back_is_found_and_sent_again(state, client, box, sync, people):
    sync(people(15, email="ada@example.com"))
    box.reset()
    put(box, *[each for each in people(15, email="ada@example.com") if each["code"] != "m-9"])
    put(box, {"code": "m-3", "first_name": "Eva", "plan": "premium"})
    put(box, {"code": "m-4", "first_name": "Eva", "email": "eva@example.com", "plan": "premium"})
    report = audit(state, client, 300)
    assert (report.differ, report.not_found, report.wrong) == (2, 1, 3)
    assert report.fields == {"first_name": 2, "email": 1}
    assert sorted(report.codes) == ["m-3", "m-4", "m-9"]
    assert report.at_most == upper_bound(3, 15)

    ledger = sync(people(15, email="ada@example.com"))
    assert (ledger.resent, ledger.unchanged, ledger.upserted) == (3, 12, 3)
    assert audit(state, client, 300).wrong == 0


def test_a_sample_is_random_and_of_the_size_that_was_asked_for(state, client, box, sync, people):
    sync(people(200))
    for _ in range(2):
        report = audit(state, client, 10)
        assert (report.known, report.checked) == (200, 10)
    assert box.counters.total == 2 + 20
    samples = [code for _ in range(5) for code in choose(state, 10)[1]]
    assert len({*samples}) > 20  # 5 times the same 10 would be 10


@pytest.mark.no_cover
def test_each_member_has_the_same_chance_to_be_in_a_sample(state, sync, people):
    """The bound is only true then."""
    members = people(200)
    sync(members)
    first_half = {*sorted(member["code"] for member in members)[:100]}  # as they are read
    samples = [code for _ in range(60) for code in choose(state, 10)[1]]
    assert 200 < sum(code in first_half for code in samples) < 400  # 300, with a deviation of 12


def test_codes_with_a_slash_take_no_place_in_the_sample(state, sync, people):
    sync([{"code": f"a/{number}", "first_name": "Ada"} for number in range(30)] + people(3))
    known, chosen = choose(state, 2)
    assert (known, len(chosen)) == (33, 2)
    assert {*chosen} < {"m-1", "m-2", "m-3"}


def test_twenty_codes_are_shown(state, client, box, sync, people):
    sync(people(30))
    box.reset()
    report = audit(state, client, 300)
    assert (report.not_found, len(report.codes), report.at_most) == (30, 20, 1.0)


def test_codes_with_a_slash_are_read_only_if_there_are_no_others(state, client, sync, people, box):
    sync([{"code": "a/1", "first_name": "Ada"}])
    assert audit(state, client, 300).checked == 1
    sync(people(2))
    report = audit(state, client, 300)
    assert (report.known, report.checked) == (3, 2)


def test_a_member_in_doubt_is_not_audited(state, client, sync, people, box):
    sync(people(3))
    box.reset()
    put(box, *people(2, start=2))
    audit(state, client, 300)
    report = audit(state, client, 300)
    assert (report.known, report.wrong) == (2, 0)


def test_another_secret_key_is_an_error(state, connect, sync, people):
    sync(people(3))
    with Sandbox(secret_key="another-secret-key", latency=0, lag=0) as other:
        put(other, *people(3))
        client = connect(other, secret_key="another-secret-key")
        with pytest.raises(ConnectionSettingsError, match="secret key has changed"):
            audit(state, client, 300)


def test_a_mediquo_that_does_not_answer_is_an_error_and_nothing_is_in_doubt(
    state, client, box, sync, people
):
    sync(people(3))
    box.stop()
    with pytest.raises(UnreachableError):
        audit(state, client, 300)
    assert [len(page) for page in state.certain_codes()] == [3]


def test_no_value_is_in_the_report_or_the_log(state, client, box, sync, people, caplog):
    caplog.set_level(logging.DEBUG)
    sync(people(3, email="canaryinamine-of-the-audit@example.com"))
    put(box, {"code": "m-1", "first_name": "CanaryinamineOfTheAudit", "plan": "premium"})
    report = audit(state, client, 300)
    assert report.fields == {"first_name": 1}
    text = caplog.text + str(report) + str(report.as_dict())
    assert "anaryinamine" not in text


def test_the_text_says_what_was_found():
    report = AuditReport(2000, 300, 2, 1, {"email": 2}, ["a"], at_most=0.0256)
    assert str(report) == (
        "Wrong: 3 of 300 members.\nDiffer: 2 (email 2). Not found: 1. With 95% confidence at most "
        "2.56% of all 2,000 are wrong."
    )
