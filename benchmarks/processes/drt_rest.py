"""drt, with the rest_api destination and the state that this destination can have.

Its mirror and its comparison with the last snapshot need a database as the destination. What is left is
its ledger of delivered records, by a key that is the record itself here: what was delivered within a week
is not sent again.

Usage: drt_rest.py PORT REQUESTS_PER_SECOND [mirror|diff]
"""

import json
import os
import sys
from pathlib import Path

from call import report

MODES = {
    "ledger": {"mode": "full", "idempotency_key": "{{ row | tojson }}"},
    "mirror": {"mode": "mirror", "mirror": {"strategy": "tracked"}},
    "diff": {"mode": "upsert", "incremental_strategy": "diff"},
}


SQL = """
SELECT code, first_name, last_name, gender, birth_date::text AS birth_date, tax_id, email, phone, plan,
    locale, meta
FROM patients
"""


def write_project(port: int, rate: float, mode: str) -> None:
    """Write drt's files; JSON is YAML too."""
    postgres = {"type": "postgres", "host": "127.0.0.1", "port": port}
    postgres |= {"dbname": "postgres", "user": "tester"}
    state = {"backend": "warehouse", "connection_profile": "postgres", "idempotency": True}
    destination = {
        "type": "rest_api",
        "url": f"{os.environ['MEDIQUO_URL']}/patients",
        "method": "PUT",
        "headers": {
            "Content-Type": "application/json",
            "X-API-Key": os.environ["MEDIQUO_API_KEY"],
            "X-Secret-Key": os.environ["MEDIQUO_SECRET_KEY"],
        },
        "body_mode": "batch",
        "batch_template": '{"patients": {{ rows | tojson }}}',
        "max_records_per_request": 100,
    }
    sync = MODES[mode] | {"batch_size": 100, "on_error": "fail"}
    sync["rate_limit"] = {"requests_per_second": rate}
    files = {
        Path.home() / ".drt/profiles.yml": {"postgres": postgres},
        Path("drt_project.yml"): {"name": "members", "profile": "postgres", "state": state},
        Path("syncs/members.yml"): {
            "name": "members",
            "model": SQL,
            "destination": destination,
            "sync": sync,
        },
    }
    for path, content in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))


def run() -> None:
    """Run the sync as its command does."""
    from drt.cli.main import app

    sys.stdout = sys.stderr
    try:
        code = app(["run"], standalone_mode=False)
    finally:
        sys.stdout = sys.__stdout__
    if code:
        raise RuntimeError(f"drt ended with {code}")


port, rate, *mode = sys.argv[1:]
write_project(int(port), float(rate), *(mode or ["ledger"]))
report(run)
