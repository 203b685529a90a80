"""The rule that a value breaks, and what it is sent as."""

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_mediquo.api.patients.schema import check_patient

LEAST = {"code": "m-1", "first_name": "Ada"}


@pytest.fixture(scope="session")
def rule() -> Callable[[str, Any], str | None]:
    """Return the rule that a value breaks in a field."""

    def find(name: str, value: Any) -> str | None:
        patient, problems = check_patient(LEAST | {name: value})
        assert problems.keys() <= {name}
        assert name not in patient or not problems
        return problems.get(name)

    return find


@pytest.fixture(scope="session")
def sent() -> Callable[[str, Any], Any]:
    """Return what a valid value is sent as; None also where the field is left out."""

    def send(name: str, value: Any) -> Any:
        patient, problems = check_patient(LEAST | {name: value})
        assert problems == {}
        return patient.get(name)

    return send
