"""Where an upsert writes its rejects, whatever its DAG, run and task are called."""

from pathlib import Path

import pytest
from airflow.sdk import DAG

from airflow_provider_mediquo.operators.patients import MediquoUpsertPatientsOperator
from tests.support import airflow_runner

NAMES = ["..", ".", "../../etc", "/etc", "a\\b", "a b", "x" * 250, "\U0001f600" * 250]


@pytest.mark.parametrize(
    ("dag_id", "run_id"),
    [
        *(("clinic", name) for name in NAMES),
        ("..", "."),
        ("..", "../../etc"),
        ("x" * 250, ".."),
        ("x" * 250, NAMES[-1]),
    ],
    ids=range(len(NAMES) + 4),
)
def test_the_file_is_always_below_the_folder(box, run_task, tmp_path, monkeypatch, dag_id, run_id):
    monkeypatch.setattr(airflow_runner, "RUN_ID", run_id)
    folder = tmp_path / "rejects"
    with DAG(dag_id, schedule=None):
        task = MediquoUpsertPatientsOperator(
            task_id="t" * 250, patients=[{"code": "m-1"}], max_rejects=1, rejects_path=str(folder)
        )
    path = Path(run_task(task).result["rejects_path"])
    assert path.resolve().parents[2] == folder.resolve()
    assert path.read_text().count("\n") == 1
    assert [*tmp_path.iterdir()] == [folder]
