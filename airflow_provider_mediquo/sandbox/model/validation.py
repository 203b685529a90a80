"""A request's body: is it acceptable as a whole?"""

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
QUOTED = 80


class NotJson(ValueError):
    """The body cannot be read at all."""


@dataclass(slots=True)
class Checked:
    """Patients as they would be stored, and complaints by the path of what they are about."""

    patients: list[Patient] = field(default_factory=list)
    errors: dict[str, list[str]] = field(default_factory=dict)

    def complain(self, path: str, sentence: str, *quoted: Any) -> None:
        said = sentence.format(path)
        if quoted:
            said = f"{said.removesuffix('.')}: {json.dumps(quoted[0])[:QUOTED]} was given."
        self.errors.setdefault(path, []).append(said)


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; any other JSON value is taken for an empty one."""
    try:
        found = json.loads(body.decode(), parse_constant=_refuse_constant)
        # PHP refuses the half of a surrogate pair; Python reads it and fails to write it.
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise NotJson from None
    return found if isinstance(found, dict) else {}


def check(body: dict[str, Any], settings: Settings) -> Checked:
    """All complaints about an upsert's body; nothing may be stored if there is one."""
    checked, listed = Checked(), body.get("patients")
    if listed in (None, []):
        checked.complain("patients", "The {} field is required.")
    elif not isinstance(listed, list):
        checked.complain("patients", "The {} field must be an array.")
    elif len(listed) > settings.max_patients:
        most = settings.max_patients
        checked.complain("patients", f"The {{}} field must not have more than {most} items.")
    else:
        for index, given in enumerate(listed):
            _check_patient(checked, f"patients.{index}", given, settings)
        _check_distinct(checked)
    return checked


def _check_patient(checked: Checked, path: str, given: Any, settings: Settings) -> None:
    if not isinstance(given, dict):
        checked.complain(path, "The {} field must be an object.")
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
            checked.complain(f"{path}.{name}", str(refused), *quoted)
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
            checked.complain(f"patients.{index}.code", "The {} field has a duplicate value.")
        if code is not None:
            seen.add(code)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError
