"""Which codes came before in this run: a code belongs to its first valid record."""

from __future__ import annotations

from airflow_provider_mediquo.api.sync.run import SyncRun

_HASH_BITS = (1 << 58) - 1  # with a bit for the plan, an int of 32 bytes


class SeenCodes:
    """Remembers codes as small numbers; those that the state knows, in its own arrays.

    The lowest bit says whether there was a plan. Two codes out of 2 million collide in one run out of
    100,000: the second is then reported as a duplicate, and not in the next run, because Python
    hashes differently in each process (unless PYTHONHASHSEED is set).
    """

    def __init__(self, sync: SyncRun | None = None) -> None:
        self._sync = sync
        self._valid: set[int] = set()
        self._invalid_with_plan: set[int] = set()

    def first_had_plan(self, code: str) -> bool | None:
        """Return whether the first valid record of a code had a plan; None if there was none."""
        if self._sync and (had_plan := self._sync.comparison.seen(code)) is not None:
            return had_plan
        key = _key(code)
        if key in self._valid:
            return False
        return True if key | 1 in self._valid else None

    def add(self, code: str, *, has_plan: bool) -> bool:
        """Note the first valid record of a code.

        Return whether an earlier invalid record of the code had a plan that this one lacks.
        """
        if not self._sync or not self._sync.comparison.see(code, has_plan=has_plan):
            self._valid.add(_key(code) | has_plan)
        return not has_plan and _key(code) in self._invalid_with_plan

    def reject(self, code: str | None, *, has_plan: bool) -> bool:
        """Note an invalid record; return whether its code was sent without the plan that it has."""
        if self._sync:
            self._sync.comparison.see_rejected(code)
        if code is None or not has_plan:
            return False
        self._invalid_with_plan.add(_key(code))
        return self.first_had_plan(code) is False

    def lose_plan(self, code: str) -> None:
        """Note that a code has a plan in one record, but not in the first valid one."""
        if self._sync:
            self._sync.comparison.lose_plan(code)


def _key(code: str) -> int:
    return (hash(code) & _HASH_BITS) << 1
