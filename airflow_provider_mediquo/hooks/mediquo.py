"""The hook: a client for mediQuo, built from an Airflow connection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, Unpack

from airflow.providers.common.compat.sdk import AirflowFailException, BaseHook
from airflow.sdk.log import mask_secret

from airflow_provider_mediquo.api.client.stop_flag import StopFlag
from airflow_provider_mediquo.hooks.connection import read_connection

if TYPE_CHECKING:
    from airflow_provider_mediquo.api.client.client import MediquoClient
    from airflow_provider_mediquo.api.client.settings import Settings
    from airflow_provider_mediquo.api.patients.endpoints import AccessToken
    from airflow_provider_mediquo.api.report import UploadReport
    from airflow_provider_mediquo.api.sync.audit import AuditReport
    from airflow_provider_mediquo.api.sync.forgetting import Forgotten
    from airflow_provider_mediquo.api.sync.settings import Holder
    from airflow_provider_mediquo.api.upload.options import UploadArguments, UploadOptions
    from airflow_provider_mediquo.api.upload.runner import Upload

_NOBODY = "airflow-connection-test"


class MediquoHook(BaseHook):
    """Calls mediQuo with the keys of an Airflow connection.

    :param mediquo_conn_id: ID of a connection of type `mediquo`.
    """

    conn_name_attr = "mediquo_conn_id"
    default_conn_name = "mediquo_default"
    conn_type = "mediquo"
    hook_name = "mediQuo"

    def __init__(self, mediquo_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.mediquo_conn_id = mediquo_conn_id
        self._uploads: list[Upload] = []
        self.killed = StopFlag()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out keys and records: a copy reads the connection again."""
        own = {"settings", "_client", "_uploads"}
        state = {name: value for name, value in self.__dict__.items() if name not in own}
        return state | {"_uploads": []}

    def get_conn(self) -> MediquoClient:
        """Return the client, the same one for each call."""
        return self._client

    def upsert_patients(
        self,
        patients: Iterable[Any],
        *,
        rejects_name: str | None = None,
        **options: Unpack[UploadArguments],
    ) -> UploadReport:
        """Create or update patients, at most 100 per request, and return the ledger.

        Raises ValueError for an invalid option, AirflowNotFoundException if there is no such connection,
        AirflowFailException if `state_conn_id` is not an SQL database, and what the source raises;
        otherwise a MediquoError. Its `report` is the ledger; None if the connection is invalid.

        :param patients: one mapping (field -> value) per patient; a generator is read as a stream.
        :param rejects_name: name of the reject report in `rejects_path`; default: the current time.
        :param options: the fields of `api.upload.options.UploadOptions`.

        https://sdk.mediquo.com/docs/patients#create-or-update-patients
        """
        from airflow_provider_mediquo.api.upload.options import UploadOptions
        from airflow_provider_mediquo.hooks.reports import file_name

        return self.upload(patients, UploadOptions(**options), rejects_name=file_name(rejects_name))

    def upload(
        self,
        patients: Iterable[Any],
        options: UploadOptions,
        *,
        rejects_name: str | None = None,
        held_by: Holder | None = None,
    ) -> UploadReport:
        """Do the same as `upsert_patients`, with an UploadOptions object.

        :param held_by: named in the error of a second run of the same sync; default: this process.
        """
        from airflow_provider_mediquo.api.client.client import MediquoClient
        from airflow_provider_mediquo.api.upload.reject_log import RejectLog
        from airflow_provider_mediquo.api.upload.runner import Upload
        from airflow_provider_mediquo.hooks.reports import report_files
        from airflow_provider_mediquo.hooks.state import sync_run_of

        rejects = RejectLog(*report_files(options, rejects_name))
        name = options.sync_name or self.mediquo_conn_id
        sync = sync_run_of(options, self.settings, name, held_by, self.killed)
        with closing(MediquoClient(self.settings, killed=self.killed)) as client:
            upload = Upload(client, options, rejects, sync=sync)
            self._uploads.append(upload)
            if self.killed.is_set():  # before the source was ready
                upload.stop()
            try:
                return upload.run(patients)
            finally:
                self._uploads.remove(upload)

    def audit_patients(self, *, state_conn_id: str, sample_size: int = 300) -> AuditReport:
        """Read a random sample of the members back, and compare it with what was sent.

        The next run of a sync sends wrong members again. Raises a MediquoError if the sample cannot
        be read, ValueError for an invalid `sample_size`.

        :param state_conn_id: ID of the SQL connection whose database has the state.
        :param sample_size: how many to read. If none of 300 is wrong, at most 1% of all are wrong,
            with 95% confidence; with 3,000, at most 0.1%.

        https://sdk.mediquo.com/docs/patients#get-patient
        """
        from airflow_provider_mediquo.hooks.state import audit_of

        return audit_of(self.settings, self.killed, state_conn_id, sample_size)

    def export_receipts(self, path: str | PathLike[str], *, state_conn_id: str) -> int:
        """Write the receipts of all runs of a state as CSV, the oldest first; return how many.

        Each says what a run sent, by counts and names of fields; no code and no value of a patient.
        Does not call mediQuo.

        :param path: a file, local or on any storage of ObjectStoragePath; it is replaced.
        :param state_conn_id: ID of the SQL connection whose database has the state.
        """
        from airflow_provider_mediquo.hooks.receipts import export

        return export(state_conn_id, path, self.killed)

    def forget_patient(self, code: Any, *, state_conn_id: str) -> Forgotten:
        """Delete a person from a state, for all syncs; return where else the code may be.

        Raises StateError while a sync of this state runs, ValueError for an invalid code. Does not
        call mediQuo: the patient stays there. A person who is still in a source is sent again, as a
        new member.

        :param state_conn_id: ID of the SQL connection whose database has the state.
        """
        from airflow_provider_mediquo.hooks.state import forget_in

        return forget_in(state_conn_id, code, self.killed)

    def stop(self) -> None:
        """Stop every request, running or still to come, because the task is being killed.

        A signal handler may call it: it takes no lock.
        """
        self.killed.set()
        with ExitStack() as stack:  # stops them all, even if one leaves its source by an exception
            for upload in [*self._uploads]:
                stack.callback(upload.stop)

    def get_patient(self, code: str) -> dict[str, Any] | None:
        """Return a patient as mediQuo shows it, with times in UTC; None if mediQuo has no such patient.

        Raises InvalidPatientsError for an invalid code, otherwise the MediquoError of the last attempt.

        https://sdk.mediquo.com/docs/patients#get-patient
        """
        from airflow_provider_mediquo.api.patients.endpoints import get

        return self.get_conn().send(get(code)).value

    def authenticate_patient(self, code: str) -> AccessToken:
        """Return a patient's token for the widget. It is valid for 24 hours and masked in logs.

        Raises PatientNotFoundError if mediQuo does not know the patient (yet).

        https://sdk.mediquo.com/docs/patients#authenticate
        """
        from airflow_provider_mediquo.api.patients.endpoints import authenticate_patient

        token = authenticate_patient(self.get_conn(), code)
        mask_secret(token.access_token)
        return token

    def test_connection(self) -> tuple[bool, str]:
        """Look up a patient that does not exist, to check the host and the keys."""
        from airflow_provider_mediquo.api.client.client import MediquoClient
        from airflow_provider_mediquo.api.errors import MediquoError
        from airflow_provider_mediquo.api.patients.endpoints import get

        try:
            with closing(MediquoClient(self.settings)) as client:
                # This runs in the API server: do not block one of its threads.
                client.try_send(get(_NOBODY))
        except MediquoError as error:
            return False, error.as_line()
        return True, f"mediQuo answers at {self.settings.base_url} and accepts the keys."

    @cached_property
    def settings(self) -> Settings:
        """The validated connection. Raises ConnectionSettingsError if it is invalid."""
        found = read_connection(self.get_connection, self.mediquo_conn_id)
        if isinstance(found, Exception):
            # Without the frames it came through: their variables hold the keys.
            raise found.with_traceback(None)
        return found

    @cached_property
    def _client(self) -> MediquoClient:
        from airflow_provider_mediquo.api.client.client import MediquoClient

        return MediquoClient(self.settings, killed=self.killed)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the form's standard fields, for Airflow 3.1."""
        from airflow_provider_mediquo.hooks.form import field_behaviour

        return field_behaviour()

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's custom fields, for Airflow 3.1."""
        from airflow_provider_mediquo.hooks.form import form_widgets

        return form_widgets()


@contextmanager
def fail_without_retry() -> Iterator[None]:
    """Raise AirflowFailException, which ends the retries, for an error that a retry cannot cure.

    Like the error, it has the ledger of the upload as `report`; its `error_name` is the class of the
    error. It is not chained, because Airflow would log the same message once for each.
    """
    from airflow_provider_mediquo.api.errors import MediquoError

    try:
        yield
    except MediquoError as error:
        if error.can_retry:
            raise
        failure = AirflowFailException(str(error))
        failure.report = error.report  # type: ignore[attr-defined]  # for callbacks
        failure.error_name = type(error).__name__  # type: ignore[attr-defined]  # for callbacks
        raise failure from None
