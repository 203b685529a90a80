"""`warn_rejects`: a task that stays green, warns, and calls back."""

import json

import pytest
from airflow.sdk import DAG, BaseNotifier

from airflow_provider_mediquo.hooks.mediquo import MediquoHook
from airflow_provider_mediquo.operators.patients import MediquoUpsertPatientsOperator
from tests.support.airflow_runner import DagSerialization

CALLED: list[object] = []


@pytest.fixture(autouse=True)
def nobody_called():
    CALLED.clear()


def note(context):
    CALLED.append((context["task"].task_id, context["report"].rejected, context["ti"].map_index))


def fail(context):
    CALLED.append("failed")
    raise RuntimeError("the pager is off")


class Notifier(BaseNotifier):
    template_fields = ("text",)

    def __init__(self, text):
        super().__init__()
        self.text = text

    def notify(self, context):
        CALLED.append(self.text)


def records(rejects, people):
    return [*people(3), *[{"code": f"bad-{number}"} for number in range(rejects)]]


def upsert(patients, **options):
    return MediquoUpsertPatientsOperator(
        task_id="upsert", patients=patients, max_rejects=9, on_warn_callback=note, **options
    )


def warnings(run):
    lines = [json.loads(line) for line in run.log.splitlines()]
    return [line["event"] for line in lines if line["level"] == "warning"]


@pytest.mark.usefixtures("dag")
@pytest.mark.parametrize(("limit", "rejects"), [(1, 2), (0, 1), (0.3, 2), ("{{ 1 }}", 2)])
def test_above_it_the_task_succeeds_warns_and_calls_back(
    box, run_task, people, tmp_path, limit, rejects
):
    options = {"warn_rejects": limit, "rejects_path": str(tmp_path)}
    run = run_task(upsert(records(rejects, people), **options))
    assert run.state == "success"
    assert [("upsert", rejects, -1)] == CALLED
    (warning,) = warnings(run)
    assert warning.startswith("More rejects than `warn_rejects` (")
    assert f"). {rejects} rejected: first_name must be present" in warning


@pytest.mark.usefixtures("dag")
@pytest.mark.parametrize(("limit", "rejects"), [(2, 2), (0, 0), (0.5, 2)])
def test_within_it_nobody_is_called(box, run_task, people, tmp_path, limit, rejects):
    options = {"warn_rejects": limit, "rejects_path": str(tmp_path)}
    run = run_task(upsert(records(rejects, people), **options))
    assert run.state == "success"
    assert CALLED == []
    assert warnings(run) == []


@pytest.mark.usefixtures("dag")
@pytest.mark.parametrize("limit", [None, "{{ none }}"])
def test_without_a_limit_any_reject_is_told(box, run_task, people, tmp_path, limit):
    run = run_task(upsert(records(1, people), warn_rejects=limit, rejects_path=str(tmp_path)))
    assert run.state == "success"
    assert CALLED == [("upsert", 1, -1)]
    assert len(warnings(run)) == 1


@pytest.mark.usefixtures("dag")
def test_a_run_that_fails_calls_its_own_callbacks_alone(box, run_task, people):
    run = run_task(upsert(records(10, people), warn_rejects=1))
    assert run.state == "failed"
    assert CALLED == []


@pytest.mark.usefixtures("dag")
def test_an_error_of_a_callback_fails_nothing(box, run_task, people):
    callbacks = [
        fail,
        note,
        Notifier("{{ report.rejected }} of {{ report.read }} in {{ dag.dag_id }}"),
    ]
    operator = MediquoUpsertPatientsOperator(
        task_id="upsert",
        patients=records(1, people),
        max_rejects=1,
        warn_rejects=0,
        on_warn_callback=callbacks,
    )
    run = run_task(operator)
    assert run.state == "success"
    assert run.ledger["rejected"] == run.result["rejected"] == 1
    assert ["failed", ("upsert", 1, -1), f"1 of 4 in {operator.dag_id}"] == CALLED
    assert "`on_warn_callback` failed." in run.log
    assert "the pager is off" in run.log


@pytest.mark.usefixtures("dag")
def test_a_mapped_task_calls_back_too(box, run_task, people):
    partial = MediquoUpsertPatientsOperator.partial(
        task_id="upsert", max_rejects=9, warn_rejects=0, on_warn_callback=[note, Notifier("told")]
    )
    mapped = partial.expand(patients=[records(2, people)])
    assert run_task(mapped, map_index=0).state == "success"
    assert CALLED == [("upsert", 2, 0), "told"]


def test_a_dag_with_callbacks_is_the_same_each_time():
    """An address of an object in it would make a new version of the DAG with each parsing."""

    def stored():
        with DAG("stored", schedule=None, default_args={"on_warn_callback": Notifier("a")}) as dag:
            upsert([], warn_rejects=1)
            partial = MediquoUpsertPatientsOperator.partial(
                task_id="mapped", on_warn_callback=[note, Notifier("told")]
            )
            partial.expand(patients=[[]])
        return DagSerialization.to_dict(dag)

    assert stored() == stored()
    assert " at 0x" not in json.dumps(stored())


def test_through_the_hook_it_is_logged(box, people, caplog):
    report = MediquoHook().upsert_patients(records(2, people), max_rejects=2, warn_rejects=1)
    assert report.rejected == 2
    assert "More rejects than `warn_rejects` (1). 2 rejected: first_name must be" in caplog.text


@pytest.mark.parametrize("limit", [-1, 1.5, True, "half"])
def test_what_is_no_limit_is_an_error(limit):
    with pytest.raises(ValueError, match="`warn_rejects` must be a count"):
        MediquoHook().upsert_patients([], warn_rejects=limit)
