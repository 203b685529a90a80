"""The operators, run through Airflow's own task runner against a mediQuo on a socket."""

import json
import threading
import time
from contextlib import closing
from typing import Any

import airflow
import httpx
import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout
from airflow.sdk import Asset, AssetAlias, TaskGroup, literal, task

from airflow_provider_mediquo.api.errors import TooManyRejectsError
from airflow_provider_mediquo.api.report import UploadReport
from airflow_provider_mediquo.hooks.mediquo import MediquoHook
from airflow_provider_mediquo.operators.ledgers import push_ledger_of
from airflow_provider_mediquo.operators.patients import (
    MediquoAuthenticatePatientOperator,
    MediquoGetPatientOperator,
    MediquoUpsertPatientsOperator,
)
from tests.support.airflow_runner import ApiServer

pytestmark = pytest.mark.usefixtures("dag")

COUNTS = {"read", "upserted", "rejected", "unsettled", "invalid", "duplicate", "refused"}


@task
def source(number=0):
    """What it returns is given by the test."""


def logged_exceptions(run):
    """The exceptions in the task's log, each with those that it is chained to."""
    lines = [json.loads(line) for line in run.log.splitlines()]
    return [each for line in lines for each in line.get("exception", ())]


def upsert(patients, **options):
    return MediquoUpsertPatientsOperator(task_id="upsert", patients=patients, **options)


# --- where patients come from ---------------------------------------------------------------------


def test_it_upserts_a_list(box, run_task, people):
    run = run_task(upsert(people(3)))
    assert run.state == "success"
    assert set(box.patients) == {"m-1", "m-2", "m-3"}
    assert run.rendered["patients"] == "<3 patients>"


def test_it_upserts_what_another_task_returned(box, run_task, people):
    run = run_task(upsert(source()), xcoms={("source", -1): people(2)})
    assert run.state == "success"
    assert set(box.patients) == {"m-1", "m-2"}
    assert run.rendered["patients"] == "<2 patients>"


def test_it_reads_a_mapped_tasks_output_one_by_one_and_not_before_it_runs(box, run_task, people):
    each = {("source", index): patient for index, patient in enumerate(people(3))}
    run = run_task(upsert(source.expand(number=[1, 2, 3])), xcoms=each)
    assert run.state == "success"
    assert set(box.patients) == {"m-1", "m-2", "m-3"}
    paths = [path for _, path, _ in run.sent]
    shown = next(at for at, path in enumerate(paths) if path.endswith("/rtif"))
    read = [at for at, path in enumerate(paths) if "/xcoms/clinic" in f"/{path}" and "item" in path]
    assert len(read) == 4, "three, and the one that is not there"
    assert min(read) > shown, "showing its fields read the patients"
    assert not [path for path in paths if path.endswith("/slice")]


def test_the_output_of_a_mapped_task_may_be_lists(box, run_task, people):
    lists = {("source", 0): people(2), ("source", 1): people(2, start=3)}
    run = run_task(upsert(source.expand(number=[1, 2])), xcoms=lists)
    assert run.result["upserted"] == 4
    assert len(box.patients) == 4


def test_it_upserts_a_list_of_what_other_tasks_returned(box, run_task, people):
    one = source.override(task_id="one")()
    other = source.override(task_id="other")()
    xcoms = {("one", -1): people(2), ("other", -1): people(1, start=3)}
    run = run_task(upsert([one, other]), xcoms=xcoms)
    assert run.result["upserted"] == 3
    assert set(box.patients) == {"m-1", "m-2", "m-3"}
    assert run.rendered["patients"] == "<3 patients>"


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_it_runs_after_the_tasks_whose_patients_it_sends(levels):
    one = source.override(task_id="one")()
    other = source.override(task_id="other")()
    patients = [one, [one, other], [[{"code": "m-1"}, one], other]][levels]
    assert upsert(patients).upstream_task_ids == ({"one", "other"} if levels else {"one"})


def test_a_mapped_one_does_too():
    mapped = MediquoUpsertPatientsOperator.partial(task_id="upsert").expand(patients=source())
    assert mapped.upstream_task_ids == {"source"}


def test_items_may_be_patients_and_lists_of_patients(box, run_task, people):
    first, *others = people(4)
    run = run_task(upsert([first, others]))
    assert run.result["upserted"] == 4
    assert run.rendered["patients"] == "<4 patients>"


def test_a_mapped_upsert_sends_the_part_of_its_index(box, run_task, people):
    mapped = MediquoUpsertPatientsOperator.partial(task_id="upsert").expand(
        patients=[people(2), people(3, start=3)]
    )
    run = run_task(mapped, map_index=1)
    assert run.state == "success"
    assert set(box.patients) == {"m-3", "m-4", "m-5"}
    assert run.rendered["patients"] == "<3 patients>"


def test_a_mapped_upsert_expands_what_another_task_returned(box, run_task, people):
    mapped = MediquoUpsertPatientsOperator.partial(task_id="upsert").expand(patients=source())
    run = run_task(mapped, map_index=0, xcoms={("source", -1): [people(2), people(1, start=3)]})
    assert run.state == "success"
    assert set(box.patients) == {"m-1", "m-2"}


@pytest.mark.parametrize(
    "wrong",
    ["{{ ti.xcom_pull('source') }}", {"code": "m-1", "first_name": "Ada"}, None, 7],
    ids=["text", "one patient", "nothing", "a number"],
)
@pytest.mark.parametrize("how", ["literal", "from a task", "mapped"])
def test_what_is_no_list_fails_for_good_and_says_so(box, run_task, wrong, how):
    if how == "literal":
        run = run_task(upsert(wrong))
    elif how == "from a task":
        run = run_task(upsert(source()), xcoms={("source", -1): wrong})
    else:
        mapped = MediquoUpsertPatientsOperator.partial(task_id="upsert").expand(patients=[wrong])
        run = run_task(mapped, map_index=0)
    assert run.state == "failed"
    assert "must be a list" in str(run.error)
    assert box.counters.total == 0


def test_a_parameter_of_the_dag_may_be_the_patients(box, run_task, dag, people):
    dag.params = {"patients": people(2)}
    run = run_task(upsert(dag.param("patients")))
    assert run.state == "success", run.error
    assert set(box.patients) == {"m-1", "m-2"}
    assert run.rendered["patients"] == "<2 patients>"


def test_a_parameter_of_the_dag_may_be_a_value_of_a_patient(box, run_task, dag):
    dag.params = {"plan": "gold"}
    patients = [{"code": "m-1", "first_name": literal("{{ ds }}"), "plan": dag.param("plan")}]
    run = run_task(upsert(patients))
    assert run.state == "success", run.error
    assert (box.patients["m-1"]["first_name"], box.patients["m-1"]["plan"]) == ("{{ ds }}", "gold")


class Reference:
    """What Airflow does not resolve."""


def test_the_text_of_an_object_is_never_sent(box, run_task):
    fields = ("first_name", "plan", "email", "phone", "gender", "birth_date", "meta")
    patients = [{"code": f"m-{name}", "first_name": "Ada"} | {name: Reference()} for name in fields]
    run = run_task(upsert([*patients, {"code": Reference(), "first_name": "Ada"}]))
    assert run.state == "failed"
    assert box.counters.total == 0
    assert "Reference object" not in run.everything


# --- what is rendered -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["plain", "mapped"])
def test_a_template_in_a_record_is_a_patients_and_stays_as_it_is(box, run_task, how):
    patients = [{"code": "m-1", "first_name": "{{ 1 + 1 }}", "plan": "{{ params }}"}]
    if how == "plain":
        run = run_task(upsert(patients))
    else:
        mapped = MediquoUpsertPatientsOperator.partial(task_id="upsert")
        run = run_task(mapped.expand(patients=[patients]), map_index=0)
    assert run.state == "success"
    assert box.patients["m-1"]["first_name"] == "{{ 1 + 1 }}"
    assert box.patients["m-1"]["plan"] == "{{ params }}"


def test_so_does_one_next_to_what_another_task_returned(box, run_task):
    literal = {"code": "m-1", "first_name": "{{ 1 + 1 }}", "plan": "premium"}
    xcoms = {("source", -1): literal | {"code": "m-2"}}
    run = run_task(upsert([literal, source()]), xcoms=xcoms)
    assert run.state == "success"
    assert {patient["first_name"] for patient in box.patients.values()} == {"{{ 1 + 1 }}"}
    assert set(box.patients) == {"m-1", "m-2"}


def test_the_connection_and_the_folder_of_rejects_are_templates(
    box, run_task, people, tmp_path, monkeypatch
):
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC_20260102", json.dumps(box.connection))
    monkeypatch.delenv("AIRFLOW_CONN_MEDIQUO_DEFAULT")
    task = upsert(
        [*people(1), {"code": "bad"}],
        mediquo_conn_id="clinic_{{ ds_nodash }}",
        rejects_path=f"{tmp_path}/{{{{ ds }}}}",
        max_rejects=1,
    )
    run = run_task(task)
    assert run.state == "success"
    assert run.result["rejects_path"].startswith(f"{tmp_path}/2026-01-02/")


@pytest.mark.parametrize(
    ("rendered", "state"),
    [("0", "failed"), ("1", "success"), ("0.5", "success"), ("0.1", "failed")],
)
def test_a_runs_parameter_can_raise_max_rejects(box, run_task, people, rendered, state):
    task = upsert(
        [*people(2), {"code": "bad"}],
        max_rejects="{{ params.max_rejects }}",
        params={"max_rejects": rendered},
    )
    run = run_task(task)
    assert run.state == state
    assert run.rendered["max_rejects"] == rendered


@pytest.mark.parametrize(
    ("rendered", "state"), [("100", "success"), ("half", "failed"), ("0.9", "failed")]
)
def test_a_runs_parameter_can_raise_max_without_plan(box, run_task, people, rendered, state):
    run = run_task(
        upsert(
            people(100, plan=None),
            max_without_plan="{{ params.limit }}",
            params={"limit": rendered},
        )
    )
    assert run.state == state
    assert len(box.patients) == (100 if state == "success" else 0)


def test_a_number_of_a_runs_parameter_needs_no_text(box, run_task, people):
    options = {"chunk_size": "{{ params.size }}", "max_in_flight": "{{ params.size }}"}
    run = run_task(upsert(people(4), params={"size": 2}, **options))
    assert run.state == "success"
    assert run.result["requests"] == 2


@pytest.mark.parametrize("rendered", ["many", "-1", "1.5", "nan", "1e3"])
def test_a_limit_that_renders_to_no_number_is_named_before_anything_is_sent(
    box, run_task, people, rendered
):
    task = upsert(people(1), max_rejects="{{ params.limit }}", params={"limit": rendered})
    run = run_task(task)
    assert run.state == "failed"
    words = "`max_rejects` must be a count (0, 10) or a fraction below 1.0 (0.01)"
    assert str(run.error) == words
    assert box.counters.total == 0


MISSING = (
    "was rendered to None or to nothing: a key of `conf`, a parameter or an XCom is missing.\nGive "
    "the template a default, such as {{ dag_run.conf.get('my_key', 0.01) }}."
)
WITHOUT_LIMIT = "For no limit, write None in the DAG itself."
CONF = "{{ dag_run.conf.get('key') }}"


@pytest.fixture
def refused(box, run_task):
    """Run a task that fails without a retry, before anything is read or sent; return its message."""

    def run(task, *, native=False, map_index=-1, **options):
        if native:
            task.dag.render_template_as_native_obj = True
        done = run_task(task, map_index=map_index, **options)
        assert done.state == "failed", done.log  # not up for a retry
        assert done.ledger is None
        assert box.counters.total == 0
        return str(done.error)

    return run


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("template", [CONF, "{{ '' }}", " {{ none }} "])
@pytest.mark.parametrize("option", ["max_without_plan", "max_unsubscribed"])
def test_a_template_that_renders_to_none_is_not_no_limit(refused, people, option, template, native):
    task = upsert(people(1), **{option: template})
    assert refused(task, native=native) == f"`{option}` {MISSING} {WITHOUT_LIMIT}"


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize(
    "option",
    ["state_conn_id", "sync_name", "max_rejects", "min_records", "chunk_size", "max_in_flight"],
)
def test_nor_is_one_of_another_option_as_if_it_were_not_set(refused, people, option, native):
    state = {"state_conn_id": "state"} if option == "sync_name" else {}
    task = upsert(people(1), **{option: CONF}, **state)
    assert refused(task, native=native) == f"`{option}` {MISSING}"


@pytest.mark.parametrize("how", ["template", "argument"])
def test_an_xcom_that_is_not_there_is_not_no_limit(refused, people, how):
    given = "{{ ti.xcom_pull(task_ids='source') }}" if how == "template" else source()
    xcoms = {("source", -1): None} if how == "argument" else None
    message = refused(upsert(people(1), max_unsubscribed=given), xcoms=xcoms)
    assert message == f"`max_unsubscribed` {MISSING} {WITHOUT_LIMIT}"


@pytest.mark.parametrize("how", ["partial", "expand", "expand_kwargs"])
@pytest.mark.parametrize("option", ["max_without_plan", "max_unsubscribed"])
def test_nor_is_what_a_mapped_task_makes_of_none(refused, people, option, how):
    mapped = MediquoUpsertPatientsOperator.partial
    if how == "partial":
        task = mapped(task_id="upsert", **{option: CONF}).expand(patients=[people(1)])
    elif how == "expand":
        task = mapped(task_id="upsert", patients=people(1)).expand(**{option: source()})
    else:
        task = mapped(task_id="upsert", patients=people(1)).expand_kwargs(source())
    values = {"expand": [None], "expand_kwargs": [{option: None}]}.get(how)
    message = refused(task, map_index=0, xcoms={("source", -1): values})
    assert message == f"`{option}` {MISSING} {WITHOUT_LIMIT}"


def test_nor_is_it_where_the_group_has_a_limit_and_only_its_dag_has_none(refused, dag, people):
    """The defaults of a group go before those of its DAG."""
    values = source()
    dag.default_args = {"max_unsubscribed": None}
    with TaskGroup("group", default_args={"max_unsubscribed": 0.1}):
        mapped = MediquoUpsertPatientsOperator.partial(task_id="upsert", patients=people(1))
        task = mapped.expand(max_unsubscribed=values)
    message = refused(task, map_index=0, xcoms={("source", -1): [None]})
    assert message == f"`max_unsubscribed` {MISSING} {WITHOUT_LIMIT}"


@pytest.mark.parametrize("is_mapped", [False, True])
@pytest.mark.parametrize("where", ["task", "group", "dag"])
def test_none_in_the_dag_is_no_limit(box, dag, run_task, people, where, is_mapped):
    patients, no_limit = people(100, plan=None), {"max_without_plan": None}
    own = no_limit if where == "task" else {}
    dag.default_args = no_limit if where == "dag" else {}
    with TaskGroup("group", default_args=no_limit if where == "group" else {}):
        if is_mapped:
            partial = MediquoUpsertPatientsOperator.partial(task_id="upsert", **own)
            run = run_task(partial.expand(patients=[patients]), map_index=0)
        else:
            run = run_task(upsert(patients, **own))
    assert run.state == "success", run.log
    assert run.result["without_plan"] == 100


@pytest.mark.parametrize("native", [False, True])
def test_a_folder_that_renders_to_none_is_none(box, run_task, tmp_path, monkeypatch, native):
    monkeypatch.chdir(tmp_path)
    task = upsert(
        [{"code": "bad"}],
        max_rejects=1,
        rejects_path="{{ params.folder }}",
        params={"folder": None},
    )
    task.dag.render_template_as_native_obj = native
    run = run_task(task)
    assert run.state == "success"
    assert run.result["rejects_path"] is None
    assert "Rejected: " in run.log
    assert [*tmp_path.iterdir()] == []


# --- the ledger and the rejects -------------------------------------------------------------------


def test_the_ledger_is_json_that_adds_up_and_holds_no_patient(box, run_task, people):
    patients = [
        *people(3, first_name="Canaryinamine Lovelace", last_name="Ejemplo Canario"),
        {"code": "m-1", "first_name": "Canaryinamine Again"},
        {"code": "m-9", "first_name": "Canaryinamine Nobody", "email": "not-an-address"},
    ]
    run = run_task(upsert(patients, max_rejects=2))
    ledger = run.result
    assert {name: ledger[name] for name in COUNTS} == {
        "read": 5,
        "upserted": 3,
        "rejected": 2,
        "unsettled": 0,
        "invalid": 1,
        "duplicate": 1,
        "refused": 0,
    }
    assert set(ledger["sample"]) == {"m-1", "m-2", "m-3"}
    # Shorter text may occur by chance in the proofs, which look random.
    for value in (
        "Canaryinamine Lovelace",
        "Ejemplo Canario",
        "Canaryinamine Again",
        "Canaryinamine Nobody",
    ):
        assert value not in json.dumps(ledger)
    assert "not-an-address" not in json.dumps(ledger)


def test_the_rejects_file_is_named_after_the_try_and_no_other_try_overwrites_it(
    box, run_task, people, tmp_path
):
    mapped = MediquoUpsertPatientsOperator.partial(
        task_id="upsert", rejects_path=str(tmp_path), max_rejects=1
    ).expand(patients=[people(1), [*people(1), {"code": "bad"}]])
    runs = [run_task(mapped, map_index=1, try_number=number) for number in (1, 2)]
    plain = run_task(
        MediquoUpsertPatientsOperator(
            task_id="plain", patients=[{"code": "bad"}], max_rejects=1, rejects_path=str(tmp_path)
        )
    )
    folder = tmp_path / "clinic" / "manual__2026-01-02"
    assert {path.name for path in folder.iterdir()} == {
        "upsert-1-1.jsonl",
        "upsert-1-2.jsonl",
        "plain--1-1.jsonl",
    }
    for run in [*runs, plain]:
        with open(run.result["rejects_path"], encoding="utf-8") as file:
            (line,) = map(json.loads, file)
        assert line["code"] == "bad"
        assert line["problems"] == {"first_name": "required"}


def test_the_unsubscribed_are_listed_next_to_the_rejects(box, run_task, people, tmp_path):
    patients = [*people(2), *people(1, start=3, plan=None), {"code": "bad"}]
    options = {"rejects_path": str(tmp_path), "unsubscribed_report": True, "max_rejects": 1}
    run = run_task(upsert(patients, **options), try_number=2)
    assert run.state == "success", run.error
    folder = tmp_path / "clinic" / "manual__2026-01-02"
    path = folder / "upsert--1-2.unsubscribed.jsonl"
    assert {*folder.iterdir()} == {path, folder / "upsert--1-2.jsonl"}
    assert json.loads(path.read_text()) == {"row": 3, "code": "m-3", "reason": "no plan"}
    assert run.result["unsubscribed_path"] == str(path)


def test_nobody_lists_the_unsubscribed_unasked(box, run_task, people, tmp_path):
    patients = [*people(2), *people(1, start=3, plan=None)]
    run = run_task(upsert(patients, rejects_path=str(tmp_path)))
    assert run.state == "success"
    assert run.result["unsubscribed_path"] is None
    assert [*tmp_path.iterdir()] == []


def test_the_unsubscribed_have_no_list_without_a_folder(box, run_task, people):
    task = upsert(
        people(1), unsubscribed_report=True, rejects_path="{{ params.x }}", params={"x": None}
    )
    run = run_task(task)
    assert run.state == "failed"
    words = "`unsubscribed_report` needs `rejects_path`, the folder it is written to"
    assert str(run.error) == words
    assert box.counters.total == 0


def test_the_first_of_a_mapped_task_has_the_index_0(box, run_task, tmp_path):
    mapped = MediquoUpsertPatientsOperator.partial(
        task_id="upsert", rejects_path=str(tmp_path), max_rejects=1
    ).expand(patients=[[{"code": "bad"}]])
    run = run_task(mapped, map_index=0)
    assert run.result["rejects_path"].endswith("/upsert-0-1.jsonl")


def test_a_success_with_rejects_in_a_report_logs_one_warning(box, run_task, people, tmp_path):
    run = run_task(upsert([*people(2), {"code": "bad"}], max_rejects=1, rejects_path=str(tmp_path)))
    assert run.state == "success"
    lines = [json.loads(line) for line in run.log.splitlines()]
    (warning,) = [line["event"] for line in lines if line["level"] in ("warning", "error")]
    assert warning.startswith("1 rejected: first_name must be present")


def test_without_a_folder_the_rejects_are_in_the_log(box, run_task):
    run = run_task(upsert([{"code": "bad"}], max_rejects=1))
    assert run.state == "success"
    assert "Rejected" in run.log
    assert "first_name" in run.log


@pytest.mark.parametrize(
    ("option", "patients", "written"),
    [
        ({"columns": {"id": "code", "junk": None}}, [{"id": "a", "first_name": "A", "junk": 1}], 1),
        ({"chunk_size": 1}, [{"code": c, "first_name": "A"} for c in "abc"], 3),
        ({"max_in_flight": 1, "chunk_size": 1}, [{"code": c, "first_name": "A"} for c in "abc"], 3),
        ({"max_without_plan": None}, [{"code": "a", "first_name": "A"}], 1),
        ({"max_rejects": 0.5}, [{"code": "a", "first_name": "A"}, {"code": "b"}], 1),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_the_options_reach_the_upload(box, run_task, option, patients, written):
    run = run_task(upsert(patients, **option))
    assert run.state == "success"
    assert run.result["upserted"] == written
    assert box.counters.requests["upsert"]["200"] == (3 if "chunk_size" in option else 1)


# --- the ledger as an XCom, however a run ends -------------------------------------------------------


def test_a_success_leaves_its_ledger(box, run_task, people):
    run = run_task(upsert(people(3)))
    assert run.state == "success"
    assert run.ledger == run.result
    assert run.ledger["upserted"] == 3


@pytest.mark.parametrize(
    ("how", "counts"),
    [
        ("too many rejects", {"read": 3, "upserted": 2, "rejected": 1, "stopped_because": None}),
        ("wrong keys", {"read": 2, "upserted": 0, "unsettled": 2}),
        ("no plans", {"read": 100, "upserted": 0, "unsettled": 100}),
        ("no folder", {"read": 0, "upserted": 0}),
        ("an empty source", {"read": 0, "upserted": 0}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_failure_leaves_its_ledger(box, connect, run_task, people, tmp_path, how, counts):
    patients, options = people(2), dict[str, Any]()
    match how:
        case "too many rejects":
            patients.append({"code": "bad"})
        case "wrong keys":
            connect(box, password="another-secret-key")
        case "no plans":
            patients = people(100, plan=None)
        case "no folder":
            (tmp_path / "file").touch()
            options["rejects_path"] = str(tmp_path / "file")
        case "an empty source":
            patients, options = [], {"min_records": 1}
    run = run_task(upsert(patients, **options))
    assert run.state in ("failed", "up_for_retry")
    assert run.ledger.items() >= counts.items()
    assert run.result is None, "it is not what a task returns that fails"


@pytest.mark.usefixtures("no_backoff")
def test_a_failure_that_is_retried_leaves_its_ledger_each_time(box, run_task, people):
    task = upsert(people(1))
    box.settings.error_rate = 1
    first = run_task(task)
    assert (first.state, first.ledger["unsettled"]) == ("up_for_retry", 1)
    box.settings.error_rate = 0
    second = run_task(task, try_number=2)
    assert (second.state, second.ledger["upserted"]) == ("success", 1)


def test_each_of_a_mapped_task_leaves_its_own_ledger(box, run_task, people):
    mapped = MediquoUpsertPatientsOperator.partial(task_id="upsert").expand(
        patients=[people(2), [*people(3, start=3), {"code": "bad"}]]
    )
    first, second = (run_task(mapped, map_index=index) for index in (0, 1))
    assert (first.ledger["upserted"], first.state) == (2, "success")
    assert (second.ledger["upserted"], second.ledger["rejected"], second.state) == (3, 1, "failed")


def test_a_task_that_takes_too_long_leaves_its_ledger(box, run_task, people, time_over):
    box.script("upsert", "hang")
    limit = time_over(when=lambda: box.counters.in_flight)
    run = run_task(upsert(people(1), execution_timeout=limit))
    assert type(run.error).__name__ == "AirflowTaskTimeout"
    assert run.ledger["unsettled"] == 1
    assert run.ledger["stopped_because"] == "AirflowTaskTimeout"


@pytest.mark.parametrize("is_failed", [False, True])
def test_without_xcoms_there_is_no_ledger_either(box, run_task, people, is_failed):
    patients = [*people(1), *[{"code": "bad"}] * is_failed]
    run = run_task(upsert(patients, do_xcom_push=False))
    assert run.state == ("failed" if is_failed else "success")
    assert (run.result, run.ledger) == (None, None)


def test_a_run_that_never_began_leaves_none(box, run_task, people):
    run = run_task(upsert(people(1), mediquo_conn_id="nowhere"))
    assert "nowhere" in str(run.error)
    assert run.ledger is None


def test_a_ledger_that_cannot_be_pushed_hides_no_error(box, run_task, people, monkeypatch):
    answer = ApiServer.answer

    def refuse(self, request):
        is_ledger = request.method == "POST" and request.url.path.endswith("mediquo_ledger")
        refused = httpx.Response(403, json={"detail": "no"})
        return refused if is_ledger else answer(self, request)

    monkeypatch.setattr(ApiServer, "answer", refuse)
    run = run_task(upsert([*people(2), {"code": "bad"}]))
    assert run.state == "failed"
    assert str(run.error).startswith("More rejects than `max_rejects` (0). 2 upserted")
    assert "Cannot push the XCom mediquo_ledger" in run.log


def test_a_push_that_airflow_times_out_hides_no_error_either(caplog):
    class Ti:
        def xcom_push(self, **_):
            raise AirflowTaskTimeout  # no Exception

    error = TooManyRejectsError("too many", report=UploadReport())
    ti: Any = Ti()
    push_ledger_of(error, {"ti": ti})
    assert "Cannot push the XCom mediquo_ledger (AirflowTaskTimeout)." in caplog.text


# --- failures -------------------------------------------------------------------------------------


def test_wrong_keys_are_no_reason_to_retry(box, connect, run_task, people):
    connect(box, password="another-secret-key")
    run = run_task(upsert(people(1)))
    assert run.state == "failed"
    assert "Check the API key (Login)" in str(run.error)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"password": ""}, "lacks the Secret key (Password)"),
        ({"host": "ftp://sdk.mediquo.com/v1"}, "must begin with https://"),
        ({"extra": {"timeout": "soon"}}, "`timeout`"),
    ],
)
def test_settings_that_cannot_work_are_no_reason_to_retry(
    box, connect, run_task, people, changes, words
):
    connect(box, **changes)
    run = run_task(upsert(people(1)))
    assert run.state == "failed"
    assert words in str(run.error)


def test_rejected_records_are_no_reason_to_retry(box, run_task, people):
    run = run_task(upsert([*people(2), {"code": "bad"}]))
    assert run.state == "failed"
    assert str(run.error).splitlines()[0] == (
        "More rejects than `max_rejects` (0). 2 upserted, 0 unsettled, 1 rejected."
    )
    assert len(box.patients) == 2, "valid records are sent"


def test_nobody_is_unsubscribed_by_accident(box, run_task, people):
    run = run_task(upsert(people(100, plan=None)))
    assert run.state == "failed"
    assert "max_without_plan" in str(run.error)
    assert box.counters.total == 0


# Airflow 3.1's in-process runner, which these tests use, calls no callbacks.
with_callbacks = pytest.mark.skipif(
    airflow.__version__.startswith("3.1."), reason="its in-process runner calls no callbacks"
)


@with_callbacks
@pytest.mark.usefixtures("no_backoff")
def test_a_mediquo_that_is_down_is_a_reason_to_retry(box, run_task, people):
    box.settings.error_rate = 1
    seen = []
    run = run_task(
        upsert(people(1), on_retry_callback=lambda context: seen.append(context["exception"]))
    )
    assert run.state == "up_for_retry"
    assert "Safe to run again" in str(run.error)
    (error,) = seen
    assert type(error).__name__ == "ServerError"
    assert error.status // 100 == 5
    assert (error.report.read, error.report.unsettled) == (1, 1)
    (logged,) = logged_exceptions(run)
    assert logged["exc_type"] == "ServerError"
    assert len(logged["exc_value"].splitlines()[0]) < 120


@with_callbacks
def test_a_callback_gets_the_ledger_of_too_many_rejects(box, run_task, people):
    seen = []
    patients = [*people(2), {"code": "bad"}]
    run = run_task(
        upsert(patients, on_failure_callback=lambda context: seen.append(context["exception"]))
    )
    assert run.state == "failed"
    (error,) = seen
    assert type(error).__name__ == "AirflowFailException"
    assert (error.report.upserted, error.report.invalid) == (2, 1)


@with_callbacks
@pytest.mark.parametrize(
    "option",
    [
        {"max_rejects": "many"},
        {"columns": {"member_id": "kode"}},
        {"min_records": CONF},
        {"state_conn_id": "mediquo_default"},
        {"state_conn_id": "nowhere"},
        {"mediquo_conn_id": "nowhere"},
    ],
    ids=str,
)
def test_a_callback_gets_none_where_there_is_no_ledger(box, run_task, people, option):
    seen = []
    run = run_task(
        upsert(
            people(1),
            on_failure_callback=lambda context: seen.append(context["exception"]),
            on_retry_callback=lambda context: seen.append(context["exception"]),
            **option,
        )
    )
    assert run.state in ("failed", "up_for_retry")
    (error,) = seen
    assert error.report is None
    assert box.counters.total == 0


@with_callbacks
def test_a_callback_gets_the_ledger_of_a_run_that_fails_after_it(box, run_task, people):
    def warn(context):
        raise AirflowTaskTimeout("Timeout")

    seen = []
    run = run_task(
        upsert(
            [*people(2), {"code": "bad"}],
            max_rejects=1,
            on_warn_callback=warn,
            on_retry_callback=lambda context: seen.append(context["exception"]),
        )
    )
    assert run.state == "up_for_retry"
    (error,) = seen
    assert (error.report.upserted, error.report.rejected) == (2, 1)


def test_the_message_of_a_failure_is_logged_once(box, connect, run_task, people):
    connect(box, password="another-secret-key")
    run = run_task(upsert(people(1)))
    assert run.state == "failed"
    (logged,) = logged_exceptions(run)
    assert logged["exc_type"] == "AirflowFailException"
    assert logged["exc_value"].count("Check the API key (Login)") == 1
    assert len(logged["exc_value"].splitlines()[0]) < 120


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"max_rejects": 1.5}, "`max_rejects`"),
        ({"max_rejects": "many"}, "`max_rejects`"),
        ({"max_without_plan": -1}, "`max_without_plan`"),
        ({"chunk_size": 101}, "`chunk_size`"),
        ({"max_in_flight": 0}, "`max_in_flight`"),
        ({"columns": {"member_id": "kode"}}, "kode"),
    ],
)
def test_an_option_that_makes_no_sense_is_named_before_anything_is_sent(
    box, run_task, people, option, words
):
    run = run_task(upsert(people(1), **option))
    assert run.state == "failed"
    assert words in str(run.error)
    assert box.counters.total == 0


# --- being killed ---------------------------------------------------------------------------------


def test_a_task_that_is_killed_ends_its_requests_and_completes_its_ledger(
    box, run_task, people, kill
):
    box.script("upsert", *["hang"] * 10)
    kill(when=lambda: box.counters.in_flight == 2)
    started = time.monotonic()
    run = run_task(upsert(people(5), chunk_size=1, max_in_flight=2))
    assert time.monotonic() - started < 10, "the connection's timeout is 30 s"
    assert run.state == "up_for_retry"
    assert "the task was killed" in str(run.error)
    assert "0 upserted, 5 unsettled, 0 rejected" in str(run.error)
    assert run.ledger is None, "there may be no time for it"
    assert not [t for t in threading.enumerate() if t.name.startswith("mediquo_")]


def test_a_task_that_takes_too_long_ends_its_requests(box, run_task, people, time_over):
    box.script("upsert", "hang")
    started = time.monotonic()
    limit = time_over(when=lambda: box.counters.in_flight)
    run = run_task(upsert(people(1), execution_timeout=limit))
    assert time.monotonic() - started < 10
    assert type(run.error).__name__ == "AirflowTaskTimeout"
    assert run.state == "up_for_retry"


@pytest.mark.parametrize(
    ("endpoint", "make"),
    [
        ("upsert", lambda people, **options: upsert(people(1), **options)),
        ("get", lambda _, **options: read(code="m-1", **options)),
        (
            "authenticate",
            lambda _, **options: MediquoAuthenticatePatientOperator(
                task_id="prove", code="m-1", **options
            ),
        ),
    ],
)
def test_a_try_that_takes_too_long_leaves_the_next_one_alone(
    box, run_task, people, time_over, endpoint, make
):
    """Under `dag.test()`, all tries are of one process and one task."""
    box.settings.lag = 0
    MediquoHook().upsert_patients(people(1))
    box.script(endpoint, "hang")
    task = make(people, execution_timeout=time_over(when=lambda: box.counters.in_flight))
    first = run_task(task)
    assert type(first.error).__name__ == "AirflowTaskTimeout"
    task.execution_timeout = None
    assert run_task(task, try_number=2).state == "success"


def test_a_task_that_is_killed_before_it_has_begun_sends_nothing(box, run_task, people):
    task = upsert(people(1))
    task.on_kill()
    run = run_task(task)
    assert run.state == "up_for_retry"
    assert "the task was killed" in str(run.error)
    assert box.counters.total == 0


# --- options of an upsert -------------------------------------------------------------------------


def test_what_changes_a_record_is_handed_on(box, run_task):
    given = {"id": "m-1", "first_name": "Ada", "gender": "x", "phone": "07700 900123"}
    run = run_task(
        upsert(
            [given, {"id": "m-2"}],
            transform=lambda record: record if "phone" in record else None,
            columns={"id": "code"},
            omit_invalid=True,
            phone_region="GB",
        )
    )
    assert run.state == "success"
    assert (run.result["skipped"], run.result["omitted"], run.result["upserted"]) == (1, 1, 1)
    assert box.patients["m-1"]["phone"] == "+447700900123"
    assert box.patients["m-1"]["gender"] is None


@pytest.mark.parametrize(("least", "state"), [(2, "success"), (3, "up_for_retry")])
def test_the_least_number_of_records_is_handed_on(box, run_task, people, least, state):
    run = run_task(upsert(people(2), min_records=least))
    assert run.state == state
    assert len(box.patients) == (2 if state == "success" else 0)


# --- reading one ----------------------------------------------------------------------------------


def read(**options):
    return MediquoGetPatientOperator(**{"task_id": "read"} | options)


@pytest.fixture
def ada(box, run_task):
    patient = {"code": "m/1", "first_name": "Canaryinamine Lovelace", "plan": "premium"}
    patient["birth_date"] = "1990-04-12"
    assert run_task(upsert([patient])).state == "success"
    return patient


def test_a_patient_is_read_as_json(ada, run_task):
    run = run_task(read(code="m/1"))
    assert run.state == "success"
    assert {name: run.result[name] for name in ada} == ada
    assert run.result["updated_at"].endswith("+00:00")


def test_only_the_fields_that_are_named_become_an_xcom(ada, run_task):
    run = run_task(
        read(code="{{ params.code }}", fields=["code", "plan", "tax_id"], params={"code": "m/1"})
    )
    assert run.result == {"code": "m/1", "plan": "premium", "tax_id": None}
    assert "Canaryinamine Lovelace" not in run.everything


@pytest.mark.no_cover
@pytest.mark.parametrize("kind", [MediquoGetPatientOperator, MediquoAuthenticatePatientOperator])
@pytest.mark.parametrize("code", ["1_001", "{{ params.code }}", "{{ '1_' }}001"])
def test_a_code_is_never_read_as_a_number(box, run_task, people, kind, code):
    """Python reads 1_001 as 1001: the code of another person."""
    both = [*people(1, code="1001"), *people(1, code="1_001")]
    assert run_task(upsert(both)).state == "success"
    params = {"code": "1_001"}
    plain = kind(task_id="read", code=code, params=params)
    mapped = kind.partial(task_id="mapped", params=params).expand(code=[code])
    for reading, index in ((plain, -1), (mapped, 0)):
        reading.dag.render_template_as_native_obj = True
        run = run_task(reading, map_index=index)
        assert run.error is None
        assert run.result["code"] == run.rendered["code"] == "1_001"


def test_an_empty_list_of_fields_is_no_field_and_not_all_of_them(ada, run_task):
    run = run_task(read(code="m/1", fields=[]))
    assert run.state == "success"
    assert run.result == {}
    assert "Canaryinamine Lovelace" not in run.everything


def test_a_patient_that_is_missing_may_yet_come(box, run_task):
    run = run_task(read(code="m-2"))
    assert run.state == "up_for_retry"
    assert "has no patient with the code 'm-2'" in str(run.error)


def test_a_patient_may_be_missing_where_that_is_fine(box, run_task):
    run = run_task(read(code="m-2", missing_ok=True))
    assert run.state == "success"
    assert run.result is None


@pytest.mark.parametrize(
    "operator", [MediquoGetPatientOperator, MediquoAuthenticatePatientOperator]
)
def test_its_connection_is_closed_when_it_ends(ada, box, run_task, eventually, operator):
    run = run_task(operator(task_id="ask", code=ada["code"]))
    assert run.state == "success"
    assert eventually(lambda: not box._server.server_state.connections)
    assert run.task._hook.get_conn()  # not closed only because the task is gone


@pytest.mark.parametrize(
    "operator", [MediquoGetPatientOperator, MediquoAuthenticatePatientOperator]
)
def test_wrong_keys_are_no_reason_to_ask_again(box, connect, run_task, operator):
    connect(box, login="another-api-key")
    assert run_task(operator(task_id="ask", code="m-1")).state == "failed"


@pytest.mark.parametrize(
    "operator", [MediquoGetPatientOperator, MediquoAuthenticatePatientOperator]
)
@pytest.mark.parametrize("code", ["..", "", "a\nb"])
def test_what_is_no_code_is_not_asked_for(box, run_task, operator, code):
    run = run_task(operator(task_id="ask", code=code))
    assert run.state == "failed"
    assert box.counters.total == 0


# --- proving that one can log in ------------------------------------------------------------------


def test_a_patient_can_log_in_and_the_token_goes_nowhere(ada, box, run_task, monkeypatch):
    seen = []
    ask = MediquoHook.authenticate_patient
    monkeypatch.setattr(
        MediquoHook, "authenticate_patient", lambda *args: seen.append(ask(*args)) or seen[0]
    )
    run = run_task(MediquoAuthenticatePatientOperator(task_id="prove", code="m/1"))
    assert run.state == "success"
    assert run.result == {"code": "m/1", "token_type": seen[0].token_type}
    assert len(seen[0].access_token) > 20
    assert seen[0].access_token not in run.everything


@pytest.mark.parametrize("status", [404, 401])
def test_an_unknown_patient_may_yet_come(box, run_task, status):
    box.settings.unknown_patient_status = status
    run = run_task(MediquoAuthenticatePatientOperator(task_id="prove", code="m-2"))
    assert run.state == "up_for_retry"
    assert "no patient with the code 'm-2'" in str(run.error)


@pytest.mark.parametrize(
    "meta",
    [
        {"__type": "airflow.sdk.definitions.asset.Asset", "__var": {"name": "evil"}},
        {"a": [{"__classname__": "airflow.sdk.definitions.asset.Asset"}]},
    ],
)
def test_no_patient_becomes_an_object_of_airflows_own(box, run_task, meta):
    MediquoHook().upsert_patients([{"code": "m-1", "first_name": "Ada", "meta": meta}])
    run = run_task(read(code="m-1"))
    assert run.state == "failed"
    assert "A field of this patient, maybe in `meta`, has a name that begins with `__`." in str(
        run.error
    )
    again = read(task_id="again", code="m-1", fields=["code"])
    assert run_task(again).result == {"code": "m-1"}


@pytest.mark.parametrize("code", ["__classname__", "__id__", "__type"])
def test_a_code_that_airflow_would_take_for_more_is_in_no_sample(box, run_task, people, code):
    run = run_task(upsert([{"code": code, "first_name": "Ada"}, *people(1)]))
    assert run.state == "success"
    assert (run.result["upserted"], [*run.result["sample"]]) == (2, ["m-1"])
    assert code in box.patients


@pytest.mark.parametrize("fields", ["code", 5, [["code"]], [1, "code"]])
def test_fields_that_are_no_list_of_names_are_told_before_anything_is_read(box, run_task, fields):
    run = run_task(read(code="m-1", fields=fields, missing_ok=True))
    assert run.state == "failed"
    assert "`fields` must be a list" in str(run.error)
    assert box.counters.total == 0


@pytest.mark.parametrize("missing_ok", ["False", 0])
def test_missing_ok_is_true_or_false(box, run_task, missing_ok):
    run = run_task(read(code="m-1", missing_ok=missing_ok))
    assert run.state == "failed"
    assert str(run.error) == "`missing_ok` must be True or False."
    assert box.counters.total == 0


@pytest.mark.parametrize("fields", [["code", "paln"]])
def test_fields_that_no_patient_has_are_named(box, run_task, connect, fields):
    box.settings.lag = 0
    MediquoHook().upsert_patients([{"code": "m-1", "first_name": "Ada", "plan": "basic"}])
    run = run_task(read(code="m-1", fields=fields))
    assert run.state == "failed"
    assert "`fields`" in str(run.error)


def test_a_killed_one_waits_no_longer(box, run_task, kill):
    box.script("get", "429:300")
    kill(when=lambda: box.counters.faults["429:300"])
    started = time.monotonic()
    run = run_task(read(code="m-1"))
    assert time.monotonic() - started < 10
    assert "Stopped" in str(run.error)


# --- assets, and rejects in a store ---------------------------------------------------------------


def test_an_asset_that_is_an_outlet_gets_the_counts_and_no_code(box, run_task, people):
    members = Asset("mediquo://clinic/patients")
    others = AssetAlias("others")
    patients = [*people(7), {"code": "m-8", "first_name": ""}]
    run = run_task(upsert(patients, max_rejects=1, outlets=[members, others]))
    assert run.state == "success", run.error
    (event,) = run.left["outlet_events"]
    assert event["extra"].items() >= {"read": 8, "upserted": 7, "rejected": 1}.items()
    assert {*event["extra"]} == {*run.result} - {
        "sample",
        "receipt",
        "rejects_by_rule",
        "rejects_path",
        "unsubscribed_path",
        "stopped_because",
    }
    assert "m-1" not in json.dumps(run.left)


def test_an_outlet_that_only_refers_to_an_asset_gets_the_counts_too(box, run_task, people):
    reference = Asset.ref(uri="mediquo://clinic")
    run = run_task(upsert(people(3), outlets=[reference]))
    assert run.state == "success", run.error
    (event,) = run.left["outlet_events"]
    counts = {name: run.result[name] for name in ("read", "upserted", "rejected", "requests")}
    assert counts == {name: event["extra"][name] for name in counts}
    assert counts["upserted"] == 3


def test_without_an_outlet_there_is_no_event(box, run_task, people):
    assert not run_task(upsert(people(1))).left.get("outlet_events")


@pytest.mark.no_cover
def test_rejects_go_to_an_object_store_too(box, run_task, people, s3_bucket, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC_STORE", s3_bucket.json())
    folder = f"s3://clinic_store@{s3_bucket.bucket}/rejects"
    patients = [*people(3), *({"code": f"x-{number}"} for number in range(250))]
    task = upsert(patients, rejects_path=folder)
    for try_number in (1, 2):
        run = run_task(task, try_number=try_number)
        assert run.state == "failed"
        name = f"clinic/manual__2026-01-02/upsert--1-{try_number}.jsonl"
        assert f"Reject report: {folder}/{name}" in str(run.error)
    with closing(s3_bucket.client()) as client:
        found = client.list_objects_v2(Bucket=s3_bucket.bucket, Prefix="rejects/")["Contents"]
        assert [each["Key"].rpartition("/")[0] for each in found] == [
            f"rejects/clinic/manual__2026-01-02/upsert--1-{number}.jsonl" for number in (1, 2)
        ]
        body = client.get_object(Bucket=s3_bucket.bucket, Key=found[0]["Key"])["Body"].read()
    lines = [json.loads(line) for line in body.splitlines()]
    assert [line["code"] for line in lines] == [f"x-{number}" for number in range(250)]


def test_a_store_that_is_not_there_ends_it_before_anything_is_sent(
    box, run_task, people, monkeypatch, s3
):
    monkeypatch.setenv(
        "AIRFLOW_CONN_NO_STORE", s3.json(extra={"endpoint_url": "http://127.0.0.1:9"})
    )
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    run = run_task(upsert(people(3), rejects_path="s3://no_store@bucket/rejects"))
    assert "`rejects_path`: cannot write to s3://no_store@bucket/rejects" in str(run.error)
    assert box.counters.total == 0
