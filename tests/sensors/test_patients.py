"""The sensor, in its three ways of waiting, through Airflow's own task runner."""

import json
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk import task

from airflow_provider_mediquo.api.visibility.poller import VisibilityPoller
from airflow_provider_mediquo.hooks.mediquo import MediquoHook
from airflow_provider_mediquo.operators.patients import MediquoUpsertPatientsOperator
from airflow_provider_mediquo.sensors.patients import MediquoPatientSensor

pytestmark = pytest.mark.usefixtures("dag")

LONG_ENOUGH = 2.0  # seconds until a triggerer has taken over, on a busy machine too
FOREVER = 10_000
"""Seconds that a write takes where it is not to be seen."""


@task
def source(number=0):
    """What it returns is given by the test."""


@pytest.fixture(params=["poke", "reschedule", "deferrable"])
def mode(request):
    return request.param


@pytest.fixture
def wait(run_task, mode):
    """Wait to the end, in each mode; `while_away` is called while no worker is held."""

    def wait(while_away=lambda: None, xcoms=None, **options):
        options = {"task_id": "wait", "poke_interval": 0.1, "timeout": 60} | options
        if mode == "deferrable":
            sensor = MediquoPatientSensor(deferrable=True, **options)
        else:
            sensor = MediquoPatientSensor(deferrable=False, mode=mode, **options)
        first_look = datetime.now(UTC)
        run = run_task(sensor, xcoms=xcoms)
        run.waited, logs = 0, [run.log]
        while run.state in ("up_for_reschedule", "deferred"):
            waited = run.waited + 1
            while_away()
            if run.state == "deferred":
                run = run_task(sensor, xcoms=xcoms, event=run.wait_in_triggerer())
            else:
                until = datetime.fromisoformat(run.left["reschedule_date"])
                time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()))
                run = run_task(sensor, xcoms=xcoms, first_look=first_look)
            run.waited = waited
            logs.append(run.log)
        run.log = "\n".join(logs)
        return run

    return wait


@pytest.fixture
def write():
    """Write patients, and return the ledger as it would come out of XCom."""

    def write(*patients, **options):
        report = MediquoHook().upsert_patients(patients, max_without_plan=None, **options)
        return json.loads(json.dumps(report.as_dict()))

    return write


def patient(code="m-1", **fields):
    return {"code": code, "first_name": "Ada", "plan": "premium"} | fields


def lag(box, seconds):
    box.settings.lag = seconds


@pytest.fixture
def after_a_look(box, monkeypatch):
    """Let mediQuo show what is written from now on when it is looked for again, not before."""

    looks: list[Any] = []

    def showing(look):
        def show_and_look(poller, *until):
            if looks:
                show(box)
            looks.append(look)
            return look(poller, *until)

        return show_and_look

    def arrange():
        lag(box, FOREVER)
        for name in ("look", "look_async"):
            monkeypatch.setattr(VisibilityPoller, name, showing(getattr(VisibilityPoller, name)))

    return arrange


def show(box):
    """Apply what was written."""
    store = box._mediquo.store
    with store._lock:
        now = time.monotonic()
        store._pending = deque(
            replace(write, due=now, at=write.at - FOREVER) for write in store._pending
        )


@pytest.fixture
def write_long_ago(box, write):
    """Write patients by a clock of long ago: mediQuo's times are whole seconds."""

    def write_long_ago(*patients):
        box.settings.clock_skew = -3600
        write(*patients)
        box.settings.clock_skew = 0

    return write_long_ago


# --- until it is visible --------------------------------------------------------------------------


def test_it_waits_for_a_new_patient(box, write, wait, after_a_look):
    after_a_look()
    written = write(patient())
    assert "m-1" not in box.patients
    assert wait(written=written).state == "success"
    assert "m-1" in box.patients


def test_it_waits_for_a_change(box, write, write_long_ago, wait, after_a_look):
    write_long_ago(patient())
    after_a_look()
    written = write(patient(first_name="Grace"))
    assert box.patients["m-1"]["first_name"] == "Ada"
    assert wait(written=written).state == "success"
    assert box.patients["m-1"]["first_name"] == "Grace"


def test_it_waits_until_a_plan_is_gone(box, write, write_long_ago, wait, after_a_look):
    write_long_ago(patient())
    after_a_look()
    written = write({"code": "m-1", "first_name": "Ada"})
    assert wait(written=written).state == "success"
    assert box.patients["m-1"]["plan"] is None


def test_of_two_upserts_of_a_patient_it_waits_for_the_later(box, write, wait):
    box.settings.clock_skew = -3600
    earlier = write(patient())
    box.settings.clock_skew = 0
    lag(box, FOREVER)
    later = write(patient(first_name="Grace"))
    run = wait(written=[earlier, later], timeout=0.3)
    assert "m-1 (first_name)" in run.log
    assert run.state == "failed"


def test_a_write_that_changes_nothing_is_visible_at_once(box, write, write_long_ago, wait):
    write_long_ago(patient())
    lag(box, FOREVER)
    run = wait(written=write(patient()))
    assert run.state == "success"
    assert run.waited == 0


def test_so_is_one_of_values_that_mediquo_writes_in_its_own_way(box, write, write_long_ago, wait):
    """Nothing changes, so `updated_at` stays, and what was sent does not read back the same."""
    values = {
        "first_name": "Zoe\u0308",
        "email": "Zoe@Example.com",
        "phone": "+44 (7700) 900-123",
        "locale": None,
    }
    write_long_ago(patient(**values))
    shown = box.patients["m-1"]
    assert not [name for name, value in values.items() if shown[name] == value]
    lag(box, FOREVER)
    run = wait(written=write(patient(**values)))
    assert run.state == "success"
    assert run.waited == 0


def test_it_waits_for_every_ledger_of_a_list(box, write, wait, after_a_look):
    one = write(patient("m-1"))
    after_a_look()
    other = write(patient("m-2"))
    assert wait(written=[one, other]).state == "success"
    assert set(box.patients) == {"m-1", "m-2"}


def test_it_waits_for_what_another_task_wrote(box, write, wait, after_a_look):
    after_a_look()
    xcoms = {("source", -1): write(patient())}
    assert wait(written=source(), xcoms=xcoms).state == "success"
    assert "m-1" in box.patients


def test_it_waits_for_all_that_a_mapped_task_wrote(box, write, wait, after_a_look):
    after_a_look()
    xcoms = {("source", 0): write(patient("m-1")), ("source", 1): write(patient("m-2"))}
    assert wait(written=source.expand(number=[1, 2]), xcoms=xcoms).state == "success"
    assert set(box.patients) == {"m-1", "m-2"}


@pytest.mark.parametrize("codes", ["m-1", ["m-1", "m-2"]])
def test_codes_only_have_to_exist(box, write, wait, codes, after_a_look):
    after_a_look()
    write(patient("m-1"), patient("m-2"))
    assert wait(codes=codes).state == "success"
    assert "m-1" in box.patients


def test_codes_and_the_connection_are_templates(box, write, wait):
    write(patient("2026-01-02"))
    run = wait(codes=["{{ ds }}"], mediquo_conn_id="mediquo_{{ 'default' }}")
    assert run.state == "success"
    assert run.rendered["codes"] == ["2026-01-02"]


def test_where_nobody_was_written_there_is_nothing_to_wait_for(box, write, wait):
    written = write({"code": "bad"}, max_rejects=1)
    run = wait(written=written)
    assert run.state == "success"
    assert "Nothing to wait for" in run.log
    assert "get" not in box.counters.requests


def test_nor_is_there_for_no_codes(box, wait):
    run = wait(codes=[])
    assert run.state == "success"
    assert "Nothing to wait for: `codes` is empty." in run.log


@pytest.mark.parametrize(("most", "seconds"), [(60, 60), (timedelta(days=2), 172_800)])
def test_its_backoff_is_the_triggers_too(box, run_task, most, seconds):
    options = {"exponential_backoff": True, "max_wait": most, "poke_interval": 7}
    run = run_task(MediquoPatientSensor(task_id="wait", codes="m-1", deferrable=True, **options))
    assert run.state == "deferred"
    kwargs = run.trigger_kwargs
    assert (kwargs["poke_interval"], kwargs["exponential_backoff"]) == (7, True)
    assert kwargs["max_wait"] == seconds


def test_without_backoff_the_trigger_has_none(box, run_task):
    run = run_task(MediquoPatientSensor(task_id="wait", codes="m-1", deferrable=True))
    assert (run.trigger_kwargs["exponential_backoff"], run.trigger_kwargs["max_wait"]) == (
        False,
        None,
    )


def test_what_is_visible_is_not_deferred(box, write, run_task):
    written = write(patient())
    sensor = MediquoPatientSensor(task_id="wait", written=written, deferrable=True)
    assert run_task(sensor).state == "success"


def test_what_is_not_holds_no_worker(box, run_task):
    sensor = MediquoPatientSensor(task_id="wait", codes="m-1", deferrable=True, timeout=600)
    run = run_task(sensor)
    assert run.state == "deferred"
    deadline = datetime.fromisoformat(run.trigger_kwargs["deadline"])
    assert 300 < (deadline - datetime.now(UTC)).total_seconds() <= 600
    assert run.left["trigger_timeout"] == "PT11M", "later than the trigger's own"


@pytest.mark.no_cover
@pytest.mark.parametrize("outcomes", [["503"] * 3, ["lost_before", "500"], ["not_json", "429:1"]])
def test_an_answer_that_fails_for_a_passing_reason_is_waited_out(box, write, wait, outcomes):
    written = write(patient())
    box.script("get", *outcomes)
    assert wait(written=written).state == "success"
    statuses = box.counters.requests["get"]
    assert statuses.total() == len(outcomes) + 1


def test_each_pause_is_logged_without_a_count_that_would_always_be_one(box, write, run_task):
    written = write(patient())
    box.script("get", "429:1", "429:1")
    run = run_task(MediquoPatientSensor(task_id="wait", written=written, poke_interval=1))
    assert run.state == "success"
    lines = [json.loads(line)["event"] for line in run.log.splitlines()]
    pauses = [line for line in lines if line.startswith("GET patients/{code}: mediQuo answered")]
    assert pauses == ["GET patients/{code}: mediQuo answered 429, pausing for 1 s."] * 2
    looks = [line for line in lines if line.startswith("Not visible yet: 1")]
    assert looks
    assert not any("\n" in line for line in looks)


# --- until time is over ---------------------------------------------------------------------------


@pytest.mark.no_cover
def test_a_timeout_says_which_are_not_found_and_which_differ(box, write, write_long_ago, wait):
    write_long_ago(patient("m-2", first_name="Canaryinamine Lovelace"))
    lag(box, FOREVER)
    names = {"first_name": "Canaryinamine Grace", "last_name": "Canaryinamine Hopper"}
    written = write(patient("m-1"), patient("m-2", **names))
    run = wait(written=written, timeout=LONG_ENOUGH)
    assert run.state == "failed"
    assert type(run.error).__name__ == "AirflowSensorTimeout"
    assert "Not visible yet: 2" in str(run.error)
    assert "not found: m-1;" in str(run.error)
    assert "differ from what was written: m-2 (first_name, last_name)" in str(run.error)
    # Shorter text may occur by chance in the proofs, which look random.
    for value in ("Canaryinamine Lovelace", *names.values()):
        assert value not in run.everything


@pytest.mark.parametrize("how", [{"mode": "poke"}, {"mode": "reschedule"}, {"deferrable": True}])
def test_a_killed_one_ends_with_the_request_under_way(box, run_task, kill, how):
    box.script("get", "hang")
    kill(when=lambda: box.counters.in_flight)
    started = time.monotonic()
    run = run_task(MediquoPatientSensor(task_id="wait", codes="m-1", **how))
    assert time.monotonic() - started < 10
    assert run.state == "up_for_retry"
    assert type(run.error).__name__ == "StoppedError"


@pytest.mark.parametrize(
    "how",
    [
        *({}, {"silent_fail": True}, {"exponential_backoff": True}),
        *({"mode": "reschedule"}, {"deferrable": True}),
    ],
)
def test_a_kill_in_the_middle_of_a_line_of_the_log_ends_it_too(box, run_task, monkeypatch, how):
    """A logger catches what a signal handler raises, so nothing may depend on that."""
    shown = VisibilityPoller.__str__

    def killed(poller):
        with suppress(Exception):
            on_kill[0]()
        return shown(poller)

    on_kill: list[Any] = []
    prepare = MediquoPatientSensor.prepare_for_execution

    def prepared(sensor):
        other = prepare(sensor)
        on_kill.append(other.on_kill)
        return other

    monkeypatch.setattr(VisibilityPoller, "__str__", killed)
    monkeypatch.setattr(MediquoPatientSensor, "prepare_for_execution", prepared)
    lag(box, FOREVER)
    sensor = MediquoPatientSensor(
        task_id="wait", codes="m-1", poke_interval=300, timeout=900, **how
    )
    run = run_task(sensor)
    assert on_kill
    assert type(run.error).__name__ == "StoppedError"


def test_a_try_that_takes_too_long_leaves_the_next_one_alone(box, write, run_task, time_over):
    """Under `dag.test()`, all tries are of one process and one task."""
    write(patient())
    box.script("get", "hang")
    limit = time_over(when=lambda: box.counters.in_flight)
    sensor = MediquoPatientSensor(
        task_id="wait", codes="m-1", execution_timeout=limit, poke_interval=0.1
    )
    assert type(run_task(sensor).error).__name__ == "AirflowTaskTimeout"
    sensor.execution_timeout = None
    assert run_task(sensor, try_number=2).state == "success"


def test_time_that_is_over_ends_a_look(box, run_task):
    box.settings.latency = 0.3
    codes = [f"m-{number}" for number in range(1000)]
    run = run_task(MediquoPatientSensor(task_id="wait", codes=codes, timeout=1))
    assert type(run.error).__name__ == "AirflowSensorTimeout"
    assert "the last check was incomplete: there was no time to check the other codes" in str(
        run.error
    )
    assert 0 < box.counters.total < 10


def test_a_first_look_is_no_longer_than_those_of_the_triggerer_are_apart(box, run_task):
    box.settings.latency = 0.3
    codes = [f"m-{number}" for number in range(1000)]
    sensor = MediquoPatientSensor(task_id="wait", codes=codes, deferrable=True, poke_interval=1)
    assert run_task(sensor).state == "deferred"
    assert 0 < box.counters.total < 10


@pytest.mark.parametrize("make", [tuple, set, iter, lambda codes: (code for code in codes)])
def test_codes_may_come_in_any_way(box, run_task, make):
    run = run_task(MediquoPatientSensor(task_id="wait", codes=make(["nobody"]), timeout=0))
    assert run.state == "failed"
    assert "not found: nobody" in str(run.error)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ((code for code in ("m-2", "m-1")), ["m-2", "m-1"]),
        (iter(["m-1"]), ["m-1"]),
        ({"m-2", "m-1", "m-3"}, ["m-1", "m-2", "m-3"]),
        (["m-1"], ["m-1"]),
        ("m-1", "m-1"),
    ],
    ids=["generator", "iterator", "set", "list", "text"],
)
def test_codes_are_stored_the_same_at_each_parse_of_a_dag(given, stored):
    assert MediquoPatientSensor(task_id="wait", codes=given).codes == stored


def test_ledgers_are_stored_the_same_at_each_parse_of_a_dag():
    ledgers: Iterator[dict[str, dict[str, str]]] = ({"sample": {}} for _ in range(2))
    assert MediquoPatientSensor(task_id="wait", written=ledgers).written == [{"sample": {}}] * 2


@pytest.mark.parametrize(
    "codes",
    [
        *("1_001", ["1_001"], ("{{ params.codes[0] }}",), "{{ params.codes }}"),
        "{% if params.codes %}['1_001']{% endif %}",
    ],
)
def test_a_code_is_never_read_as_a_number(box, write, run_task, codes):
    """Python reads 1_001 as 1001: the code of another person."""
    write(patient("1001"))
    sensor = MediquoPatientSensor(
        task_id="wait", codes=codes, timeout=0, params={"codes": ["1_001"]}
    )
    sensor.dag.render_template_as_native_obj = True
    assert "not found: 1_001" in str(run_task(sensor).error)
    write(patient("1_001"))
    assert run_task(sensor).state == "success"


def test_a_code_of_another_task_is_left_as_it_is(box, run_task):
    codes: list[Any] = ["code:1", source()]
    sensor = MediquoPatientSensor(task_id="wait", codes=codes, timeout=0)
    run = run_task(sensor, xcoms={("source", -1): "code:7"})
    assert "not found: code:1, code:7" in str(run.error)


@pytest.mark.parametrize("codes", [[["m-1"]], [{"code": "m-1"}], {"m-1": None}, 7])
def test_what_are_no_codes_are_none(box, run_task, codes):
    run = run_task(MediquoPatientSensor(task_id="wait", codes=codes))
    assert run.state == "failed"
    assert "`codes` must be a code or a list of codes" in str(run.error)


def test_a_native_template_of_one_code_says_what_to_do(box, run_task):
    sensor = MediquoPatientSensor(task_id="wait", codes="{{ '1_001' }}", timeout=0)
    sensor.dag.render_template_as_native_obj = True
    run = run_task(sensor)
    assert run.state == "failed"
    assert "not of type int.\nCodes are text. Put the template of one code into a list" in str(
        run.error
    )


@pytest.mark.parametrize("codes", [["m-1", "m-2", "m-3"], ["m-1", "nobody", "m-3"]])
def test_a_timeout_of_0_is_one_complete_look(box, write, wait, codes):
    write(patient("m-1"), patient("m-2"), patient("m-3"))
    box.settings.latency = 0.6  # so that it takes longer than the shortest look may
    run = wait(codes=codes, timeout=0)
    assert run.state == ("success" if codes[1] == "m-2" else "failed")
    assert run.waited == 0
    assert box.counters.requests["get"].total() == 3
    if run.error:
        assert type(run.error).__name__ == "AirflowSensorTimeout"
        assert str(run.error).splitlines()[1] == "Not visible yet: 1 patient; not found: nobody"


def test_a_timeout_of_0_skips_where_that_is_wanted(box, wait):
    run = wait(codes="nobody", timeout=0, soft_fail=True)
    assert run.state == "skipped"
    assert box.counters.requests["get"].total() == 1


def test_a_poke_interval_of_0_still_looks_before_it_defers(box, write, run_task):
    written = write(*(patient(f"m-{number}") for number in range(3)))
    sensor = MediquoPatientSensor(task_id="wait", written=written, deferrable=True, poke_interval=0)
    assert run_task(sensor).state == "success"


def test_a_poke_interval_of_0_is_no_end_of_the_wait(box, write, wait, after_a_look):
    after_a_look()
    assert wait(written=write(patient()), poke_interval=0).state == "success"


def test_a_long_first_look_is_not_said_to_be_out_of_time(box, run_task):
    box.settings.latency = 0.3
    codes = [f"m-{number}" for number in range(20)]
    sensor = MediquoPatientSensor(
        task_id="wait", codes=codes, deferrable=True, poke_interval=0.1, timeout=600
    )
    run = run_task(sensor)
    assert run.state == "deferred"
    assert "there was no time to check the other codes" in run.log
    assert "time is over" not in run.log
    assert "timed out" not in run.log


def test_a_timeout_skips_where_that_is_wanted(box, wait):
    run = wait(codes="m-1", timeout=0.3, soft_fail=True)
    assert run.state == "skipped"


def test_a_timeout_of_a_mediquo_that_was_down_says_so(box, wait):
    box.settings.error_rate = 1
    run = wait(codes="m-1", timeout=LONG_ENOUGH)
    assert run.state == "failed"
    assert "mediQuo had a server error" in str(run.error)


def test_the_detail_of_a_skip_is_in_the_log(box, wait):
    assert "not found: m-1" in wait(codes="m-1", timeout=LONG_ENOUGH, soft_fail=True).log


# --- what waiting cannot heal ---------------------------------------------------------------------


@pytest.mark.parametrize("soft_fail", [False, True])
def test_wrong_keys_fail_at_once_and_are_never_skipped(box, connect, wait, soft_fail):
    connect(box, password="another-secret-key")
    run = wait(codes="m-1", soft_fail=soft_fail)
    assert run.state == "failed"
    assert type(run.error).__name__ == "AirflowFailException"
    assert "Check the API key (Login)" in str(run.error)
    assert box.counters.total == 1


@pytest.mark.parametrize("soft_fail", [False, True])
def test_so_do_keys_that_become_wrong_while_it_waits(box, connect, wait, mode, soft_fail):
    if mode == "poke":
        box.script("get", "404", "401")
    run = wait(
        codes="m-1",
        soft_fail=soft_fail,
        while_away=lambda: connect(box, password="another-secret-key"),
    )
    assert run.state == "failed"
    assert type(run.error).__name__ == "AirflowFailException"
    assert "Check the API key (Login)" in str(run.error)


@pytest.mark.parametrize("soft_fail", [False, True])
def test_settings_that_cannot_work_fail_at_once(box, connect, wait, soft_fail):
    connect(box, host="http://sdk.mediquo.com/v1")
    run = wait(codes="m-1", soft_fail=soft_fail)
    assert run.state == "failed"
    assert "unencrypted" in str(run.error)


@pytest.mark.parametrize("soft_fail", [False, True])
def test_after_a_change_of_key_the_upsert_has_to_run_again(box, connect, write, wait, soft_fail):
    written = write(patient())
    connect(box, password="the-next-secret-key")
    asked = box.counters.total
    run = wait(written=written, soft_fail=soft_fail)
    assert run.state == "failed"
    assert "Run the upsert again" in str(run.error)
    assert box.counters.total == asked


def test_so_after_a_change_of_key_while_it_waits(box, connect, write, wait, mode):
    if mode == "poke":
        pytest.skip("the keys are read once")
    lag(box, FOREVER)
    written = write(patient())
    run = wait(
        written=written,
        soft_fail=True,
        while_away=lambda: connect(box, password="the-next-secret-key"),
    )
    assert run.state == "failed"
    assert "Run the upsert again" in str(run.error)


def test_what_is_no_code_fails_at_once(box, wait):
    run = wait(codes=["m-1", ".."], soft_fail=True)
    assert run.state == "failed"
    assert "A patient's code must be" in str(run.error)
    assert box.counters.total == 0


@pytest.mark.parametrize(
    "wrong",
    ["{{ ti.xcom_pull('upsert') }}", None, 7, {"upserted": 1}, [None], {"sample": {"m-1": "junk"}}],
    ids=["text", "nothing", "a number", "no sample", "a list of nothing", "no proof"],
)
def test_what_is_no_ledger_fails_for_good_and_says_so(box, wait, wrong):
    run = wait(written=source(), xcoms={("source", -1): wrong}, soft_fail=True)
    assert run.state == "failed"
    assert "`written`" in str(run.error)
    assert "upsert" in str(run.error)
    assert box.counters.total == 0


@pytest.mark.parametrize("wrong", [None, 7], ids=["nothing", "a number"])
def test_what_are_no_codes_fails_for_good_and_says_so(box, wait, wrong):
    run = wait(codes=source(), xcoms={("source", -1): wrong}, soft_fail=True)
    assert run.state == "failed"
    assert "`codes`" in str(run.error)
    assert box.counters.total == 0


@pytest.mark.parametrize("soft_fail", [False, True])
@pytest.mark.parametrize("event", [{}, {"status": "success"}, {"status": None}, "visible"])
def test_an_event_that_nobody_knows_is_no_success(box, run_task, event, soft_fail):
    sensor = MediquoPatientSensor(task_id="wait", codes="m-1", deferrable=True, soft_fail=soft_fail)
    run = run_task(sensor, event=event)
    assert run.state == "up_for_retry"
    assert "The triggerer sent an unknown event" in str(run.error)


def test_it_takes_either_codes_or_what_was_written():
    with pytest.raises(ValueError, match="Pass either `written` or `codes`"):
        MediquoPatientSensor(task_id="neither")
    with pytest.raises(ValueError, match="Pass either `written` or `codes`"):
        MediquoPatientSensor(task_id="both", codes="m-1", written={})


# --- a triggerer that does not work ---------------------------------------------------------------


@pytest.fixture
def fail_trigger(run_task):
    """Resume a sensor as the scheduler does where a trigger is over without an event."""

    def fail_trigger(error, traceback=None, **options):
        sensor = MediquoPatientSensor(task_id="wait", codes="m-1", deferrable=True, **options)
        return run_task(
            sensor,
            next_method="__fail__",
            next_kwargs={"error": error, "traceback": traceback},
        )

    return fail_trigger


@pytest.mark.parametrize("soft_fail", [False, True])
def test_a_connection_that_the_triggerer_lacks_fails_at_once(
    box, wait, mode, monkeypatch, soft_fail
):
    if mode != "deferrable":
        pytest.skip("no triggerer")
    run = wait(
        codes="m-1",
        soft_fail=soft_fail,
        while_away=lambda: monkeypatch.delenv("AIRFLOW_CONN_MEDIQUO_DEFAULT"),
    )
    assert run.state == "failed"
    words = "The triggerer cannot find the connection 'mediquo_default'."
    assert str(run.error).splitlines()[0] == words


@pytest.mark.parametrize("soft_fail", [False, True])
def test_an_error_that_nobody_foresaw_in_the_trigger_is_a_failure(
    box, wait, mode, monkeypatch, soft_fail
):
    if mode != "deferrable":
        pytest.skip("no triggerer")

    def get_conn(hook):
        raise KeyError("m-1")

    run = wait(
        codes="m-1",
        soft_fail=soft_fail,
        while_away=lambda: monkeypatch.setattr(MediquoHook, "get_conn", get_conn),
    )
    assert run.state == "up_for_retry"
    assert str(run.error) == "The trigger failed: KeyError. See the triggerer's log."


@pytest.mark.parametrize("soft_fail", [False, True])
def test_a_trigger_that_crashed_is_a_failure(box, fail_trigger, soft_fail):
    lines = ["Traceback (most recent call last):", "ImportError: no such module"]
    run = fail_trigger("Trigger failure", lines, soft_fail=soft_fail)
    assert run.state == "up_for_retry"
    assert "The trigger crashed." in str(run.error)
    assert "ImportError: no such module" in run.log


@pytest.mark.parametrize(("soft_fail", "state"), [(False, "failed"), (True, "skipped")])
def test_a_triggerer_that_is_stopped_is_what_the_message_says_to_look_at(
    box, fail_trigger, soft_fail, state
):
    run = fail_trigger("Trigger timeout", soft_fail=soft_fail)
    assert run.state == state
    assert "Trigger timeout: no triggerer finished the wait in time." in run.log
    assert "Check that `airflow triggerer` runs" in run.log


# --- defaults -------------------------------------------------------------------------------------


def test_it_looks_every_ten_seconds_for_a_quarter_of_an_hour():
    sensor = MediquoPatientSensor(task_id="wait", codes="m-1")
    assert (sensor.poke_interval, sensor.timeout) == (10, 15 * 60)


@pytest.mark.no_cover
def test_airflows_setting_says_whether_it_defers(python, monkeypatch):
    assert not MediquoPatientSensor(task_id="wait", codes="m-1").deferrable
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    code = (
        "from airflow_provider_mediquo.sensors.patients import MediquoPatientSensor as Sensor\n"
        "print(Sensor(task_id='wait', codes='m-1').deferrable)"
    )
    assert python(code).split()[-1] == "True"


# --- a run with a state ---------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path, monkeypatch):
    """The options of a run with a state."""
    connection = {"conn_type": "sqlite", "host": str(tmp_path / "state.db")}
    monkeypatch.setenv("AIRFLOW_CONN_STATE", json.dumps(connection))
    return {"state_conn_id": "state", "sync_name": "members"}


def test_an_upsert_that_left_no_result_is_named(box, wait, mode):
    """It failed, and the sensor's `trigger_rule` is `all_done`."""
    run = wait(written=source())
    assert run.state == "failed"
    assert str(run.error).startswith(
        "`written` is None: the upsert failed, was skipped, or has do_xcom_push"
    )
    assert box.counters.total == 0


def test_the_ledger_of_a_failed_upsert_is_an_xcom(box, write, run_task, wait):
    upsert = MediquoUpsertPatientsOperator(
        task_id="upsert", patients=[patient(), {"code": "bad"}], retries=0
    )
    failed = run_task(upsert)
    assert (failed.state, failed.result) == ("failed", None)
    lag(box, 0)
    xcoms = {("upsert", -1): failed.ledger}
    assert wait(written=upsert.output["mediquo_ledger"], xcoms=xcoms).state == "success"


def test_it_is_done_at_once_and_without_a_warning_if_nothing_was_sent(box, write, wait, state):
    write(patient(), **state)
    lag(box, FOREVER)
    run = wait(written=write(patient(), **state))
    assert run.state == "success"
    assert run.waited == 0
    assert "Nothing to wait for" not in run.log


def test_a_run_that_had_nothing_to_send_hides_no_other_without_a_patient(box, write, wait, state):
    write(patient(), **state)
    run = wait(written=[write(patient(), **state), write({"code": "bad"}, max_rejects=1)])
    assert run.state == "success"
    assert "Nothing to wait for" in run.log


@pytest.mark.no_cover
def test_after_a_timeout_the_next_run_sends_again_what_that_run_sent(box, write, wait, state):
    box.settings.clock_skew = -3600
    write(patient("m-1"), patient("m-2"), **state)
    box.settings.clock_skew = 0
    lag(box, FOREVER)
    written = write(patient("m-1"), patient("m-2", first_name="Eva"), **state)
    assert (written["changed"], written["unchanged"]) == (1, 1)
    run = wait(written=written, timeout=0.3)
    assert run.state == "failed"
    assert "The next run sends 1 record again." in run.log
    again = write(patient("m-1"), patient("m-2", first_name="Eva"), **state)
    assert (again["resent"], again["unchanged"]) == (1, 1)


@pytest.mark.no_cover
def test_so_it_does_where_a_timeout_is_a_skip(box, write, wait, state):
    lag(box, FOREVER)
    run = wait(written=[write(patient(), **state)], timeout=0.3, soft_fail=True)
    assert run.state == "skipped"
    assert write(patient(), **state)["resent"] == 1


@pytest.mark.parametrize("soft_fail", [False, True])
@pytest.mark.parametrize("is_asleep", [False, True])
def test_so_it_does_after_an_execution_timeout(
    box, write, run_task, state, time_over, soft_fail, is_asleep
):
    lag(box, FOREVER)
    written = write(patient(), **state)
    if not is_asleep:
        box.script("get", "hang")
    main = threading.get_ident()

    def waits():
        if is_asleep:
            stack = traceback.walk_stack(sys._current_frames()[main])
            return "_get_next_poke_interval" in {frame.f_code.co_name for frame, _ in stack}
        return box.counters.in_flight

    sensor = MediquoPatientSensor(
        task_id="wait",
        written=written,
        execution_timeout=time_over(when=waits),
        poke_interval=60,
        soft_fail=soft_fail,
    )
    run = run_task(sensor)
    assert run.state == ("skipped" if soft_fail and not is_asleep else "up_for_retry")
    assert write(patient(), **state)["resent"] == 1


@pytest.mark.no_cover
def test_so_it_does_for_each_ledger_that_has_a_state(box, write, wait, state):
    lag(box, FOREVER)
    written = [write(patient("m-1")), write(patient("m-2"), **state)]
    assert wait(written=written, timeout=0.3).state == "failed"
    assert write(patient("m-2"), **state)["resent"] == 1


def test_with_never_fail_an_error_is_no_timeout(box, write, wait, state):
    written = write(patient(), **state)
    box.script("get", "401")
    assert wait(written=written, never_fail=True).state in ("skipped", "failed")  # if it defers
    assert write(patient(), **state)["resent"] == 0


def test_a_state_that_is_gone_does_not_hide_the_timeout(box, write, wait, state, monkeypatch):
    lag(box, FOREVER)
    written = write(patient(), **state)
    monkeypatch.setenv("AIRFLOW_CONN_STATE", json.dumps({"conn_type": "sqlite", "host": "/"}))
    run = wait(written=written, timeout=0.3)
    assert run.state == "failed"
    assert "Not visible yet: 1" in run.log
    assert "The records of run 1 of members could not be put in doubt (StateError)." in run.log
