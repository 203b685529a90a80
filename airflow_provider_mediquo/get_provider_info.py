"""What Airflow reads at every start: keep it free of imports."""

from __future__ import annotations

from typing import Any

from airflow_provider_mediquo import __version__

_INTEGRATION = "mediQuo"
_PACKAGE = "airflow_provider_mediquo"

CONNECTION_TYPE: dict[str, Any] = {
    "connection-type": "mediquo",
    "hook-class-name": f"{_PACKAGE}.hooks.mediquo.MediquoHook",
    "hook-name": "mediQuo",
    "ui-field-behaviour": {
        "hidden-fields": ["schema"],
        "relabeling": {"login": "API key", "password": "Secret key", "host": "Base URL"},
        "placeholders": {
            "login": "X-API-Key, from mediQuo",
            "password": "X-Secret-Key, from mediQuo",
            "host": "https://sdk.mediquo.com/v1",
            "port": "443",
        },
    },
    "conn-fields": {
        "requests_per_minute": {
            "label": "Requests per minute",
            "description": (
                "The most that one task sends per endpoint. Tasks that run at the same time share "
                "mediQuo's limit of 600: give each its part. Default: 600."
            ),
            "schema": {"type": ["integer", "null"], "default": 600, "minimum": 1},
        },
        "timeout": {
            "label": "Timeout (seconds)",
            "description": "For one whole answer. Default: 30.",
            "schema": {
                "type": ["integer", "null"],
                "default": 30,
                "minimum": 1,
                "maximum": 3600,
            },
        },
        "verify": {
            "label": "Verify the certificate",
            "description": "true, false, or the path of a CA file on the workers. Default: true.",
            # Not "true": Airflow warns of a secret that is too short to mask for each text under
            # five characters in a connection's extra.
            "schema": {"type": ["string", "null"], "default": None},
        },
        "allow_http": {
            "label": "Allow http://",
            "description": (
                "For a sandbox on another machine only: keys and patients travel unencrypted."
            ),
            "schema": {"type": ["boolean", "null"], "default": False},
        },
    },
}
"""The connection form: the one place that says what it looks like."""


def get_provider_info() -> dict[str, Any]:
    """Return what Airflow knows about this provider."""
    return {
        "package-name": "airflow-provider-mediquo",
        "name": "mediQuo",
        "description": "Keeps patients in mediQuo, the telemedicine platform, in step.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://sdk.mediquo.com/docs/patients",
                "tags": ["service"],
            }
        ],
        "connection-types": [CONNECTION_TYPE],
        "hooks": _modules("hooks.mediquo"),
        "operators": _modules("operators.patients"),
        "sensors": _modules("sensors.patients"),
        "triggers": _modules("triggers.patients"),
        "transfers": [
            _transfer("SQL", "transfers.sql_to_mediquo"),
            _transfer("Files", "transfers.file_to_mediquo"),
        ],
        "task-decorators": [
            {
                "name": "mediquo_upsert",
                "class-name": f"{_PACKAGE}.decorators.mediquo_upsert.mediquo_upsert_task",
            }
        ],
    }


def _transfer(source: str, name: str) -> dict[str, str]:
    return {
        "source-integration-name": source,
        "target-integration-name": _INTEGRATION,
        "python-module": f"{_PACKAGE}.{name}",
    }


def _modules(name: str) -> list[dict[str, Any]]:
    return [{"integration-name": _INTEGRATION, "python-modules": [f"{_PACKAGE}.{name}"]}]
