"""Validates the body of a request as a whole."""

import json
from dataclasses import dataclass, field
from typing import Any, NoReturn

from airflow_provider_mediquo.sandbox.model.attributes import (
    READERS,
    REQUIRED,
    Reader,
    Refused,
    blank_to_none,
)
from airflow_provider_mediquo.sandbox.settings import Settings

Patient = dict[str, Any]
MAX_QUOTED = 80


class NotJson(ValueError):
    """The body is not JSON."""


@dataclass(slots=True)
class Checked:
    """The patients as they will be stored, and the errors by attribute path."""

    patients: list[Patient] = field(default_factory=list)
    errors: dict[str, list[str]] = field(default_factory=dict)

    def add_error(self, path: str, sentence: str, *quoted: Any) -> None:
        text = sentence.format(path)
        if quoted:
            text = f"{text.removesuffix('.')}: {json.dumps(quoted[0])[:MAX_QUOTED]} was given."
        self.errors.setdefault(path, []).append(text)


def parse(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body; any other JSON value counts as an empty object."""
    try:
        content = json.loads(body.decode(), parse_constant=_refuse_constant)
        # PHP refuses half a surrogate pair; Python reads it, but cannot write it.
        json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise NotJson from None
    return content if isinstance(content, dict) else {}


def check(body: dict[str, Any], settings: Settings) -> Checked:
    """Return the patients in the body of an upsert and all errors; with errors nothing is stored."""
    checked, listed = Checked(), body.get("patients")
    if listed in (None, []):
        checked.add_error("patients", "The {} field is required.")
    elif not isinstance(listed, list):
        checked.add_error("patients", "The {} field must be an array.")
    elif len(listed) > settings.max_patients:
        most = settings.max_patients
        checked.add_error("patients", f"The {{}} field must not have more than {most} items.")
    else:
        for index, given in enumerate(listed):
            _check_patient(checked, f"patients.{index}", given, settings)
        _check_distinct(checked)
    return checked


def _check_patient(checked: Checked, path: str, given: Any, settings: Settings) -> None:
    if not isinstance(given, dict):
        checked.add_error(path, "The {} field must be an object.")
        checked.patients.append({"code": None})
        return
    patient: Patient = {}
    for name, reader in READERS.items():
        if name not in given and name not in REQUIRED:
            continue
        value = blank_to_none(given.get(name))
        try:
            patient[name] = _read(name, value, reader, settings)
        except Refused as refused:
            patient[name] = None
            quoted = [value] if settings.quote_values and value is not None else []
            checked.add_error(f"{path}.{name}", str(refused), *quoted)
    checked.patients.append(patient)


def _read(name: str, value: Any, reader: Reader, settings: Settings) -> Any:
    if value is None:
        if name in REQUIRED:
            raise Refused("The {} field is required.")
        return None
    if name == "tax_id" and value == settings.refuse_tax_id:
        raise Refused("The {} field is not acceptable.")
    return reader(value)


def _check_distinct(checked: Checked) -> None:
    seen: set[str] = set()
    for index, patient in enumerate(checked.patients):
        code = patient["code"]
        if code in seen:
            checked.add_error(f"patients.{index}.code", "The {} field has a duplicate value.")
        if code is not None:
            seen.add(code)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError
