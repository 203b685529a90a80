"""Checks repeatedly whether patients are visible, in a thread or in the triggerer."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from airflow_provider_mediquo.api.client.client import MediquoClient
from airflow_provider_mediquo.api.errors import MediquoError, RateLimitedError, StoppedError
from airflow_provider_mediquo.api.patients.endpoints import check_code, get
from airflow_provider_mediquo.api.text import counted, shown
from airflow_provider_mediquo.api.visibility.fingerprint import check_proof, differences

_MAX_IN_FLIGHT = 4  # requests of one check in the triggerer, which shares few threads


class VisibilityPoller:
    """Checks the expected patients until all are visible.

    :param expected: code -> proof of what was written, or None if the patient only has to exist.
        Raises InvalidPatientsError for an invalid code, ConnectionSettingsError for a proof made
        with another secret key, ValueError for an invalid proof.
    """

    def __init__(self, client: MediquoClient, expected: Mapping[str, str | None]) -> None:
        self._client = client
        self.pending = {check_code(code): proof for code, proof in expected.items()}
        self._not_found: set[str] = set()
        self._differ: dict[str, list[str]] = {}
        self._unreadable: set[str] = set()
        self.trouble: str | None = None
        """Why the last check was incomplete."""
        for proof in filter(None, self.pending.values()):
            check_proof(proof, client.settings.secret_key)

    def close(self) -> None:
        """Abort requests in flight, and close all connections."""
        self._client.stop(abort=True)
        self._client.close()

    def look(self, until: float = math.inf) -> bool:
        """Read each patient that is not visible yet, once; return whether all are visible.

        A temporary error ends the check. Other errors are raised, and StoppedError too.

        :param until: no further request starts after this time, on the monotonic clock.
        """
        before, self.trouble = self.trouble, None
        for code in list(self.pending):
            if not self.trouble and time.monotonic() > until:
                self.trouble = before or "there was no time to check the other codes"
            if not self.trouble and self._ask_if_allowed(code):
                self.trouble = "mediQuo's rate limit is used up at the moment"
        return not self.pending

    async def look_async(self) -> bool:
        """Do the same without blocking the event loop."""
        before, self.trouble = self.trouble, None
        slots = asyncio.Semaphore(_MAX_IN_FLIGHT)
        try:
            await asyncio.gather(*(self._ask_async(code, slots) for code in list(self.pending)))
        except asyncio.CancelledError:  # a timeout interrupts the check
            self.trouble = self.trouble or before
            raise
        return not self.pending

    async def _ask_async(self, code: str, slots: asyncio.Semaphore) -> None:
        async with slots:
            while not self.trouble:
                seconds = await asyncio.to_thread(self._ask_if_allowed, code)
                if not seconds:
                    return
                await asyncio.sleep(seconds)

    def _ask_if_allowed(self, code: str) -> float:
        """Read a patient, or return the seconds until the rate limit allows it."""
        try:
            self._note(code, self._client.try_send(get(code)).value)
        except RateLimitedError as error:
            if error.status is None:  # not sent
                return error.retry_after
            self.trouble = error.as_line()
        except MediquoError as error:
            if not error.can_retry or isinstance(error, StoppedError):
                raise
            if 200 <= (error.status or 0) < 300:
                self._clear(code)
                self._unreadable.add(code)  # only this one: mediQuo answers, so check the others
            else:
                self.trouble = error.as_line()
        return 0.0

    def _note(self, code: str, patient: dict[str, Any] | None) -> None:
        self._clear(code)
        proof = self.pending[code]
        if patient is None:
            self._not_found.add(code)
        elif proof and (fields := differences(proof, patient, self._client.settings.secret_key)):
            self._differ[code] = fields
        else:
            del self.pending[code]

    def _clear(self, code: str) -> None:
        self._not_found.discard(code)
        self._unreadable.discard(code)
        self._differ.pop(code, None)

    def __str__(self) -> str:
        # Copies: after a timeout in the triggerer, threads may still note answers.
        not_found, unreadable = sorted(self._not_found), sorted(self._unreadable)
        differing = sorted(self._differ.items())
        parts = [f"Not visible yet: {counted(len(self.pending), 'patient')}"]
        if not_found:
            parts.append(f"not found: {_shown(not_found)}")
        if any("/" in code for code in not_found):
            parts.append(
                "a code with `/` may never be found, because many servers decode it in the path"
            )
        if differing:
            differ = (f"{shown(code)} ({', '.join(fields)})" for code, fields in differing)
            parts.append(f"differ from what was written: {'; '.join(differ)}")
        if unreadable:
            which = _shown(unreadable)
            parts.append(f"the answer is another patient or cannot be read: {which}")
        if self.trouble:
            parts.append(f"the last check was incomplete: {self.trouble}")
        return "; ".join(parts)


def _shown(codes: Iterable[str]) -> str:
    return ", ".join(map(shown, codes))
