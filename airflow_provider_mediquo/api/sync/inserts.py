"""Inserts members."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import insert, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from airflow_provider_mediquo.api.sync.tables import MEMBER


def insert_members(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows of the table of the members.

    PostgreSQL gets all of them as one value: parameter by parameter they would take eight times as
    much CPU, here and there.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_FROM_JSON, {"rows": json.dumps(rows, ensure_ascii=False)})
    else:
        connection.execute(insert(MEMBER), rows)


def _from_json() -> Any:
    names = ", ".join(column.name for column in MEMBER.columns)
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # untyped there
    types = ", ".join(f"{each.name} {each.type.compile(dialect)}" for each in MEMBER.columns)
    return text(
        f"INSERT INTO {MEMBER.name} ({names}) "
        f"SELECT {names} FROM json_to_recordset(CAST(:rows AS json)) AS given ({types})"
    )


_FROM_JSON = _from_json()
