"""What a fault at a certain place does to an upload: who is sent again, and who is in mediQuo."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_mediquo.api.errors import UnreachableError
from airflow_provider_mediquo.api.patients.endpoints import get
from airflow_provider_mediquo.api.report import UploadReport
from airflow_provider_mediquo.api.upload.options import UploadOptions
from airflow_provider_mediquo.api.upload.reject_log import RejectLog
from airflow_provider_mediquo.api.upload.runner import Upload
from airflow_provider_mediquo.sandbox import Sandbox
from tests.support.gateway import Fault, Gateway, Strike
from tests.support.proxy import Spoil

TIMEOUT = 3.0
"""Seconds for an answer: plenty on a busy machine, for each retry is counted here."""

FIRST, SECOND = ["m-1", "m-2"], ["m-3"]
SPOILT = ["reset", "close", "swallow", "repeat", "corrupt"]
every_way = pytest.mark.parametrize("how", SPOILT)


@dataclass
class SourceLocation:
    """A sandbox behind its gateway, and uploads of two requests, one after the other."""

    box: Sandbox
    gateway: Gateway
    connect: Callable[..., Any]

    def upload(self) -> UploadReport:
        client = self.connect(self.box, self.gateway, timeout=TIMEOUT)
        options = UploadOptions(chunk_size=2, max_in_flight=1)
        try:
            return Upload(client, options, RejectLog()).run(self.people())
        finally:
            self.gateway.rest()
            client.close()

    def people(self) -> list[dict[str, Any]]:
        return [{"code": c, "first_name": "Ada", "plan": "premium"} for c in FIRST + SECOND]

    def expect(self, report: UploadReport, *, retries: int, accepted: Counter[str]) -> None:
        assert (report.upserted, report.unsettled, report.rejected) == (3, 0, 0)
        assert (report.retries, report.requests) == (retries, 2 + retries)
        assert self.box.accepted == accepted
        assert {(p["code"], p["plan"]) for p in self.box.patients.values()} == {
            (person["code"], person["plan"]) for person in self.people()
        }

    def length_of_an_answer(self) -> int:
        """In bytes of TLS."""
        passed = []

        def note() -> None:
            passed.append(self.gateway.seen[-1].link.to_client.passed)

        self.gateway.plan(strike=Strike(2, "before", note))
        self.upload()
        note()
        self.gateway.take_journal()
        return passed[1] - passed[0]


@pytest.fixture
def here(place, connect):
    with place() as (box, gateway):
        gateway.patience = 1.5 * TIMEOUT
        yield SourceLocation(box, gateway, connect)


@pytest.mark.no_cover
@every_way
@pytest.mark.parametrize(
    ("where", "offset"),
    [("first byte", 0), ("status line", 14), ("headers", 60), ("body", -30), ("last byte", -1)],
)
def test_a_spoiled_answer_is_a_lost_one(here, how, where, offset):
    length = here.length_of_an_answer()
    before = here.box.accepted
    here.gateway.plan([Fault(), Fault(spoil=Spoil(how, "to client", offset % length))])
    report = here.upload()
    here.expect(report, retries=1, accepted=before + Counter(FIRST + SECOND + SECOND))
    assert [spoil.how for spoil in here.gateway.proxy.happened] == [how]


@pytest.mark.no_cover
@every_way
@pytest.mark.parametrize("offset", [0, 40, 200], ids=["first byte", "head", "half"])
def test_a_request_that_is_spoiled_is_sent_again_and_was_not_accepted(here, how, offset):
    here.gateway.plan([Fault(spoil=Spoil(how, "to server", offset))])
    here.expect(here.upload(), retries=1, accepted=Counter(FIRST + SECOND))
    assert [spoil.how for spoil in here.gateway.proxy.happened] == [how]


@pytest.mark.no_cover
@every_way
@pytest.mark.parametrize("lane", ["to client", "to server"])
@pytest.mark.parametrize("offset", [0, 50, 300])
def test_a_handshake_that_is_spoiled_is_begun_again(here, how, lane, offset):
    here.gateway.proxy.plan(Spoil(how, lane, offset))
    here.expect(here.upload(), retries=1, accepted=Counter(FIRST + SECOND))
    assert [spoil.how for spoil in here.gateway.proxy.happened] == [how]


@pytest.mark.parametrize("lane", ["to client", "to server"])
@pytest.mark.parametrize("offset", [0, 30])
def test_a_delay_within_the_time_out_is_none_of_anybodys_business(here, lane, offset):
    here.gateway.plan([Fault(spoil=Spoil("delay", lane, offset)), Fault()])
    here.expect(here.upload(), retries=0, accepted=Counter(FIRST + SECOND))
    assert here.gateway.proxy.happened


@pytest.mark.parametrize(
    ("gateway", "retries"), [("twice", 0), ("late", 1), ("502", 1), ("504", 1), ("short", 1)]
)
def test_a_write_that_was_accepted_twice_counts_once(here, gateway, retries):
    here.gateway.plan([Fault(), Fault(gateway=gateway)])
    report = here.upload()
    here.expect(report, retries=retries, accepted=Counter(FIRST + SECOND + SECOND))


def test_a_code_that_looks_like_an_error_is_none(here):
    """`requests` writes the path into its errors, and so a code."""
    client = here.connect(here.box, here.gateway)
    here.gateway.proxy.plan(Spoil("corrupt", "to client", 300))
    exchange = get("CERTIFICATE-1")
    with pytest.raises(UnreachableError):
        client.try_send(exchange)
    client.close()
