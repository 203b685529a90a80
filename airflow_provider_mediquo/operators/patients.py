"""Upsert patients, read one, prove that one can log in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowFailException, Asset, BaseOperator
from airflow.sdk.definitions.asset import AssetRef

from airflow_provider_mediquo.hooks.mediquo import MediquoHook, fail_without_retry
from airflow_provider_mediquo.operators.hidden import HiddenPatients, hide, resolve

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.common.compat.sdk import Context, XComArg
    from airflow.providers.openlineage.extractors import OperatorLineage


class _MediquoOperator(BaseOperator):
    """Talks to mediQuo, and stops when the task is killed."""

    template_fields: Sequence[str] = ("mediquo_conn_id",)
    ui_color = "#d9f2ec"

    def __init__(self, *, mediquo_conn_id: str = MediquoHook.default_conn_name, **kwargs: Any):
        super().__init__(**kwargs)
        self.mediquo_conn_id = mediquo_conn_id

    def on_kill(self) -> None:
        """End every wait; what was sent is in the ledger of the log."""
        self._hook.stop()

    @cached_property
    def _hook(self) -> MediquoHook:
        return MediquoHook(self.mediquo_conn_id)


class MediquoUpsertBaseOperator(_MediquoOperator, ABC):
    """What every upsert shares: the options, the ledger as XCom, an end when the task is killed.

    :param mediquo_conn_id: a connection of the type `mediquo`.
    :param max_rejects: how many rejected records leave the task green: a number, or a share below
        1.0 of those read. Good records are sent whatever it says.
    :param rejects_path: a folder for reject reports, on any storage that ObjectStoragePath
        reaches; the file in it is `<dag>/<run>/<task>-<map index>-<try>.jsonl`, in an object store
        a folder of parts. Default: the first 20 are logged.
    :param max_without_plan: how many patients may be sent without a plan, which unsubscribes
        them: a number, a share below 1.0, or None for no limit. Default: half of the records. The
        task stops before its first request if more than half of the first 1,000 records have no
        plan, and later before the request that would exceed half of all so far. A source of fewer
        than 100 records is not checked.
    :param columns: renames, `{"member_id": "code"}`; None drops a column.
    :param chunk_size: patients in a request, 1 to 100.
    :param max_in_flight: requests at once.
    """

    template_fields: Sequence[str] = (*_MediquoOperator.template_fields, "rejects_path")

    def __init__(
        self,
        *,
        max_rejects: float = 0,
        rejects_path: str | None = None,
        max_without_plan: float | None | Literal["half"] = "half",
        columns: Mapping[str, str | None] | None = None,
        chunk_size: int = 100,
        max_in_flight: int = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.max_rejects = max_rejects
        self.rejects_path = rejects_path
        self.max_without_plan = max_without_plan
        self.columns = columns
        self.chunk_size = chunk_size
        self.max_in_flight = max_in_flight

    @abstractmethod
    def read_patients(self, context: Context) -> Iterable[Any]:
        """Return the patients, as a stream where that is possible."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Send them, and return the ledger: counts and a sample of codes, never a patient.

        An asset that is an outlet of the task gets the counts as `extra` of its event.
        """
        with fail_without_retry():
            options = self._options()
            report = self._hook.upsert_patients(
                self.read_patients(context), rejects_name=_rejects_name(context), **options
            )
        for outlet in self.outlets:
            if isinstance(outlet, Asset | AssetRef):
                context["outlet_events"][outlet].extra.update(report.counts())
        return report.as_dict()

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any] | None:
        """Tell OpenLineage what is read and where it goes: names, no codes."""
        try:
            from airflow.providers.common.compat.openlineage.facet import Dataset
            from airflow.providers.openlineage.extractors import OperatorLineage
        except ImportError:
            return None
        url = urlsplit(self._hook.settings.base_url)
        mediquo = Dataset(f"{url.scheme}://{url.netloc}", f"{url.path}/patients")
        return OperatorLineage(inputs=self.lineage_inputs(), outputs=[mediquo])

    def lineage_inputs(self) -> list[Dataset]:
        """Return OpenLineage's names of what is read."""
        return []

    def _options(self) -> dict[str, Any]:
        from airflow_provider_mediquo.api.upload.options import UploadOptions

        options: dict[str, Any] = {
            "max_rejects": self.max_rejects,
            "rejects_path": self.rejects_path,
            "max_without_plan": self.max_without_plan,
            "columns": self.columns,
            "chunk_size": self.chunk_size,
            "max_in_flight": self.max_in_flight,
        }
        try:
            UploadOptions(**options)
        except ValueError as error:
            raise AirflowFailException(str(error)) from None
        return options


class MediquoUpsertPatientsOperator(MediquoUpsertBaseOperator):
    """Create or update patients in mediQuo, in requests of at most 100.

    Nothing of `patients` is shown or rendered as a template. Patients that come from another task
    have been in XCom, though: where they shall not, use `@task.mediquo_upsert`.

    :param patients: a list, or another task's output; each item a patient (field -> value) or a
        list of patients. A mapped task's output is read one by one.

    The other parameters are those of MediquoUpsertBaseOperator.

    https://sdk.mediquo.com/docs/patients#create-or-update-patients
    """

    template_fields: Sequence[str] = (*MediquoUpsertBaseOperator.template_fields, "patients")

    def __init__(self, *, patients: Sequence[Any] | XComArg, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.patients = hide(self, patients, HiddenPatients)

    def read_patients(self, context: Context) -> Iterable[Any]:
        """Return what was given or came from another task."""
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


class MediquoGetPatientOperator(_MediquoOperator):
    """Read one patient; it becomes an XCom, so name the fields that are needed.

    :param code: the patient's code in your system.
    :param fields: only these; default: all.
    :param missing_ok: return None where mediQuo has no such patient, instead of failing.
    :param mediquo_conn_id: a connection of the type `mediquo`.

    https://sdk.mediquo.com/docs/patients#get-patient
    """

    template_fields: Sequence[str] = (*_MediquoOperator.template_fields, "code")

    def __init__(
        self,
        *,
        code: str,
        fields: Sequence[str] | None = None,
        missing_ok: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.code = code
        self.fields = fields
        self.missing_ok = missing_ok

    def execute(self, context: Context) -> dict[str, Any] | None:
        """Return the patient, with times as ISO 8601 in UTC."""
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
                "This patient has a field, in `meta` maybe, whose name begins with `__`: Airflow may "
                "make an object of its own of that. Name the other fields in `fields`."
            )
        return shown

    def _check_names(self) -> None:
        fields = self.fields
        if fields is None:
            return
        if isinstance(fields, str):
            raise AirflowFailException(f"`fields` must be a list: fields=[{fields!r}].")
        if not isinstance(fields, Sequence) or not all(isinstance(name, str) for name in fields):
            raise AirflowFailException("`fields` must be a list of names.")

    def _check_fields(self, patient: Mapping[str, Any]) -> None:
        from airflow_provider_mediquo.api.patients.schema import ANSWER_FIELDS

        if unknown := sorted({*(self.fields or ())} - {*ANSWER_FIELDS, *patient}):
            raise AirflowFailException(f"`fields`: a patient has no {', '.join(unknown)}.")

    def _check_missing(self) -> None:
        from airflow_provider_mediquo.api.errors import PatientNotFoundError

        if not self.missing_ok:
            raise PatientNotFoundError(
                f"mediQuo has no patient with the code {self.code!r}, or does not show it yet. "
                "Set `missing_ok` if that is fine, or wait with MediquoPatientSensor.",
                status=404,
            )


class MediquoAuthenticatePatientOperator(_MediquoOperator):
    """Prove that a patient can log in to the widget; code that needs the token calls the hook.

    :param code: the patient's code in your system.
    :param mediquo_conn_id: a connection of the type `mediquo`.

    https://sdk.mediquo.com/docs/patients#authenticate
    """

    template_fields: Sequence[str] = (*_MediquoOperator.template_fields, "code")

    def __init__(self, *, code: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.code = code

    def execute(self, context: Context) -> dict[str, str]:
        """Return the code and the token's type; the token itself stays out of XCom."""
        with fail_without_retry(), closing(self._hook.get_conn()):
            token = self._hook.authenticate_patient(self.code)
        return {"code": self.code, "token_type": token.token_type}


def _rejects_name(context: Context) -> str:
    from airflow_provider_mediquo.api.upload.reject_files import as_name

    ti = context["ti"]
    map_index = -1 if ti.map_index is None else ti.map_index
    dag, run, task = map(as_name, (ti.dag_id, ti.run_id, ti.task_id))
    return f"{dag}/{run}/{task}-{map_index}-{ti.try_number}.jsonl"


def _is_more_than_json(value: Any) -> bool:
    """Whether a name in it is like those that tell Airflow what object to make of a mapping."""
    if isinstance(value, list):
        return any(map(_is_more_than_json, value))
    if not isinstance(value, dict):
        return False
    return any(name.startswith("__") or _is_more_than_json(value[name]) for name in value)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
