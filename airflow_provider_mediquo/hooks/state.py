"""The state: what mediQuo is known to have, in a database with an Airflow connection."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

from airflow_provider_mediquo.api.client.client import MediquoClient
from airflow_provider_mediquo.api.sync import statements
from airflow_provider_mediquo.api.sync.audit import MAX_SAMPLE, AuditReport, audit
from airflow_provider_mediquo.api.sync.forgetting import Forgotten, forget
from airflow_provider_mediquo.api.sync.run import SyncRun
from airflow_provider_mediquo.api.sync.settings import Holder, SyncSettings
from airflow_provider_mediquo.api.sync.store import Store
from airflow_provider_mediquo.api.upload.options import UploadOptions, as_of_microseconds
from airflow_provider_mediquo.hooks.database import engine_of

if TYPE_CHECKING:
    from airflow_provider_mediquo.api.client.settings import Settings
    from airflow_provider_mediquo.api.client.stop_flag import StopFlag


def sync_run_of(
    options: UploadOptions,
    settings: Settings,
    name: str,
    held_by: Holder | None,
    killed: StopFlag,
) -> SyncRun | None:
    """Return what an upload needs for its state; None if it has none."""
    if not options.state_conn_id:
        return None
    run = SyncSettings(
        name=name,
        secret_key=settings.secret_key,
        reading=options.reading(),
        dropped=options.dropped(),
        resend_after=options.resend_after,
        receipts_for=options.receipts_for,
        conn_id=options.state_conn_id,
        held_by=held_by or Holder(f"process {os.getpid()} on {socket.gethostname()}"),
        as_of=as_of_microseconds(options.as_of),
        dry_run=options.dry_run,
    )
    return SyncRun(Store(engine_of(options.state_conn_id), killed), run)


def audit_of(settings: Settings, killed: StopFlag, conn_id: str, sample_size: int) -> AuditReport:
    """Audit the state of a connection; raises ValueError for an invalid sample size.

    With a client of its own, which the audit aborts if it is cut short.
    """
    if type(sample_size) is not int or not 1 <= sample_size <= MAX_SAMPLE:
        raise ValueError(f"`sample_size` must be a whole number from 1 to {MAX_SAMPLE:,}")
    client, state = MediquoClient(settings, killed=killed), Store(engine_of(conn_id), killed)
    with closing(client), closing(state):
        return audit(state, client, sample_size)


def forget_in(conn_id: str, code: Any, killed: StopFlag) -> Forgotten:
    """Delete a person from the state of a connection."""
    with closing(Store(engine_of(conn_id), killed)) as state:
        return forget(state, code)


def state_of_failed_task(conn_id: str, killed: StopFlag) -> Store:
    """Return the state of a connection, for a task that waits only ten seconds more for it."""
    state = Store(engine_of(conn_id), killed)
    state.abort()
    return state


def put_run_in_doubt(store: Store, name: str, run: int) -> int:
    """Let the next run of a sync send again what one of its runs sent; return how many records."""
    if not store.check_version():
        return 0
    return store.write(lambda connection: statements.doubt_run(connection, name, run))
