"""Nobody loses a plan by accident: what takes one away waits until the whole source is read."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from fractions import Fraction

from airflow_provider_mediquo.api.errors import UnsubscribeLimitError
from airflow_provider_mediquo.api.records import ValidRecord
from airflow_provider_mediquo.api.sync.run import SyncRun
from airflow_provider_mediquo.api.text import counted, listed
from airflow_provider_mediquo.api.upload.ledger import Ledger
from airflow_provider_mediquo.api.upload.options import UploadOptions

log = logging.getLogger(__name__)

_MAX_KEPT = 10_000  # records, if there is no limit


class Unsubscriptions:
    """Counts who would lose a plan, and lets all of these records pass or none.

    Up to the limit their records are kept in memory; beyond it they are only counted. Without a limit
    the first of them are kept, because a plan may come for them in a later record; the others pass.
    """

    def __init__(self, options: UploadOptions, sync: SyncRun, ledger: Ledger) -> None:
        self._is_mirror = options.on_missing == "unsubscribe"
        self._limit = options.max_unsubscribed
        self.sync, self._ledger = sync, ledger
        self._kept: list[ValidRecord] = []
        self._losing = 0
        self._allowed: float = 0
        self.problem: UnsubscribeLimitError | None = None
        """Why some were withheld."""
        self.may_send_missing = False
        """Whether the missing members are to be unsubscribed."""

    def hold(self, records: Iterator[ValidRecord]) -> Iterator[ValidRecord]:
        """Yield the records; those that take a plan away come last, if there are not too many."""
        self._allowed = self._most()
        for record in records:
            if not record.loses_plan:
                yield record
            elif self._limit is None and len(self._kept) == _MAX_KEPT:
                self._losing += 1
                yield record
            else:
                self._keep(record)
        self._keep_contradicted()
        self._decide()
        yield from self._kept

    def _most(self) -> float:
        """Return how many may lose their plan."""
        if self._limit is None:
            return math.inf
        if isinstance(self._limit, int):
            return self._limit
        share = Fraction(str(self._limit))  # as it was written: 0.07 * 100 is more than 7
        return math.ceil(share * self.sync.subscribers())

    def _keep(self, record: ValidRecord) -> None:
        self._losing += 1
        if self._losing <= self._allowed:
            self._kept.append(record)
            return
        self._withhold_kept()
        self._ledger.withhold(record)

    def _keep_contradicted(self) -> None:
        """Withhold the records whose code comes again with a plan: the source contradicts itself.

        Beyond the limit nothing is kept, so those count too, and all of them are withheld. That run
        fails for the contradiction first, and does not show the count.
        """
        has_plan = self.sync.comparison.has_lost_plan
        contradicted = [record for record in self._kept if has_plan(record.code)]
        for record in contradicted:
            self._ledger.withhold(record)
        self._losing -= len(contradicted)
        self._kept = [record for record in self._kept if not has_plan(record.code)]

    def _withhold_kept(self) -> None:
        for record in self._kept:
            self._ledger.withhold(record)
        self._kept = []

    def _decide(self) -> None:
        """The source was read to its end: count the missing too."""
        missing = with_plan = withheld = 0
        report = self._ledger.report
        if self._is_mirror and report.read > report.skipped:
            missing, with_plan = self.sync.count_missing()
        if missing and self._may_be_in_source(missing):
            withheld, with_plan = missing, 0
        elif with_plan and self._losing + with_plan <= self._allowed:
            withheld = self._keep_other_spellings()
            with_plan -= withheld
        total = self._losing + with_plan
        if total <= self._allowed:
            self._ledger.decide_missing(missing, withheld, total)
            self.may_send_missing = missing > withheld
            return
        self._ledger.decide_missing(missing, missing, total)
        self._withhold_kept()
        doubt = self._doubt_about_codes(total) if with_plan else ""
        self.problem = UnsubscribeLimitError(
            f"{counted(total, 'member')} would lose their plan: {self._losing:,} by a record without "
            f"one, {with_plan:,} because they left the source.\nThat is more than `max_unsubscribed` "
            f"({self._shown_limit()}), so they keep it.\n{doubt}If it is intended, run again with "
            f"max_unsubscribed={total}."
        )
        if report.is_dry_run:  # which does not fail for it
            log.info("%s", self.problem.as_line())

    def _doubt_about_codes(self, total: int) -> str:
        """Return a line if the source has about as many new codes as members would lose their plan."""
        new = len(self.sync.comparison.unknown)
        if new < total / 2:
            return ""
        return (
            f"The source has {counted(new, 'new code')}: if codes have another format now, such as without "
            "leading zeros, correct the source first.\n"
        )

    def _may_be_in_source(self, missing: int) -> bool:
        """Whether the missing members may be in the source, where it could not be read."""
        comparison = self.sync.comparison
        if comparison.unreadable:
            log.warning(
                "%s missing from the source. Nobody is unsubscribed for being missing, because of %s "
                "without a readable code: each may be one of them. Correct those records, and remove "
                "lines that are not members, such as a total.",
                counted(missing, "member"),
                counted(comparison.unreadable, "record"),
            )
        if comparison.empty_parts:
            log.warning(
                "%s missing from the source. Nobody is unsubscribed for being missing, because of %s "
                "without a record, whose export may have failed: %s. Export again, or leave such files "
                "out with a glob in `path`, so that members who left are unsubscribed.",
                counted(missing, "member"),
                counted(len(comparison.empty_parts), "file"),
                listed(comparison.empty_parts),
            )
        return bool(comparison.unreadable or comparison.empty_parts)

    def _keep_other_spellings(self) -> int:
        """Let missing members keep their plan if the source spells their code differently."""
        if kept := self.sync.keep_other_spellings():
            log.warning(
                "%s missing from the source, but it has their code in another spelling "
                "(case, accents, invisible characters, zeros of a number). They keep their plan, because "
                "both may be the same person. Correct the source, or call `forget_patient` with the old "
                "spelling.",
                counted(kept, "member"),
            )
        return kept

    def _shown_limit(self) -> str:
        if isinstance(self._limit, float):
            return f"{self._limit} of {self.sync.subscribers():,} = {self._allowed:,}"
        return str(self._limit)
