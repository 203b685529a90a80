"""Provider metadata. Airflow reads it at every start, so this module imports nothing else."""

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
                "Maximum requests per minute per task and endpoint. Concurrent tasks share "
                "mediQuo's limit of 600, so split it. Default: 600."
            ),
            "schema": {
                "type": ["integer", "null"],
                "default": 600,
                "minimum": 1,
                "maximum": 1_000_000,
            },
        },
        "timeout": {
            "label": "Timeout (seconds)",
            "description": "Seconds to wait for a complete response. Default: 30.",
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
            # Not "true": for each text under five characters in an extra, Airflow warns that the
            # secret is too short to mask.
            "schema": {"type": ["string", "null"], "default": None},
        },
        "allow_http": {
            "label": "Allow http://",
            "description": (
                "Only for a sandbox on another machine: keys and patient data are sent unencrypted."
            ),
            "schema": {"type": ["boolean", "null"], "default": False},
        },
    },
}
"""The connection form, for every Airflow version."""


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata."""
    return {
        "package-name": "airflow-provider-mediquo",
        "name": "mediQuo",
        "description": "Syncs patients to mediQuo, the telemedicine platform.",
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
        "notifications": [f"{_PACKAGE}.notifications.mediquo.MediquoNotifier"],
        "task-decorators": [
            {
                "name": "mediquo_upsert",
                "class-name": f"{_PACKAGE}.decorators.mediquo_upsert.mediquo_upsert_task",
            }
        ],
        "extra-links": [f"{_PACKAGE}.operators.link.MediquoRunLink"],
    }


def _transfer(source: str, name: str) -> dict[str, str]:
    return {
        "source-integration-name": source,
        "target-integration-name": _INTEGRATION,
        "python-module": f"{_PACKAGE}.{name}",
    }


def _modules(name: str) -> list[dict[str, Any]]:
    return [{"integration-name": _INTEGRATION, "python-modules": [f"{_PACKAGE}.{name}"]}]
