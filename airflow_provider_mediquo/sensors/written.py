"""What a sensor waits for: the ledgers of upserts, or codes."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mediquo.api.client.stop_flag import StopFlag
from airflow_provider_mediquo.api.text import counted

if TYPE_CHECKING:
    from airflow_provider_mediquo.api.sync.store import Store

log = logging.getLogger(__name__)


def ledgers_of(written: Any) -> list[Any]:
    """Return a list for one ledger or several."""
    many = isinstance(written, Iterable) and not isinstance(written, Mapping)
    return [*written] if many else [written]


def expected_of(ledgers: Sequence[Any]) -> dict[str, str | None]:
    """Return code -> proof of what was written."""
    expected: dict[str, str | None] = {}
    for ledger in ledgers:
        if ledger is None:
            raise AirflowFailException(
                "`written` is None: the upsert failed, was skipped, or has do_xcom_push=False.\n"
                "To wait for what a failed upsert sent, take its ledger from the XCom `mediquo_ledger`: "
                "written=upsert.output['mediquo_ledger']."
            )
        if not isinstance(ledger, Mapping) or not isinstance(ledger.get("sample"), Mapping):
            raise AirflowFailException(
                "`written` must be the ledger of an upsert or a list of ledgers: "
                "written=upsert.output."
            )
        expected |= ledger["sample"]
    if not expected and not all(map(_sent_nothing, ledgers)):
        log.warning("Nothing to wait for: the sample of `written` has no patients.")
    return expected


def put_in_doubt(ledgers: Sequence[Any], killed: StopFlag) -> None:
    """Let the next run of each sync send again what was not seen."""
    found = (ledger.get("sync") for ledger in ledgers if isinstance(ledger, Mapping))
    syncs = [sync for sync in found if isinstance(sync, Mapping) and sync.get("run")]
    if not syncs:
        return
    from airflow_provider_mediquo.hooks.state import put_run_in_doubt, state_of_failed_task

    with ExitStack() as closing_states:
        # One for each database: it waits only once for one that is silent.
        states: dict[str, Store] = {}
        for sync in syncs:
            name, run, conn_id = sync["name"], sync["run"], sync["state_conn_id"]
            try:
                if conn_id not in states:
                    states[conn_id] = state_of_failed_task(conn_id, killed)
                    closing_states.callback(states[conn_id].close)
                count = put_run_in_doubt(states[conn_id], name, run)
            except Exception as error:  # noqa: BLE001  # the task has its error
                problem = type(error).__name__
                log.warning(
                    "The records of run %s of %s could not be put in doubt (%s).",
                    run,
                    name,
                    problem,
                )
            else:
                log.info("The next run sends %s again.", counted(count, "record"))


def stable(value: Any) -> Any:
    """Return a list for a generator or set, whose text would be a new one at each DAG parse."""
    if isinstance(value, AbstractSet):
        return sorted(value, key=repr)
    return list(value) if isinstance(value, Iterator) else value


def listed(codes: Any) -> list[Any]:
    """Return a list for one code or several."""
    if isinstance(codes, str):
        return [codes]
    is_list = isinstance(codes, Iterable) and not isinstance(codes, Mapping)
    found = list(codes) if is_list else []
    if not is_list or not all(isinstance(code, Hashable) for code in found):
        raise AirflowFailException(
            f"`codes` must be a code or a list of codes, not of type {type(codes).__name__}.\nCodes are "
            "text. Put the template of one code into a list: codes=['{{ ... }}']."
        )
    if not found:
        log.warning("Nothing to wait for: `codes` is empty.")
    return found


def _sent_nothing(ledger: Mapping[str, Any]) -> bool:
    """Whether a run with a state found nothing to send."""
    sent = ledger.get("upserted"), ledger.get("missing_unsubscribed")
    return bool(ledger.get("sync")) and not any(sent)
