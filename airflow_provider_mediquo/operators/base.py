"""What the operators share: the connection, and the options of an upsert."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import Asset, BaseOperator
from airflow.sdk.definitions.asset import AssetRef

from airflow_provider_mediquo.api.client.stop_flag import StopFlag
from airflow_provider_mediquo.hooks.mediquo import MediquoHook, fail_without_retry
from airflow_provider_mediquo.operators.ledgers import (
    Callback,
    add_report,
    push_ledger,
    push_ledger_of,
    warn,
)
from airflow_provider_mediquo.operators.link import MediquoRunLink
from airflow_provider_mediquo.operators.rendered import (
    check_rendered,
    failing_on_value_errors,
    none_if_rendered,
    nones_of,
    rendered_number,
    sync_name_of,
)
from airflow_provider_mediquo.operators.task_names import holder_of, rejects_name

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_mediquo.api.upload.options import UploadOptions
    from airflow_provider_mediquo.arguments import MediquoArguments, TaskArguments

_LIMITS = (
    *("max_rejects", "max_without_plan", "chunk_size", "max_in_flight", "min_records"),
    *("max_unsubscribed", "warn_rejects"),
)
_AS_GIVEN = (
    *("columns", "transform", "omit_invalid", "phone_region", "unsubscribed_report"),
    *("on_missing", "resend_after", "receipts_for"),
)
_TEXTS = ("rejects_path", "state_conn_id", "sync_name", "as_of")


class MediquoOperator(BaseOperator):
    """Base of all mediQuo operators: holds the connection and stops when the task is killed."""

    template_fields: Sequence[str] = ("mediquo_conn_id",)
    ui_color = "#d9f2ec"

    def __init__(
        self,
        *,
        mediquo_conn_id: str = MediquoHook.default_conn_name,
        **kwargs: Unpack[TaskArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.mediquo_conn_id = mediquo_conn_id
        self._killed = StopFlag()

    def prepare_for_execution(self) -> Self:
        """Return a copy for one try. Where all tries share a process, a kill ends only its own."""
        other = super().prepare_for_execution()
        other._killed = StopFlag(self._killed)
        return other

    def on_kill(self) -> None:
        """Stop all requests; the ledger in the log says what was sent.

        A signal handler calls it, also while the hook is being made.
        """
        self._killed.set()
        if hook := self.__dict__.get("_hook"):
            hook.stop()

    @cached_property
    def _hook(self) -> MediquoHook:
        hook = MediquoHook(self.mediquo_conn_id)
        hook.killed = self._killed
        return hook


class MediquoUpsertBaseOperator(MediquoOperator, ABC):
    """Base of all upserts: sends the patients that `read_patients` returns.

    The limits (numbers) can be templates, such as `"{{ params.max_rejects }}"`. One that renders to
    None is an error: for no limit, write None in the DAG itself.

    :param mediquo_conn_id: ID of a connection of type `mediquo`.
    :param max_rejects: how many rejected records are tolerated: a count (`10`) or a fraction of
        the records read (`0.01`). It is checked at the end: valid records are sent either way.
    :param rejects_path: a folder for the reject report, on any storage that ObjectStoragePath
        supports. The report is `<dag>/<run>/<task>-<map index>-<try>.jsonl`; in an object store
        it is a folder of parts. Default: the first 20 rejects are logged.
    :param max_without_plan: how many patients may be sent without a plan, which unsubscribes
        them: a count, a fraction, or None for no limit. Default: half of the records. The task
        stops before its first request if more than half of the first 1,000 have no plan, later before a
        request that would bring the share above half. A source of fewer than 100 is not checked.
    :param columns: renames columns: `{"member_id": "code"}`; None drops a column.
    :param chunk_size: patients per request, 1 to 100.
    :param max_in_flight: concurrent requests, 1 to 64.
    :param transform: a function, record -> record, called before `columns` is applied. None leaves
        the record out; an exception rejects this record alone.
    :param omit_invalid: send a record without an optional field that breaks a rule.
    :param phone_region: a country code such as `ES`: phone numbers are read as people there write
        them, and sent as E.164. Needs the extra `[phone]`.
    :param min_records: the task fails if the source has fewer records.
    :param state_conn_id: ID of an SQL connection (PostgreSQL, MySQL or MariaDB, SQLite) whose database
        keeps what mediQuo has. With it, only what changed is sent.
    :param sync_name: identifies this sync in the state; it has one run at a time.
        Default: `<dag_id>.<task_id>`.
    :param on_missing: `"keep"`, or `"unsubscribe"` to take the plan from members that this sync sent
        before and that its source no longer has.
    :param max_unsubscribed: how many may lose their plan in one run, by a record without a plan or by
        leaving the source: a count, a fraction of those who have one (rounded up), or None for no
        limit. Beyond it they keep their plan, everything else is sent, and the task fails.
    :param resend_after: an unchanged record is sent again after this time. Each member has a day of its
        own, so that not all are sent on the same day.
    :param receipts_for: how long the state keeps the receipts of this sync's runs.
    :param as_of: the time of this source's data, such as `"{{ data_interval_end }}"`; UTC if it has no
        zone. A run with an earlier `as_of` than the last run of this sync fails.
    :param dry_run: read, check and compare; send nothing and change nothing. The ledger has the
        counts that a real run would have.
    :param unsubscribed_report: list the patients that have no plan after this run, and why they have
        none, in a file next to the reject report. Needs `rejects_path`.
    :param warn_rejects: above this many rejects (a count or a fraction), a task that succeeds logs a
        warning and calls `on_warn_callback`. Default: any reject.
    :param on_warn_callback: a function, a notifier, or a list of them: called with the context, in
        which `report` is the ledger.
    """

    template_fields: Sequence[str] = (*MediquoOperator.template_fields, *_TEXTS, *_LIMITS)
    operator_extra_links = (MediquoRunLink(),)

    def __init__(
        self,
        *,
        max_rejects: float | str = 0,
        rejects_path: str | None = None,
        max_without_plan: float | str | None = "half",
        columns: Mapping[str, str | None] | None = None,
        chunk_size: int | str = 100,
        max_in_flight: int | str = 10,
        transform: Callable[[Any], Any] | None = None,
        omit_invalid: bool = False,
        phone_region: str | None = None,
        min_records: int | str = 0,
        state_conn_id: str | None = None,
        sync_name: str | None = None,
        on_missing: Literal["keep", "unsubscribe"] = "keep",
        max_unsubscribed: float | str | None = 0.01,
        resend_after: timedelta = timedelta(days=30),
        receipts_for: timedelta = timedelta(days=400),
        as_of: str | datetime | None = None,
        dry_run: bool = False,
        unsubscribed_report: bool = False,
        warn_rejects: float | str | None = None,
        on_warn_callback: Callback | Sequence[Callback] | None = None,
        **kwargs: Unpack[MediquoArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.max_rejects = max_rejects
        self.rejects_path = rejects_path
        self.max_without_plan = max_without_plan
        self.columns = columns
        self.chunk_size = chunk_size
        self.max_in_flight = max_in_flight
        self.transform = transform
        self.omit_invalid = omit_invalid
        self.phone_region = phone_region
        self.min_records = min_records
        self.state_conn_id = state_conn_id
        self.sync_name = sync_name
        self.on_missing = on_missing
        self.max_unsubscribed = max_unsubscribed
        self.resend_after = resend_after
        self.receipts_for = receipts_for
        self.as_of = as_of
        self.is_dry_run = dry_run  # `dry_run` is a method of BaseOperator
        self.unsubscribed_report = unsubscribed_report
        self.warn_rejects = warn_rejects
        self.on_warn_callback = on_warn_callback
        self._nones = {name for name in (*_TEXTS, *_LIMITS) if getattr(self, name) is None}

    @abstractmethod
    def read_patients(self, context: Context) -> Iterable[Any]:
        """Return the patients, if possible as a stream."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Send the patients and return the ledger: counts and a sample of codes, no patient data.

        The ledger is also the XCom `mediquo_ledger`, which a run that fails leaves too. The counts
        become the `extra` of the event of each asset in `outlets`.
        """
        report = None
        try:
            with fail_without_retry():
                options = self._options(context)
                patients = self.read_patients(context)
                name, holder = rejects_name(context), holder_of(context)
                report = self._hook.upload(patients, options, rejects_name=name, held_by=holder)
            if self.do_xcom_push:
                push_ledger(report, context)
            warn(self.on_warn_callback, context, report, options.warn_rejects)
            for outlet in self.outlets:
                if isinstance(outlet, Asset | AssetRef):
                    context["outlet_events"][outlet].extra.update(report.counts())
        except BaseException as error:  # also Airflow's timeout
            add_report(error, report)
            if self.do_xcom_push and not report and not self._killed.is_set():  # time is short then
                push_ledger_of(error, context)
            raise
        return report.as_dict()

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any] | None:
        """Return the names of the source and of mediQuo's endpoint for OpenLineage."""
        try:
            from airflow.providers.common.compat.openlineage.facet import Dataset
            from airflow.providers.openlineage.extractors import OperatorLineage
        except ImportError:
            return None
        url = urlsplit(self._hook.settings.base_url)
        mediquo = Dataset(f"{url.scheme}://{url.netloc}", f"{url.path}/patients")
        return OperatorLineage(inputs=self.lineage_inputs(), outputs=[mediquo])

    def lineage_inputs(self) -> list[Dataset]:
        """Return the source's names for OpenLineage."""
        return []

    def _options(self, context: Context) -> UploadOptions:
        from airflow_provider_mediquo.api.upload.options import UploadOptions

        texts = {name: none_if_rendered(getattr(self, name)) for name in _TEXTS}
        limits = {name: rendered_number(getattr(self, name)) for name in _LIMITS}
        with failing_on_value_errors():
            check_rendered(texts | limits, nones_of(self, self._nones))
            if texts["state_conn_id"]:
                texts["sync_name"] = sync_name_of(self, context, texts["sync_name"])
            given = {name: getattr(self, name) for name in _AS_GIVEN}
            options: Any = {**texts, **limits, **given, "dry_run": self.is_dry_run}
            return UploadOptions(**options)
