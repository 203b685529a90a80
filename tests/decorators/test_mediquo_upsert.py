"""`@task.mediquo_upsert`, as a DAG's author writes it."""

import json
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from airflow.sdk import ObjectStoragePath, literal, task

pytestmark = pytest.mark.usefixtures("dag")


@task
def source(number=0):
    """What it returns is given by the test."""


def patient(code, **fields):
    return {"code": code, "first_name": "Ada", "plan": "premium"} | fields


# --- what the function gives ----------------------------------------------------------------------


def test_it_upserts_what_the_function_returns(box, run_task):
    @task.mediquo_upsert
    def upsert():
        return [patient("m-1"), patient("m-2")]

    run = run_task(upsert().operator)
    assert run.state == "success"
    assert run.result["upserted"] == 2
    assert set(box.patients) == {"m-1", "m-2"}


def test_what_it_yields_is_sent_while_it_still_reads(box, run_task, eventually):
    seen = []

    @task.mediquo_upsert
    def upsert():
        for number in range(1100):
            yield patient(f"m-{number}")
        seen.append(eventually(lambda: len(box.patients)))
        yield patient("last")

    run = run_task(upsert().operator)
    assert run.result["upserted"] == 1101
    assert 0 < seen[0] < 1101


def test_it_takes_the_options_of_an_upsert(box, run_task, tmp_path):
    @task.mediquo_upsert(
        columns={"member": "code"}, max_rejects=1, rejects_path=str(tmp_path), max_without_plan=None
    )
    def upsert():
        return [{"member": "m-1", "first_name": "Ada"}, {"member": "bad"}]

    run = run_task(upsert().operator)
    assert run.state == "success"
    path = tmp_path / "clinic" / "manual__2026-01-02" / "upsert--1-1.jsonl"
    assert json.loads(path.read_text())["code"] == "bad"


def test_its_options_can_be_overridden(box, run_task):
    @task.mediquo_upsert
    def upsert():
        return [patient("m-1"), {"code": "bad"}]

    run = run_task(upsert.override(task_id="another", max_rejects=1)().operator)
    assert run.state == "success"
    assert run.task.task_id == "another"


def test_its_ledger_is_not_taken_apart(box, run_task):
    @task.mediquo_upsert
    def upsert() -> dict:
        return [patient("m-1")]  # type: ignore[return-value]  # the ledger is returned

    run = run_task(upsert().operator)
    pushed = [path for method, path, _ in run.sent if method == "POST" and "xcoms" in path]
    names = [path.rpartition("/")[2] for path in pushed]
    assert names == ["mediquo_ledger", "return_value", "_link_MediquoRunLink"]
    assert run.ledger == run.result


@pytest.mark.parametrize(
    ("wrong", "what"), [(None, "None"), ("m-1", "a str"), (patient("m-1"), "a dict"), (7, "a int")]
)
def test_a_function_that_gives_no_patients_fails_for_good_and_says_so(box, run_task, wrong, what):
    @task.mediquo_upsert
    def upsert():
        return wrong

    run = run_task(upsert().operator)
    assert run.state == "failed"
    assert "must be a list, a generator" in str(run.error)
    assert f"This is {what}" in str(run.error)
    assert run.ledger["read"] == 0
    assert box.counters.total == 0


def test_what_the_function_raises_comes_through_after_the_ledger(box, run_task):
    @task.mediquo_upsert
    def upsert():
        yield patient("m-1")
        raise LookupError("the database went away")

    run = run_task(upsert().operator)
    assert run.state == "up_for_retry"
    assert str(run.error) == "the database went away"
    assert "0 upserted, 1 unsettled, 0 rejected" in run.log
    assert (run.ledger["read"], run.ledger["unsettled"]) == (1, 1)
    assert run.ledger["stopped_because"] == "the source failed: LookupError"
    assert run.error.report.as_dict() == run.ledger


class HasAReport(Exception):
    """An error with a `report` of its own, to which nothing can be assigned."""

    @property
    def report(self):
        return "of the database"


def test_what_it_raises_comes_through_also_where_it_cannot_hold_the_ledger(box, run_task):
    @task.mediquo_upsert
    def upsert():
        yield patient("m-1")
        raise HasAReport

    run = run_task(upsert().operator)
    assert run.state == "up_for_retry"
    assert "0 upserted, 1 unsettled, 0 rejected" in run.log
    assert type(run.error) is HasAReport


# --- what the function takes ----------------------------------------------------------------------


def test_its_arguments_are_shown_as_a_count(box, run_task):
    @task.mediquo_upsert
    def upsert(one, other, *, third):
        return [one, other, *third]

    run = run_task(upsert(patient("m-1"), patient("m-2"), third=[patient("m-3")]).operator)
    assert set(box.patients) == {"m-1", "m-2", "m-3"}
    assert run.rendered["op_args"] == "<2 arguments>"
    assert run.rendered["op_kwargs"] == "<1 argument>"


def test_it_gets_those_parts_of_the_context_that_it_names(box, run_task):
    @task.mediquo_upsert(params={"last_name": "Ejemplo"})
    def upsert(code, params, ds=None, **context):
        return [patient(code, last_name=params["last_name"], tax_id=f"{ds} {context['run_id']}")]

    assert run_task(upsert("m-1").operator).state == "success"
    assert box.patients["m-1"]["last_name"] == "Ejemplo"
    assert box.patients["m-1"]["tax_id"] == "2026-01-02 manual__2026-01-02"


def test_an_argument_goes_before_a_part_of_the_context_with_its_name(box, run_task):
    @task.mediquo_upsert
    def upsert(ds):
        return [patient(ds)]

    assert run_task(upsert(ds="m-1").operator).state == "success"
    assert set(box.patients) == {"m-1"}


def test_text_among_its_arguments_is_a_template(box, run_task):
    @task.mediquo_upsert
    def upsert(one, *, other):
        return [patient(one), patient(other)]

    assert run_task(upsert("{{ ds }}", other="{{ 1 + 1 }}").operator).state == "success"
    assert set(box.patients) == {"2026-01-02", "2"}


def test_text_inside_a_record_is_not(box, run_task):
    @task.mediquo_upsert
    def upsert(one, *, others):
        return [one, *others]

    given = upsert(
        patient("m-1", last_name="{{ 1 + 1 }}"), others=[patient("m-2", last_name="{{ ds }}")]
    )
    assert run_task(given.operator).state == "success"
    assert box.patients["m-1"]["last_name"] == "{{ 1 + 1 }}"
    assert box.patients["m-2"]["last_name"] == "{{ ds }}"


def test_it_gets_what_other_tasks_returned(box, run_task):
    @task.mediquo_upsert
    def upsert(one, *, others):
        return [one, *others["all"]]

    one = source.override(task_id="one")()
    other = source.override(task_id="other")()
    task_ = upsert(one, others={"all": [other, patient("m-3")]}).operator
    xcoms = {("one", -1): patient("m-1"), ("other", -1): patient("m-2")}
    run = run_task(task_, xcoms=xcoms)
    assert run.state == "success"
    assert set(box.patients) == {"m-1", "m-2", "m-3"}
    assert {"one", "other"} <= task_.upstream_task_ids
    assert run.rendered["op_args"] == "<1 argument>"


def test_it_can_be_mapped(box, run_task, tmp_path):
    @task.mediquo_upsert(rejects_path=str(tmp_path), max_rejects=1)
    def upsert(code, suffix):
        yield patient(f"{code}{suffix}")
        yield {"code": "bad"}

    task_ = upsert.partial(suffix="-x").expand(code=["m-1", "m-2"]).operator
    run = run_task(task_, map_index=1)
    assert run.state == "success"
    assert set(box.patients) == {"m-2-x"}
    assert run.result["rejects_path"].endswith("/upsert-1-1.jsonl")
    assert run.rendered["op_kwargs"] == "<2 arguments>"


def test_it_can_be_mapped_over_what_another_task_returned(box, run_task):
    @task.mediquo_upsert
    def upsert(patients):
        return patients

    task_ = upsert.expand(patients=source()).operator
    xcoms = {("source", -1): [[patient("m-1")], [patient("m-2", last_name="{{ ds }}")]]}
    run = run_task(task_, map_index=1, xcoms=xcoms)
    assert run.state == "success"
    assert box.patients["m-2"]["last_name"] == "{{ ds }}"
    assert "m-1" not in box.patients


def test_text_among_the_arguments_of_a_mapped_one_is_a_template(box, run_task):
    @task.mediquo_upsert
    def upsert(code, last_name):
        return [patient(code, last_name=last_name)]

    task_ = upsert.partial(last_name="{{ ds }}").expand(code=["m-1", "m-2"]).operator
    assert run_task(task_, map_index=0).state == "success"
    assert box.patients["m-1"]["last_name"] == "2026-01-02"


# --- references that Airflow resolves -------------------------------------------------------------


@pytest.mark.parametrize("how", ["argument", "keyword", "in a list", "in a mapping", "in a tuple"])
def test_a_parameter_of_the_dag_is_resolved_wherever_it_is(box, run_task, dag, how):
    dag.params = {"name": "Grace"}
    name = dag.param("name")

    @task.mediquo_upsert
    def upsert(*args, name=None):
        (given,) = args or (name,)
        while not isinstance(given, str):
            given = given["name"] if isinstance(given, dict) else given[0]
        return [patient("m-1", first_name=given)]

    if how == "keyword":
        operator = upsert(name=name).operator
    else:
        nested = {"argument": name, "in a list": [name], "in a mapping": {"name": name}}
        operator = upsert(nested.get(how, (name,))).operator
    run = run_task(operator)
    assert run.state == "success", run.error
    assert box.patients["m-1"]["first_name"] == "Grace"


def test_what_it_is_in_may_be_a_set_and_stays_a_named_tuple(box, run_task, dag):
    class Person(NamedTuple):
        code: str
        first_name: Any

    dag.params = {"name": "Grace"}

    @task.mediquo_upsert
    def upsert(one, names):
        return [one._asdict(), *({"code": "m-2", "first_name": name} for name in names)]

    run = run_task(upsert(Person("m-1", dag.param("name")), {dag.param("name")}).operator)
    assert run.state == "success", run.error
    assert [each["first_name"] for each in box.patients.values()] == ["Grace", "Grace"]


def test_a_parameter_inside_a_record_is_resolved(box, run_task, dag):
    dag.params = {"plan": "gold"}
    records = [patient("m-1", plan=dag.param("plan"), meta={"plans": [dag.param("plan")]})]

    @task.mediquo_upsert
    def upsert(patients):
        return patients

    assert run_task(upsert(records).operator).state == "success"
    assert box.patients["m-1"]["plan"] == "gold"
    assert box.patients["m-1"]["meta"] == {"plans": ["gold"]}


def test_a_literal_is_what_is_in_it(box, run_task):
    @task.mediquo_upsert
    def upsert(code, patients):
        return [patient(code), *patients]

    given = upsert(literal("{{ ds }}"), [patient("m-2", last_name=literal("{{ ds }}"))])
    assert run_task(given.operator).state == "success"
    assert set(box.patients) == {"{{ ds }}", "m-2"}
    assert box.patients["m-2"]["last_name"] == "{{ ds }}"


def test_a_path_and_an_object_with_templates_are_rendered_as_for_any_task(box, run_task):
    class Query:
        template_fields = ("code",)

        def __init__(self, code):
            self.code = code

    @task.mediquo_upsert
    def upsert(path, query):
        return [patient(path.name), patient(query.code)]

    given = upsert(ObjectStoragePath("file:///in/{{ ds }}"), Query("m-{{ ds }}"))
    run = run_task(given.operator)
    assert run.state == "success", run.error
    assert set(box.patients) == {"2026-01-02", "m-2026-01-02"}


def test_a_path_of_python_stays_as_it_is(box, run_task):
    """It has a `resolve` of its own, which would look for the file."""

    @task.mediquo_upsert
    def upsert(path, paths):
        return [patient(str(path)), *(patient(str(each)) for each in paths)]

    given = upsert(Path("in/a.csv"), [Path("in/b.csv")])
    run = run_task(given.operator)
    assert run.state == "success", run.error
    assert set(box.patients) == {"in/a.csv", "in/b.csv"}


# --- arguments of the decorator -------------------------------------------------------------------


@pytest.mark.parametrize("is_overridden", [False, True])
def test_the_ledger_may_be_several_xcoms(box, run_task, is_overridden):
    @task.mediquo_upsert(multiple_outputs=True)
    def upsert():
        return [patient("m-1")]

    run = run_task((upsert.override(retries=1) if is_overridden else upsert)().operator)
    assert run.state == "success"
    pushed = [path.rpartition("/")[2] for method, path, _ in run.sent if method == "POST"]
    assert {"return_value", "upserted", "read"} <= {*pushed}


@pytest.mark.parametrize("option", ["templates_dict", "show_return_value_in_logs"])
def test_an_option_of_pythons_operator_is_refused_when_the_dag_is_read(option):
    @task.mediquo_upsert(**{option: {}})
    def upsert():
        return []

    with pytest.raises(TypeError, match=option):
        upsert()


# --- being killed ---------------------------------------------------------------------------------


def test_a_task_that_is_killed_leaves_a_source_that_waits(box, run_task, kill):
    waiting = threading.Event()

    @task.mediquo_upsert
    def upsert():
        yield patient("m-1")
        waiting.set()
        time.sleep(60)

    kill(when=waiting.is_set)
    started = time.monotonic()
    run = run_task(upsert().operator)
    assert time.monotonic() - started < 10
    assert run.state == "up_for_retry"
    assert "the task was killed" in str(run.error)
    assert "0 upserted, 1 unsettled" in str(run.error)
