"""dlt with a state written by hand: a table of hashes, so that only what changed goes to its destination.

The hashes are merged into the table when the load is complete: after a failure everything is sent again.

Usage: dlt_changed.py PORT
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from call import report

FILES = 10  # as many as this provider has requests at a time
PAGE = 2000


def upsert(port: int) -> None:
    """Run the pipeline, and merge what it sent into the state."""
    import dlt
    import psycopg
    from dlt.sources.helpers import requests as dlt_requests
    from patients import CHUNK
    from psycopg.rows import dict_row

    headers = {
        "X-API-Key": os.environ["MEDIQUO_API_KEY"],
        "X-Secret-Key": os.environ["MEDIQUO_SECRET_KEY"],
    }
    changed: dict[str, bytes] = {}

    @dlt.destination(name="mediquo", batch_size=CHUNK)
    def mediquo(items: list[dict[str, Any]], table: dict[str, Any]) -> None:
        patients = [{**item, "birth_date": str(item["birth_date"])} for item in items]
        url = f"{os.environ['MEDIQUO_URL']}/patients"
        dlt_requests.put(url, json={"patients": patients}, headers=headers).raise_for_status()

    with psycopg.connect(host="127.0.0.1", port=port, user="tester", dbname="postgres") as database:
        database.execute("CREATE TABLE IF NOT EXISTS sent (code text PRIMARY KEY, hash bytea)")
        known = dict(database.execute("SELECT code, hash FROM sent").fetchall())

        def rows() -> Iterator[list[dict[str, Any]]]:
            with database.cursor("rows", row_factory=dict_row) as cursor:
                cursor.execute("SELECT * FROM patients")
                while page := cursor.fetchmany(PAGE):
                    yield [row for row in page if is_changed(row)]

        def is_changed(row: dict[str, Any]) -> bool:
            hashed = hashlib.blake2b(json.dumps(row, default=str).encode(), digest_size=8).digest()
            if known.get(row["code"]) == hashed:
                return False
            changed[row["code"]] = hashed
            return True

        resource = dlt.resource(rows, name="patients", max_table_nesting=0)
        pipeline = dlt.pipeline("patients", destination=mediquo, pipelines_dir=os.getcwd())
        pipeline.run(resource)
        database.cursor().executemany(
            "INSERT INTO sent VALUES (%s, %s) ON CONFLICT (code) DO UPDATE SET hash = EXCLUDED.hash",
            list(changed.items()),
        )


port = int(sys.argv[1])
report(lambda: upsert(port))
