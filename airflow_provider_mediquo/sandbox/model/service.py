"""The server's state and its three operations, independent of HTTP."""

import base64
import hmac
import json
import secrets
import time
from typing import Any

from airflow_provider_mediquo.sandbox.model import validation
from airflow_provider_mediquo.sandbox.model.faults import Faults
from airflow_provider_mediquo.sandbox.model.journal import Journal
from airflow_provider_mediquo.sandbox.model.rate_limit import RateLimits
from airflow_provider_mediquo.sandbox.model.store import Store
from airflow_provider_mediquo.sandbox.settings import Settings

TOKEN_SECONDS = 24 * 60 * 60


class Refusal(Exception):
    """An error response of an operation: a status, and a body with a message."""

    def __init__(self, status: int, message: str, **more: Any) -> None:
        super().__init__(status)
        self.status = status
        self.body = {"message": message, **more}


class MediQuo:
    """The state of a sandbox."""

    def __init__(self, settings: Settings, api_key: str, secret_key: str) -> None:
        self.settings = settings
        self.api_key = api_key
        self.secret_key = secret_key
        self.journal = Journal()
        self.store = Store(settings, self.journal.history)
        self.limits = RateLimits(settings)
        self.faults = Faults(settings)

    def now(self) -> float:
        """Return the server's time in seconds since 1970."""
        return time.time() + self.settings.clock_skew

    def reset(self) -> None:
        """Clear patients, scripts, counters and rate limits; keep the settings."""
        for part in (self.store, self.limits, self.faults, self.journal):
            part.reset()

    def restart(self) -> None:
        """Clear what a server keeps in memory: writes that are not visible yet, and the rate limits."""
        for part in (self.store, self.limits):
            part.restart()

    def check_keys(self, api_key: str, secret_key: str) -> None:
        """Refuse with 401 unless both are valid; takes as long for any wrong key."""
        valid = [
            hmac.compare_digest(given.encode(), expected.encode())
            for given, expected in ((api_key, self.api_key), (secret_key, self.secret_key))
        ]
        if not all(valid):
            raise Refusal(401, "Unauthenticated.")

    def upsert(self, body: dict[str, Any]) -> dict[str, Any]:
        """Accept all patients in a body, or none."""
        checked = validation.check(body, self.settings)
        if checked.errors:
            raise self._unprocessable(checked.errors)
        self.store.accept(checked.patients)
        self.journal.accepted(len(checked.patients))
        success = {"message": "Success"}
        return success if self.settings.success_body == "current" else {"data": [success]}

    def get(self, code: str) -> dict[str, Any]:
        """Return a patient that is visible."""
        try:
            return self.store[code]
        except KeyError:
            raise Refusal(404, "Patient not found.") from None

    def authenticate(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a made-up token for a patient that is visible."""
        code = body.get("code")
        if not isinstance(code, str) or not code.strip():
            raise self._unprocessable({"code": ["The code field is required."]})
        if code.strip() not in self.store:
            unknown = {404: "Patient not found.", 401: "Unauthenticated."}
            status = self.settings.unknown_patient_status
            raise Refusal(status, unknown[status])
        return {"access_token": _token(int(self.now())), "token_type": "Bearer"}

    def _unprocessable(self, errors: dict[str, list[str]]) -> Refusal:
        detail = self.settings.validation_detail
        if detail == "none":
            return Refusal(422, "Unprocessable")
        first, *others = [sentence for sentences in errors.values() for sentence in sentences]
        if others:
            first += f" (and {len(others)} more error{'s' if others[1:] else ''})"
        return Refusal(422, first, **({"errors": errors} if detail == "errors" else {}))


def _token(issued: int) -> str:
    """Return what looks like a JSON Web Token; its signature is random."""
    header = {"typ": "JWT", "alg": "HS256"}
    claims = {"iat": issued, "exp": issued + TOKEN_SECONDS, "jti": secrets.token_hex(8)}
    parts = [json.dumps(part).encode() for part in (header, claims)]
    parts.append(secrets.token_bytes(32))
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
