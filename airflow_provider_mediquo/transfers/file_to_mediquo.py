"""From files: CSV, JSON lines and Parquet, on any storage that ObjectStoragePath reaches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mediquo.operators.patients import MediquoUpsertBaseOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_mediquo.sources.files.reader import FileReadOptions


class FileToMediquoOperator(MediquoUpsertBaseOperator):
    """Upsert the records of files, read as a stream: any number of them in constant memory.

    What a file is, is seen from its first bytes, whatever its name: Parquet, JSON lines where it
    begins with `{`, else CSV with a header; the latter two also as gzip. A column is the field of
    its name, or the one that `columns` gives it. In CSV and Parquet one that is no field of a
    patient is an error, unless `columns` maps it to None.

    A file that is not there (yet) fails the task, and a retry looks again. An empty one is logged.

    :param path: a file, a folder or a glob, local or as a URL (`s3://bucket/members/*.csv`). A
        folder is read with all that is below it, by name, but for names that begin with `_` or `.`.
    :param path_conn_id: Airflow's connection to the storage, if it needs one.
    :param encoding: of CSV and JSON lines; a byte order mark beats it.
    :param delimiter: of CSV. Default: the one out of `,` `;` tab `|` with which the header has
        `code` and `first_name`.

    The other parameters are those of MediquoUpsertBaseOperator.
    """

    template_fields: Sequence[str] = (*MediquoUpsertBaseOperator.template_fields, "path")

    def __init__(
        self,
        *,
        path: str,
        path_conn_id: str | None = None,
        encoding: str = "utf-8",
        delimiter: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.path_conn_id = path_conn_id
        self.encoding = encoding
        self.delimiter = delimiter

    def read_patients(self, context: Context) -> Iterable[Any]:
        """Return the records, each with its file and line."""
        from airflow_provider_mediquo.sources.files.reader import read_files

        return read_files(str(self.path), self.path_conn_id, self._reading())

    def lineage_inputs(self) -> list[Dataset]:
        """Return the path, as it is given."""
        from airflow.providers.common.compat.openlineage.facet import Dataset

        scheme, _, rest = str(self.path).rpartition("://")
        if scheme in ("", "file"):
            return [Dataset("file", rest)]
        bucket, _, key = rest.partition("/")
        return [Dataset(f"{scheme}://{bucket.rpartition('@')[2]}", key)]

    def _reading(self) -> FileReadOptions:
        from airflow_provider_mediquo.sources.columns import ColumnMapping
        from airflow_provider_mediquo.sources.files.reader import FileReadOptions

        try:
            return FileReadOptions(ColumnMapping(self.columns), self.encoding, self.delimiter)
        except ValueError as error:
            raise AirflowFailException(str(error)) from None
