"""What holds patients, keys or a token does not show them, whoever looks at it for another reason."""

import copy
import pickle
from dataclasses import asdict

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.sdk import task

from airflow_provider_mediquo.api.errors import ConnectionSettingsError, MediquoError
from airflow_provider_mediquo.api.patients.endpoints import encode_patient, upsert
from airflow_provider_mediquo.api.upload.options import UploadOptions
from airflow_provider_mediquo.api.visibility.fingerprint import check_proof, differences
from airflow_provider_mediquo.hooks.mediquo import MediquoHook
from airflow_provider_mediquo.operators.patients import MediquoUpsertPatientsOperator
from airflow_provider_mediquo.sensors.patients import MediquoPatientSensor
from airflow_provider_mediquo.triggers.patients import MediquoPatientTrigger
from tests.support.carried import locals_of, texts_of

PATIENT = {
    "code": "m-1",
    "first_name": "Canaryinamine",
    "last_name": "{{ conn.mediquo_default.password }}canaryinamine",
    "email": "canaryinamine@example.com",
    "plan": "canaryinamineplan",
    "meta": {"canaryinaminekey": "canaryinaminemeta"},
}


WRONG = PATIENT | {"phone": "canaryinamine"}


def shown(thing):
    """What logs, debuggers and reporting tools show of it."""
    copied = copy.copy(thing)
    return " ".join([repr(thing), str(thing), f"{thing}", repr(copied), repr([thing])]).lower()


@pytest.fixture
def hook(start_box):
    start_box(api_key="canaryinamine-api-key", secret_key="canaryinamine-secret-key")
    return MediquoHook()


@pytest.fixture
def report(hook):
    return hook.upsert_patients(
        [PATIENT, PATIENT, PATIENT | {"email": "canaryinamine"}], max_rejects=2
    )


def test_a_hook_its_client_and_its_settings(hook, report):
    assert "canaryinamine" not in shown(hook.settings) + shown(hook.get_conn())
    assert "canaryinamine" not in shown(hook) + repr(vars(hook)).lower()


def test_a_hook_that_is_pickled_takes_no_key_along(hook, report):
    hook.get_patient("m-1")
    pickled = pickle.dumps(hook)
    assert b"canaryinamine" not in pickled
    assert pickle.loads(pickled).get_patient("m-1")["plan"] == "canaryinamineplan"


def test_a_token(hook, report):
    token = hook.authenticate_patient("m-1")
    assert token.access_token.lower() not in shown(token)


def test_a_ledger_with_all_that_is_in_it(report):
    assert report.rejected == 2
    assert "canaryinamine" not in shown(report) + str(asdict(report)).lower()
    assert b"canaryinamine" not in pickle.dumps(report).lower()


def test_what_is_on_its_way_to_mediquo():
    assert "canaryinamine" not in shown(upsert([encode_patient(PATIENT)]))


def test_options():
    assert "canaryinamine" not in shown(UploadOptions(columns={"name": "first_name"}))


@pytest.mark.usefixtures("dag")
def test_an_operator_and_a_function_that_were_given_patients():
    @task.mediquo_upsert
    def function(first, *, patients):
        return patients

    given = MediquoUpsertPatientsOperator(task_id="upsert", patients=[PATIENT])
    made = function(PATIENT, patients=[PATIENT]).operator
    for operator in (given, made, given.patients, made.op_args, made.op_kwargs):
        assert "canaryinamine" not in shown(operator)
    for operator in (given, made):
        fields = {name: getattr(operator, name) for name in operator.template_fields}
        assert "canaryinamine" not in str(fields).lower()


@pytest.mark.usefixtures("dag")
def test_a_sensor_and_its_trigger(report):
    sensor = MediquoPatientSensor(task_id="wait", written=report.as_dict())
    trigger = MediquoPatientTrigger(
        mediquo_conn_id="mediquo_default",
        expected=report.sample,
        poke_interval=1,
        deadline="2026-01-01T00:00:00+00:00",
    )
    for thing in (sensor, trigger):
        assert "canaryinamine" not in shown(thing) + repr(vars(thing)).lower()
    assert "canaryinamine" not in str(trigger.serialize()).lower()


@pytest.mark.parametrize(
    "wrong",
    [
        {"password": "canaryinamine-secret-key\u00e9"},
        {"host": "https://canaryinamine:canaryinamine@example.com/v1"},
        {"extra": {"verify": "canaryinamine"}},
        {"extra": "canaryinamine"},
    ],
    ids=["key", "url", "extra", "no json"],
)
def test_the_variables_of_an_error_of_the_connection(start_box, connect, wrong):
    """Those of whoever reads a connection are its keys."""
    connect(
        start_box(api_key="canaryinamine-api-key", secret_key="canaryinamine-secret-key"), **wrong
    )
    # Airflow 3.1 does not give a connection out of the environment whose extra is no JSON.
    with pytest.raises((ConnectionSettingsError, AirflowNotFoundException)) as caught:
        MediquoHook().get_patient("m-1")
    variables = [text for where, text in locals_of(caught.value) if __file__ not in where]
    assert variables
    assert "canaryinamine" not in " ".join([*texts_of(caught.value), *variables]).lower()


@pytest.mark.parametrize("check", [check_proof, lambda *given: differences(given[0], {}, given[1])])
@pytest.mark.parametrize("is_proof", [True, False], ids=["another key", "no proof"])
def test_the_variables_of_an_error_of_a_proof(report, check, is_proof):
    proof = report.sample["m-1"] if is_proof else "none"
    with pytest.raises(ValueError) as caught:
        check(proof, "canaryinamine-another-key")
    variables = [text for where, text in locals_of(caught.value) if __file__ not in where]
    assert variables
    assert "canaryinamine" not in " ".join(variables)


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, MemoryError])
def test_a_source_that_is_left_in_the_middle(hook, end):
    def source():
        yield PATIENT
        raise end

    with pytest.raises(end) as caught:
        hook.upsert_patients(source())
    assert "canaryinamine" not in " ".join(texts_of(caught.value)).lower()


def test_an_error_with_its_ledger(hook):
    with pytest.raises(MediquoError) as caught:
        hook.upsert_patients([PATIENT, WRONG])
    error = caught.value
    again = pickle.loads(pickle.dumps(error))
    assert (again.report.read, again.args) == (2, error.args)
    assert (
        "canaryinamine" not in " ".join([*texts_of(error), *texts_of(again), shown(error)]).lower()
    )
