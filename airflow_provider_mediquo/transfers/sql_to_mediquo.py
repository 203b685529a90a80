"""Upsert patients from any SQL database that has an Airflow connection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mediquo.hooks.database import database_hook
from airflow_provider_mediquo.operators.base import MediquoUpsertBaseOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.common.sql.hooks.sql import DbApiHook

    from airflow_provider_mediquo.arguments import UpsertArguments


class SqlToMediquoOperator(MediquoUpsertBaseOperator):
    """Upsert the rows of an SQL statement, read as a stream in constant memory.

    Each column maps to the patient field of the same name, or to the field that `columns` gives.
    An unknown column fails the task unless `columns` maps it to None.

    :param sql_conn_id: ID of a connection to an SQL database (its hook is a DbApiHook).
    :param sql: one SELECT statement, or the path of a file that ends in `.sql`.
    :param parameters: parameters of the statement, in the style of the database's driver.

    The other parameters are those of MediquoUpsertBaseOperator.
    """

    template_fields: Sequence[str] = (
        *MediquoUpsertBaseOperator.template_fields,
        "sql",
        "parameters",
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers = {"sql": "sql", "parameters": "json"}  # noqa: RUF012  # Airflow's form

    def __init__(
        self,
        *,
        sql_conn_id: str,
        sql: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        **kwargs: Unpack[UpsertArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.sql_conn_id = sql_conn_id
        self.sql = sql
        self.parameters = parameters

    def read_patients(self, context: Context) -> Iterable[Any]:
        """Return the rows."""
        from airflow_provider_mediquo.sources.columns import ColumnMapping
        from airflow_provider_mediquo.sources.sql import Rows

        if not isinstance(self.sql, str):
            raise AirflowFailException("`sql` must be one SELECT statement, as text.")
        mapping = ColumnMapping(self.columns, is_transformed=self.transform is not None)
        return Rows(
            self._database,
            self.sql,
            self.parameters,
            lambda names: mapping.check(names, "The statement"),
        )

    def lineage_inputs(self) -> list[Dataset]:
        """Return the tables that the statement reads."""
        from airflow.providers.openlineage.sqlparser import get_openlineage_facets_with_sql

        lineage = get_openlineage_facets_with_sql(
            hook=self._database,
            sql=self.sql,
            conn_id=self.sql_conn_id,
            database=None,
            use_connection=False,
        )
        return lineage.inputs if lineage else []

    @cached_property
    def _database(self) -> DbApiHook:
        return database_hook(self.sql_conn_id)
