"""An Airflow connection -> a client of mediQuo."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowFailException, BaseHook
from airflow.sdk import ObjectStoragePath
from airflow.sdk.log import mask_secret

from airflow_provider_mediquo.get_provider_info import CONNECTION_TYPE

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_mediquo.api.client import MediquoClient
    from airflow_provider_mediquo.api.ledger import UploadReport
    from airflow_provider_mediquo.api.patients import AccessToken
    from airflow_provider_mediquo.api.rejects import RejectsFile
    from airflow_provider_mediquo.api.settings import Settings
    from airflow_provider_mediquo.api.upload import Upload

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
        self._upload: Upload | None = None

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
        from airflow_provider_mediquo.api.client import MediquoClient
        from airflow_provider_mediquo.api.options import UploadOptions
        from airflow_provider_mediquo.api.rejects import RejectLog
        from airflow_provider_mediquo.api.upload import Upload

        checked = UploadOptions(**options)
        rejects = RejectLog(_rejects_file(checked.rejects_path, rejects_name))
        with closing(MediquoClient(self.settings)) as client:
            self._upload = Upload(client, checked, rejects)
            return self._upload.run(patients)

    def stop(self) -> None:
        """End what is under way, because the task is being killed."""
        if "_client" in self.__dict__:
            self._client.stop(abort=True)
        if self._upload:
            self._upload.stop()

    def get_patient(self, code: str) -> dict[str, Any] | None:
        """Return a patient as mediQuo shows it, with times in UTC; None if there is none.

        https://sdk.mediquo.com/docs/patients#get-patient
        """
        from airflow_provider_mediquo.api.patients import get

        return self.get_conn().send(get(code)).value

    def authenticate_patient(self, code: str) -> AccessToken:
        """Return a patient's token for the widget, valid for 24 hours; it is masked in logs.

        Raises PatientNotFoundError if mediQuo does not know the patient (yet).

        https://sdk.mediquo.com/docs/patients#authenticate
        """
        from airflow_provider_mediquo.api.patients import authenticate_patient

        token = authenticate_patient(self.get_conn(), code)
        mask_secret(token.access_token)
        return token

    def test_connection(self) -> tuple[bool, str]:
        """Ask for a patient that nobody has, which shows whether host and keys are right."""
        from airflow_provider_mediquo.api.client import MediquoClient
        from airflow_provider_mediquo.api.errors import MediquoError
        from airflow_provider_mediquo.api.patients import get

        try:
            with closing(MediquoClient(self.settings)) as client:
                client.take_slot(get(_NOBODY))
                client.send_once(get(_NOBODY))
        except MediquoError as error:
            return False, str(error)
        return True, f"mediQuo answers at {self.settings.base_url} and accepts the keys."

    @cached_property
    def settings(self) -> Settings:
        """The connection, checked; raises ConnectionSettingsError for what cannot work."""
        return settings_of(self.get_connection(self.mediquo_conn_id))

    @cached_property
    def _client(self) -> MediquoClient:
        from airflow_provider_mediquo.api.client import MediquoClient

        return MediquoClient(self.settings)

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


def settings_of(connection: Connection) -> Settings:
    """Return what a connection says; raises ConnectionSettingsError for what cannot work."""
    from airflow_provider_mediquo.api.errors import ConnectionSettingsError
    from airflow_provider_mediquo.api.settings import (
        DEFAULT_REQUESTS_PER_MINUTE,
        DEFAULT_TIMEOUT,
        Settings,
    )

    for key in filter(None, (connection.login, connection.password)):
        mask_secret(key)
    extra = connection.extra_dejson
    if not isinstance(extra, dict) or (connection.extra and not _is_json(connection.extra)):
        raise ConnectionSettingsError("The connection's extra must be a JSON object.")
    return Settings(
        api_key=connection.login or "",
        secret_key=connection.password or "",
        base_url=_base_url(connection),
        requests_per_minute=int(_number(extra, "requests_per_minute", DEFAULT_REQUESTS_PER_MINUTE)),
        timeout=_number(extra, "timeout", DEFAULT_TIMEOUT),
        verify=_truth_or_path(extra),
        allow_http=_truth(extra, "allow_http", default=False),
    )


@contextmanager
def failing_for_good() -> Iterator[None]:
    """Turn an error that a retry cannot heal into Airflow's own that ends the retries."""
    from airflow_provider_mediquo.api.errors import MediquoError

    try:
        yield
    except MediquoError as error:
        if error.can_retry:
            raise
        raise AirflowFailException(str(error)) from error


def _base_url(connection: Connection) -> str:
    """Put the URL together: a path may come in the host or, from a URI, in the schema."""
    from airflow_provider_mediquo.api.errors import ConnectionSettingsError
    from airflow_provider_mediquo.api.settings import DEFAULT_BASE_URL

    host = (connection.host or "").strip() or DEFAULT_BASE_URL
    url = host if "://" in host else f"https://{host}"
    path = (connection.schema or "").strip().strip("/")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return url  # Settings says what is wrong with it
    if connection.port and port not in (None, connection.port):
        raise ConnectionSettingsError("The Base URL (Host) and Port name different ports.")
    if connection.port and not port:
        parts = parts._replace(netloc=f"{parts.netloc}:{connection.port}")
    if path and (not connection.host or not parts.path.strip("/")):
        parts = parts._replace(path=f"/{path}")
    return parts.geturl()


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _number(extra: Mapping[str, Any], name: str, default: float) -> float:
    from airflow_provider_mediquo.api.errors import ConnectionSettingsError

    value = extra.get(name)
    if value is None or value == "":
        return default
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isfinite(number):
        return number
    raise ConnectionSettingsError(f"`{name}` in the connection's extra must be a number.")


def _truth_or_path(extra: Mapping[str, Any]) -> bool | str:
    value = extra.get("verify")
    if isinstance(value, str) and value.strip().lower() not in ("", "true", "false"):
        return value.strip()
    return _truth(extra, "verify", default=True)


def _truth(extra: Mapping[str, Any], name: str, *, default: bool) -> bool:
    from airflow_provider_mediquo.api.errors import ConnectionSettingsError

    value = extra.get(name)
    if value is None or value == "":
        return default
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise ConnectionSettingsError(f"`{name}` in the connection's extra must be true or false.")


def _rejects_file(folder: str | None, name: str | None) -> RejectsFile | None:
    from airflow_provider_mediquo.api.rejects import LocalFile, StoredParts

    if not folder:
        return None
    name = name or f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}.jsonl"
    local = folder.removeprefix("file://")
    if "://" not in local:
        return LocalFile(Path(local) / name)
    return StoredParts(ObjectStoragePath(folder) / name)
