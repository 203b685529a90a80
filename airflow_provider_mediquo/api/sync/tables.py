"""The tables of the state: what mediQuo is known to have, and what was sent to it when.

No value of a patient is in them: codes, keyed fingerprints, times, and whether there is a plan. The
receipts have no code either.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    func,
)
from sqlalchemy.dialects import mysql

from airflow_provider_mediquo.api.report import OUTCOMES

VERSION = 1
"""Of the tables. A package that does not know it leaves them alone."""


def _exact(length: int) -> String:
    """Text that is compared exactly: MySQL's default takes `a1` and `A1` for the same."""
    exact = mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return String(length).with_variant(exact, "mysql").with_variant(exact, "mariadb")


metadata = MetaData()

STATE = Table(
    "mediquo_state",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
)

SYNC = Table(
    "mediquo_sync",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", _exact(250), nullable=False, unique=True),
    Column("run", BigInteger, nullable=False),  # number of the last one
    Column("as_of", BigInteger),  # of the newest source, in microseconds since 1970
    Column("holder", String(32)),  # who runs it now: a random token
    Column("held_by", Text),  # in words
    Column("since", DateTime),  # UTC, by the database's clock
    Column("heartbeat", DateTime),
    Column("heartbeats", BigInteger, nullable=False),  # so that each one changes the row
)

MEMBER = Table(
    "mediquo_member",
    metadata,
    Column("code", _exact(255), primary_key=True),
    Column("sync_id", Integer),  # the last one whose record mediQuo acknowledged
    Column("run", BigInteger),  # of that sync
    Column("fingerprint", BigInteger),  # of what was sent
    Column("source", BigInteger),  # of the record as it came
    Column("proof", Text),  # one fingerprint per field, for audits
    Column("has_plan", SmallInteger, nullable=False),
    Column("sent_at", BigInteger),  # seconds since 1970
    Column("in_doubt_by", Integer),  # the sync, its owner now, whose request has no answer yet
    Column("in_doubt_since", BigInteger),  # seconds since 1970
)

RECEIPT = Table(
    "mediquo_receipt",
    metadata,
    Column("id", String(32), primary_key=True),  # random
    Column("sync_id", Integer, nullable=False),
    Column("sync", Text, nullable=False),  # its name then
    Column("run", BigInteger, nullable=False),
    Column("held_by", Text),  # in words
    Column("dag_id", Text),
    Column("run_id", Text),
    Column("task_id", Text),
    Column("started_at", DateTime, nullable=False),  # UTC, by the database's clock
    Column("ended_at", DateTime),
    Column("outcome", String(20), nullable=False),
    Column("error", Text),  # its class
    *(Column(name, BigInteger, nullable=False) for name in OUTCOMES),
    Column("fields", Text, nullable=False),  # names
    Column("recipient", Text),
    Column("version", Text),  # of the package
    Column("key_id", Text),
)


def is_of(sync_id: int) -> Any:
    """Return the condition that a member belongs to a sync: the last one that sent it."""
    return func.coalesce(MEMBER.c.in_doubt_by, MEMBER.c.sync_id) == sync_id
