"""The link from an upsert's task instance to its run on the page."""

from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_provider_mediquo.decorators.mediquo_upsert import MediquoUpsertDecoratedOperator
from airflow_provider_mediquo.operators.link import MediquoRunLink
from airflow_provider_mediquo.operators.patients import (
    MediquoGetPatientOperator,
    MediquoUpsertPatientsOperator,
)


@pytest.mark.parametrize("count", [1, 0], ids=["succeeds", "fails"])
def test_an_upsert_pushes_it_whether_it_succeeds_or_fails(box, dag, people, run_task, count):
    records = people(1) if count else [{"code": "m-1"}]
    run = run_task(MediquoUpsertPatientsOperator(task_id="upsert", patients=records))
    (link,) = [text for method, path, text in run.sent if path.endswith("/_link_MediquoRunLink")]
    address = urlsplit(link.strip('"'))
    assert (address.netloc, address.path) == ("", "mediquo/")
    query = parse_qs(address.query)
    assert query["task"] == ["upsert"]
    assert {"dag", "run"} <= set(query)
    assert run.state == ("success" if count else "failed")


@pytest.mark.parametrize("index", [0, 3])
def test_it_names_the_shard_of_a_mapped_task(index):
    class Key:
        dag_id, task_id, run_id, map_index = "a&b", "upsert", "manual__1+00:00", index

    address = MediquoRunLink().get_link(None, ti_key=Key)
    assert parse_qs(urlsplit(address).query) == {
        "dag": ["a&b"],
        "task": ["upsert"],
        "run": ["manual__1+00:00"],
        "map": [str(index)],
    }


def test_only_what_has_a_ledger_has_the_link():
    assert [link.name for link in MediquoUpsertDecoratedOperator.operator_extra_links] == [
        "mediQuo run"
    ]
    assert list(MediquoGetPatientOperator.operator_extra_links) == []
