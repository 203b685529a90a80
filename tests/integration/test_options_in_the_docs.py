"""The examples of single options on the page on operators, run as they stand there."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mediquo.hooks.mediquo import MediquoHook
from airflow_provider_mediquo.operators.patients import MediquoUpsertPatientsOperator
from airflow_provider_mediquo.transfers.file_to_mediquo import FileToMediquoOperator

pytestmark = pytest.mark.usefixtures("dag")

PAGE = (Path(__file__).parents[2] / "docs" / "operators.md").read_text(encoding="utf-8")


@pytest.fixture
def run_example(run_task, tmp_path, monkeypatch):
    """Run the example below a heading on a file; further options are those of the test."""
    monkeypatch.chdir(tmp_path)

    def run(heading, content, **options):
        (tmp_path / "members.csv").write_text(content, encoding="utf-8")
        (code,) = re.findall(
            rf"^### {heading}$.*?^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
        )
        made = []

        def operator(kind):
            return lambda **given: made.append(kind(**given | options))

        names: dict[str, Any] = {
            "FileToMediquoOperator": operator(FileToMediquoOperator),
            "MediquoUpsertPatientsOperator": operator(MediquoUpsertPatientsOperator),
            "read_members": lambda: [{"code": "M-000017", "first_name": "Ada"}],
        }
        exec(code, names)
        return run_task(made[0])

    return run


def counts(run, *names):
    return {name: run.ledger[name] for name in names}


def test_transform(box, run_example):
    content = (
        "id,name,product,status\n1,ADA,premium,active\n2,ALAN,basic,cancelled\n3,,basic,active\n"
    )
    run = run_example("Transform", content, max_rejects=1)
    assert run.state == "success", run.error
    assert {code: box.patients[code]["first_name"] for code in box.patients} == {"1": "Ada"}
    parts = counts(run, "read", "upserted", "skipped", "rejected")
    assert parts == {"read": 3, "upserted": 1, "skipped": 1, "rejected": 1}


def test_omit_invalid(box, run_example, tmp_path):
    before = {"code": "M-2", "first_name": "Ada", "plan": "premium", "email": "ada@example.com"}
    MediquoHook().upsert_patients([before])
    content = (
        "code,first_name,plan,email\nM-1,Alan,basic,alan@example.com\nM-2,Augusta,premium,ada\n"
    )
    run = run_example("Omit invalid", content, rejects_path=str(tmp_path))
    assert run.state == "success", run.error
    changed = box.patients["M-2"]
    assert (changed["first_name"], changed["email"]) == ("Augusta", "ada@example.com")
    assert counts(run, "upserted", "omitted", "rejected") == {
        "upserted": 2,
        "omitted": 1,
        "rejected": 0,
    }
    line = Path(run.ledger["rejects_path"]).read_text().replace(str(tmp_path), "/data")
    assert f"\n{line}```" in PAGE


def test_phone_region(box, run_example):
    table = re.findall(r"^\| ([0-9(+][^|]*[0-9]) \| ([^|]+) \|$", PAGE, re.MULTILINE)
    assert len(table) == 4
    rows = [f"M-{number},Ada,premium,{phone}\n" for number, (phone, _) in enumerate(table)]
    content = "code,first_name,plan,phone\n" + "".join(rows)
    run = run_example("Phone region", content, max_rejects=1)
    assert run.state == "success", run.error
    told = {f"M-{number}": sent for number, (_, sent) in enumerate(table)}
    assert told.pop("M-3") == "rejected, with the rule `prefix`"
    (line,) = [json.loads(line) for line in run.log.splitlines() if "Rejected: " in line]
    assert '"problems": {"phone": "prefix"}' in line["event"]
    assert {code: box.patients[code]["phone"] for code in box.patients} == told


@pytest.mark.parametrize(("count", "state"), [(999, "up_for_retry"), (1000, "success")])
def test_min_records(box, run_example, count, state):
    rows = "".join(f"M-{number},Ada,premium\n" for number in range(count))
    run = run_example("Min records", f"code,first_name,plan\n{rows}")
    assert run.state == state
    is_sent = state == "success"
    assert counts(run, "upserted", "unsettled") == {
        "upserted": count * is_sent,
        "unsettled": count * (not is_sent),
    }
    assert len(box.patients) == count * is_sent


def test_the_list_of_the_unsubscribed(box, run_example, tmp_path):
    run = run_example("The list of the unsubscribed", "", rejects_path=str(tmp_path))
    assert run.state == "success", run.error
    line = Path(run.ledger["unsubscribed_path"]).read_text().strip()
    assert json.loads(line) == {"row": 1, "code": "M-000017", "reason": "no plan"}


def test_warn_rejects(box, run_example, tmp_path, capsys):
    records = [
        {"code": f"M-{number}", "first_name": "Ada" * (number > 2), "plan": "a"}
        for number in range(100)
    ]
    options = {"patients": records, "rejects_path": str(tmp_path)}
    run = run_example("Warn rejects", "", **options)
    assert run.state == "success", run.error
    assert f"{run.task.dag_id}: 3 of 100 records were rejected" in run.log + capsys.readouterr().out
