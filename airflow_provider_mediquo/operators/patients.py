"""Upsert patients, read a patient, check that a patient can log in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any, Unpack

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mediquo.codes import TextCodes
from airflow_provider_mediquo.hooks.mediquo import fail_without_retry
from airflow_provider_mediquo.operators.base import MediquoOperator, MediquoUpsertBaseOperator
from airflow_provider_mediquo.operators.hidden import HiddenPatients, hide, resolve
from airflow_provider_mediquo.operators.rendered import failing_on_value_errors, rendered_number

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_mediquo.arguments import MediquoArguments, UpsertArguments

__all__ = [
    "MediquoAuditPatientsOperator",
    "MediquoAuthenticatePatientOperator",
    "MediquoGetPatientOperator",
    "MediquoUpsertBaseOperator",
    "MediquoUpsertPatientsOperator",
]


AUDIT_KEY = "mediquo_audit"
"""Of the XCom that holds an audit's report, whether the task succeeds or fails."""


class MediquoUpsertPatientsOperator(MediquoUpsertBaseOperator):
    """Create or update patients in mediQuo, at most 100 per request.

    `patients` is never rendered or shown in the UI. Patients from another task are stored in XCom;
    to avoid that, use `@task.mediquo_upsert`.

    :param patients: a list or another task's output. Each item is a patient (field -> value) or a
        list of patients. The output of a mapped task is read one item at a time.

    The other parameters are those of MediquoUpsertBaseOperator.

    https://sdk.mediquo.com/docs/patients#create-or-update-patients
    """

    template_fields: Sequence[str] = (*MediquoUpsertBaseOperator.template_fields, "patients")

    def __init__(
        self, *, patients: Sequence[Any] | XComArg, **kwargs: Unpack[UpsertArguments]
    ) -> None:
        super().__init__(**kwargs)
        self.patients = hide(self, patients, HiddenPatients)

    def read_patients(self, context: Context) -> Iterable[Any]:
        """Return the patients that were passed in."""
        return self.patients

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Any,
        jinja_env: Any,
        seen_oids: set[int],
    ) -> None:
        others = [name for name in template_fields if name != "patients"]
        super()._do_render_template_fields(parent, others, context, jinja_env, seen_oids)
        if parent is self:
            self.patients = HiddenPatients(resolve(self.patients.given, context))


class MediquoGetPatientOperator(TextCodes, MediquoOperator):
    """Read one patient. The result is stored in XCom, so list only the fields you need.

    :param code: the patient's code in your system.
    :param fields: the fields to return; default: all.
    :param missing_ok: return None instead of failing if mediQuo has no such patient.
    :param mediquo_conn_id: ID of a connection of type `mediquo`.

    https://sdk.mediquo.com/docs/patients#get-patient
    """

    template_fields: Sequence[str] = (*MediquoOperator.template_fields, "code")

    def __init__(
        self,
        *,
        code: str,
        fields: Sequence[str] | None = None,
        missing_ok: bool = False,
        **kwargs: Unpack[MediquoArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.code = code
        self.fields = fields
        self.missing_ok = missing_ok

    def execute(self, context: Context) -> dict[str, Any] | None:
        """Return the patient; times are ISO 8601 in UTC."""
        if not isinstance(self.missing_ok, bool):
            raise AirflowFailException("`missing_ok` must be True or False.")
        self._check_names()
        with fail_without_retry(), closing(self._hook.get_conn()):
            patient = self._hook.get_patient(self.code)
        if patient is None:
            self._check_missing()
            return None
        self._check_fields(patient)
        names = patient if self.fields is None else self.fields
        shown = {name: _plain(patient.get(name)) for name in names}
        if _is_more_than_json(shown):
            raise AirflowFailException(
                "A field of this patient, maybe in `meta`, has a name that begins with `__`.\n"
                "Airflow may turn it into an object. Leave it out: list the other fields in `fields`."
            )
        return shown

    def _check_names(self) -> None:
        fields = self.fields
        if fields is None:
            return
        if isinstance(fields, str):
            raise AirflowFailException(f"`fields` must be a list: fields=[{fields!r}].")
        if not isinstance(fields, Sequence) or not all(isinstance(name, str) for name in fields):
            raise AirflowFailException("`fields` must be a list of field names.")

    def _check_fields(self, patient: Mapping[str, Any]) -> None:
        from airflow_provider_mediquo.api.patients.schema import ANSWER_FIELDS

        if unknown := sorted({*(self.fields or ())} - {*ANSWER_FIELDS, *patient}):
            raise AirflowFailException(
                f"`fields` has unknown fields: {', '.join(unknown)}.\nThe fields are "
                f"{', '.join(ANSWER_FIELDS)}."
            )

    def _check_missing(self) -> None:
        from airflow_provider_mediquo.api.errors import PatientNotFoundError

        if not self.missing_ok:
            raise PatientNotFoundError(
                f"mediQuo has no patient with the code {self.code!r}, or does not show it yet.\n"
                "Wait with MediquoPatientSensor, or set `missing_ok`.",
                status=404,
            )


class MediquoAuditPatientsOperator(MediquoOperator):
    """Check that mediQuo has the members as they were sent, by reading a random sample back.

    The next run of a sync sends wrong members again. Run the audit when no sync runs: what was just
    sent may not be visible yet.

    :param state_conn_id: ID of the SQL connection whose database has the state.
    :param sample_size: how many members to read. If none of 300 is wrong, at most 1% of all are
        wrong, with 95% confidence; with 3,000, at most 0.1%.
    :param max_wrong: how many of them may be wrong before the task fails: a count, or a fraction.
    :param mediquo_conn_id: ID of a connection of type `mediquo`.

    https://sdk.mediquo.com/docs/patients#get-patient
    """

    template_fields: Sequence[str] = (
        *MediquoOperator.template_fields,
        "state_conn_id",
        "sample_size",
        "max_wrong",
    )

    def __init__(
        self,
        *,
        state_conn_id: str,
        sample_size: int | str = 300,
        max_wrong: float | str = 0,
        **kwargs: Unpack[MediquoArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.state_conn_id = state_conn_id
        self.sample_size = sample_size
        self.max_wrong = max_wrong

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the report: counts, the bound, and up to 20 codes. It is also the XCom
        `mediquo_audit`, which a task that fails leaves too.
        """
        from airflow_provider_mediquo.api.errors import AuditError
        from airflow_provider_mediquo.api.upload.options import check_limit, is_within

        max_wrong, size = rendered_number(self.max_wrong), rendered_number(self.sample_size)
        with fail_without_retry(), failing_on_value_errors():
            check_limit("max_wrong", max_wrong)
            report = self._hook.audit_patients(state_conn_id=self.state_conn_id, sample_size=size)
            self.log.info("%s", str(report).replace("\n", " "))
            if self.do_xcom_push:
                context["ti"].xcom_push(key=AUDIT_KEY, value=report.as_dict())
            if not is_within(max_wrong, report.wrong, report.checked):
                raise AuditError(
                    f"{report}\nThat is more than `max_wrong` ({max_wrong}). The next run of the sync "
                    "sends them again. If mediQuo was changed by hand, find out why."
                )
        return report.as_dict()


class MediquoAuthenticatePatientOperator(TextCodes, MediquoOperator):
    """Check that a patient can log in to the widget. To get the token itself, call the hook.

    :param code: the patient's code in your system.
    :param mediquo_conn_id: ID of a connection of type `mediquo`.

    https://sdk.mediquo.com/docs/patients#authenticate
    """

    template_fields: Sequence[str] = (*MediquoOperator.template_fields, "code")

    def __init__(self, *, code: str, **kwargs: Unpack[MediquoArguments]) -> None:
        super().__init__(**kwargs)
        self.code = code

    def execute(self, context: Context) -> dict[str, str]:
        """Return the code and the token type. The token itself is not returned."""
        with fail_without_retry(), closing(self._hook.get_conn()):
            token = self._hook.authenticate_patient(self.code)
        return {"code": self.code, "token_type": token.token_type}


def _is_more_than_json(value: Any) -> bool:
    """Whether it holds a key such as `__classname__`, which Airflow deserializes to an object."""
    if isinstance(value, list):
        return any(map(_is_more_than_json, value))
    if not isinstance(value, dict):
        return False
    return any(name.startswith("__") or _is_more_than_json(value[name]) for name in value)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
