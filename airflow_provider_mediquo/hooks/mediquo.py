"""An Airflow connection -> a client of mediQuo."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowNotFoundException,
    BaseHook,
)
from airflow.sdk import ObjectStoragePath
from airflow.sdk.log import mask_secret

from airflow_provider_mediquo.get_provider_info import CONNECTION_TYPE
from airflow_provider_mediquo.hooks.connection import ENCODE, parse_connection

if TYPE_CHECKING:
    from airflow_provider_mediquo.api.client.client import MediquoClient
    from airflow_provider_mediquo.api.client.settings import Settings
    from airflow_provider_mediquo.api.errors import ConnectionSettingsError
    from airflow_provider_mediquo.api.patients.endpoints import AccessToken
    from airflow_provider_mediquo.api.report import UploadReport
    from airflow_provider_mediquo.api.upload.reject_files import RejectFile
    from airflow_provider_mediquo.api.upload.runner import Upload

_NOBODY = "airflow-connection-test"


class MediquoHook(BaseHook):
    """Talks to mediQuo with the keys of a connection.

    :param mediquo_conn_id: a connection of the type `mediquo`.
    """

    conn_name_attr = "mediquo_conn_id"
    default_conn_name = "mediquo_default"
    conn_type = "mediquo"
    hook_name = "mediQuo"

    def __init__(self, mediquo_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.mediquo_conn_id = mediquo_conn_id
        self._uploads: list[Upload] = []
        self._is_stopped = False

    def __getstate__(self) -> dict[str, Any]:
        """Take no keys and no records along: a copy, wherever it is, reads the connection anew."""
        own = {"settings", "_client", "_uploads"}
        state = {name: value for name, value in self.__dict__.items() if name not in own}
        return state | {"_uploads": []}

    def get_conn(self) -> MediquoClient:
        """Return a client; the same one each time."""
        return self._client

    def upsert_patients(
        self, patients: Iterable[Any], *, rejects_name: str | None = None, **options: Any
    ) -> UploadReport:
        """Create or update patients, in requests of at most 100, and return the ledger.

        :param patients: mappings of fields to values; a generator is read as a stream.
        :param rejects_name: name of the rejects file in `rejects_path`; default: one of its own.
        :param options: see `api.options.UploadOptions`. Raises ValueError for what makes no sense,
            otherwise a MediquoError whose `report` is the ledger.

        https://sdk.mediquo.com/docs/patients#create-or-update-patients
        """
        from airflow_provider_mediquo.api.client.client import MediquoClient
        from airflow_provider_mediquo.api.upload.options import UploadOptions
        from airflow_provider_mediquo.api.upload.reject_log import RejectLog
        from airflow_provider_mediquo.api.upload.runner import Upload

        checked = UploadOptions(**options)
        rejects = RejectLog(_rejects_file(checked.rejects_path, rejects_name))
        with closing(MediquoClient(self.settings)) as client:
            upload = Upload(client, checked, rejects)
            self._uploads.append(upload)
            if self._is_stopped:  # while the source was made ready, say
                upload.stop()
            try:
                return upload.run(patients)
            finally:
                self._uploads.remove(upload)

    def stop(self) -> None:
        """End what is under way, and what would begin, because the task is being killed."""
        self._is_stopped = True
        if "_client" in self.__dict__:
            self._client.stop(abort=True)
        with ExitStack() as every:  # also where one of them leaves its source by an exception
            for upload in [*self._uploads]:
                every.callback(upload.stop)

    def get_patient(self, code: str) -> dict[str, Any] | None:
        """Return a patient as mediQuo shows it, with times in UTC; None if there is none.

        https://sdk.mediquo.com/docs/patients#get-patient
        """
        from airflow_provider_mediquo.api.patients.endpoints import get

        return self.get_conn().send(get(code)).value

    def authenticate_patient(self, code: str) -> AccessToken:
        """Return a patient's token for the widget, valid for 24 hours; it is masked in logs.

        Raises PatientNotFoundError if mediQuo does not know the patient (yet).

        https://sdk.mediquo.com/docs/patients#authenticate
        """
        from airflow_provider_mediquo.api.patients.endpoints import authenticate_patient

        token = authenticate_patient(self.get_conn(), code)
        mask_secret(token.access_token)
        return token

    def test_connection(self) -> tuple[bool, str]:
        """Ask for a patient that nobody has, which shows whether host and keys are right."""
        from airflow_provider_mediquo.api.client.client import MediquoClient
        from airflow_provider_mediquo.api.errors import MediquoError
        from airflow_provider_mediquo.api.patients.endpoints import get

        try:
            with closing(MediquoClient(self.settings)) as client:
                # No waiting: this is a thread of the API server.
                client.try_send(get(_NOBODY))
        except MediquoError as error:
            return False, str(error)
        return True, f"mediQuo answers at {self.settings.base_url} and accepts the keys."

    @cached_property
    def settings(self) -> Settings:
        """The connection, checked; raises ConnectionSettingsError for what cannot work."""
        found = self._read_settings()
        if isinstance(found, Exception):
            # Without the functions it came through, whose variables are the keys.
            raise found.with_traceback(None)
        return found

    def _read_settings(self) -> Settings | ConnectionSettingsError:
        from airflow_provider_mediquo.api.errors import ConnectionSettingsError

        try:
            connection = self.get_connection(self.mediquo_conn_id)
        except AirflowNotFoundException as error:
            # Airflow says the same of a connection that it cannot read.
            raise AirflowNotFoundException(
                f"{error}, or Airflow cannot read it: check its JSON; {ENCODE}."
            ) from None
        try:
            return parse_connection(connection)
        except ConnectionSettingsError as error:
            return error

    @cached_property
    def _client(self) -> MediquoClient:
        from airflow_provider_mediquo.api.client.client import MediquoClient

        client = MediquoClient(self.settings)
        if self._is_stopped:
            client.stop(abort=True)
        return client

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Describe the standard fields to Airflow 3.1."""
        behaviour = CONNECTION_TYPE["ui-field-behaviour"]
        return {name.replace("-", "_"): value for name, value in behaviour.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Describe the fields of our own to Airflow 3.1."""
        from wtforms import BooleanField, IntegerField, StringField

        widgets = {"integer": IntegerField, "boolean": BooleanField, "string": StringField}
        return {
            name: widgets[field["schema"]["type"][0]](
                field["label"],
                description=field["description"],
                default=field["schema"]["default"],
            )
            for name, field in CONNECTION_TYPE["conn-fields"].items()
        }


@contextmanager
def fail_without_retry() -> Iterator[None]:
    """Turn an error that a retry cannot heal into Airflow's own that ends the retries."""
    from airflow_provider_mediquo.api.errors import MediquoError

    try:
        yield
    except MediquoError as error:
        if error.can_retry:
            raise
        raise AirflowFailException(str(error)) from error


def _rejects_file(folder: str | None, name: str | None) -> RejectFile | None:
    from airflow_provider_mediquo.api.upload.reject_files import LocalFile, StoredParts

    if not folder:
        return None
    name = name or f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}.jsonl"
    local = folder.removeprefix("file://")
    if "://" not in local:
        return LocalFile(Path(local) / name)
    return StoredParts(ObjectStoragePath(folder) / name)
