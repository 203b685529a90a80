"""CPU time to check and serialise one patient: `make bench-check`.

For comparison, measured in the same process and in turns: a simple marshmallow schema and json.dumps.
Also what `phone_region` adds to each record.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from common import Table
from marshmallow import Schema, fields, validate
from patients import patients

from airflow_provider_mediquo.api.patients.endpoints import encode_patient
from airflow_provider_mediquo.api.patients.phone_region import to_e164
from airflow_provider_mediquo.api.patients.schema import check_patient

PROVIDER = "check and serialise: this provider"
PHONE_REGION = "`phone_region` alone"
TARGETS = {PROVIDER: 20, PHONE_REGION: 60}  # microseconds a record


class PlainSchema(Schema):
    """A patient with marshmallow's own fields only."""

    code = fields.String(required=True)
    first_name = fields.String(required=True)
    last_name = fields.String(allow_none=True)
    gender = fields.String(allow_none=True, validate=validate.OneOf(["male", "female"]))
    birth_date = fields.Date(allow_none=True)
    tax_id = fields.String(allow_none=True)
    email = fields.Email(allow_none=True)
    phone = fields.String(allow_none=True, validate=validate.Regexp(r"^(\+|00)[0-9 ().-]{7,20}$"))
    plan = fields.String(allow_none=True)
    locale = fields.String(allow_none=True, validate=validate.OneOf(["de", "en", "es", "pt"]))
    meta = fields.Dict(allow_none=True)


PLAIN = PlainSchema()


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=2000, help="in a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=51, help="of each, in turns (%(default)s)")
    arguments = parser.parse_args()
    records = list(patients(arguments.records))
    forms: dict[str, Callable[[dict[str, Any]], bytes]] = {
        PROVIDER: provider,
        "check and serialise: plain marshmallow, json.dumps": plain,
        "serialise alone: json.dumps": dumps,
        PHONE_REGION: phone_region,
    }
    spent: dict[str, list[float]] = {name: [] for name in forms}
    for form in forms.values():
        seconds(form, records)  # to warm up
    for _ in range(arguments.rounds):
        for name, form in forms.items():
            spent[name].append(seconds(form, records) / len(records) * 1e6)
    ours = statistics.median(spent[PROVIDER])
    size = sum(len(provider(record)) for record in records) / len(records)
    table = Table("CPU of a record", "median", "best", "this provider takes")
    for name, times in spent.items():
        median = statistics.median(times)
        ratio = f"{ours / median:.2f} times" if name != PHONE_REGION else ""
        table.add(name, f"{median:.1f} us", f"{min(times):.1f} us", ratio)
    for name, target in TARGETS.items():
        table.add(f"*target: {name}*", f"*within {target} us*", "", "")
    print(f"{arguments.rounds} rounds of {len(records):,} records of {size:.0f} bytes:\n")
    print(table)


def provider(record: dict[str, Any]) -> bytes:
    """Check and serialise as an upsert does."""
    patient, problems = check_patient(record)
    assert not problems
    return encode_patient(patient)


def plain(record: dict[str, Any]) -> bytes:
    """Check and serialise with marshmallow and json."""
    assert not PLAIN.validate(record)
    return json.dumps(record).encode()


def dumps(record: dict[str, Any]) -> bytes:
    """Serialise without a check."""
    return json.dumps(record).encode()


def phone_region(record: dict[str, Any]) -> bytes:
    """Read a phone number as it is written in its country: 07700 900123."""
    return str(to_e164(record["phone"].replace("+44 ", "0"), "GB")).encode()


def seconds(form: Callable[[dict[str, Any]], bytes], records: list[dict[str, Any]]) -> float:
    """Return the CPU seconds for all records."""
    started = time.process_time()
    for record in records:
        form(record)
    return time.process_time() - started


if __name__ == "__main__":
    main()
