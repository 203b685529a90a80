"""Upsert patients from files: CSV, JSON Lines and Parquet, on any storage of ObjectStoragePath."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mediquo.operators.base import MediquoUpsertBaseOperator
from airflow_provider_mediquo.operators.rendered import none_if_rendered

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_mediquo.arguments import UpsertArguments
    from airflow_provider_mediquo.sources.files.reader import FileReadOptions


class FileToMediquoOperator(MediquoUpsertBaseOperator):
    """Upsert the records of files, read as a stream in constant memory.

    The format is detected from the content, not from the file name: Parquet; JSON Lines if the
    file begins with `{`; otherwise CSV with a header. CSV and JSON Lines can be compressed with
    gzip. Each column maps to the patient field of the same name, or to the field that `columns`
    gives. In CSV and Parquet, an unknown column fails the task unless `columns` maps it to None.

    A missing file fails the task, and a retry looks for it again. An empty file logs a warning.

    :param path: a file, a folder or a glob, local or as a URL (`s3://bucket/members/*.csv`).
        Folders are read recursively in the order of their names, skipping names that start with
        `_` or `.`.
    :param path_conn_id: ID of the connection to the storage, if it needs one.
    :param encoding: of CSV and JSON Lines. A byte order mark (BOM) overrides it.
    :param delimiter: of CSV. Default: whichever of `,` `;` tab `|` finds the columns `code` and
        `first_name` in the header.

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
        **kwargs: Unpack[UpsertArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.path_conn_id = path_conn_id
        self.encoding = encoding
        self.delimiter = delimiter

    def read_patients(self, context: Context) -> Iterable[Any]:
        """Return the records, each with its file and line number."""
        from airflow_provider_mediquo.sources.files.reader import read_files

        path = none_if_rendered(self.path)
        if isinstance(path, Collection) and not isinstance(path, str):
            raise AirflowFailException(
                "`path` must be one file, folder or glob.\nFor a list, map the task: expand(path=...)."
            )
        return read_files("" if path is None else str(path), self.path_conn_id, self._reading())

    def lineage_inputs(self) -> list[Dataset]:
        """Return the path."""
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
            mapping = ColumnMapping(self.columns, is_transformed=self.transform is not None)
            return FileReadOptions(mapping, self.encoding, self.delimiter)
        except ValueError as error:
            problem = str(error)
        raise AirflowFailException(problem)
