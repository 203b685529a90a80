"""dlt's custom destination: https://dlthub.com/docs/dlt-ecosystem/destinations/destination.

A file of a load is a job, and the batches of a job are sent one after the other: as it comes, dlt
writes all patients into one file. Where it is given so many files, each of its workers (20, its
default) has something to do. dlt's own `requests` retries what may heal, a 429 too; not everybody
knows of it, so there is `plain` as well.

Usage: dlt_destination.py COUNT FILES [plain]
"""

import os
import sys
from typing import Any

from call import report


def upsert(count: int, files: int, plain: bool) -> None:
    """Run the pipeline."""
    import dlt
    import requests
    from dlt.sources.helpers import requests as dlt_requests
    from patients import CHUNK, chunks

    put = requests.put if plain else dlt_requests.put

    headers = {
        "X-API-Key": os.environ["MEDIQUO_API_KEY"],
        "X-Secret-Key": os.environ["MEDIQUO_SECRET_KEY"],
    }

    @dlt.destination(name="mediquo", batch_size=CHUNK)
    def mediquo(items: list[dict[str, Any]], table: dict[str, Any]) -> None:
        url = f"{os.environ['MEDIQUO_URL']}/patients"
        put(url, json={"patients": items}, headers=headers).raise_for_status()

    if files > 1:
        dlt.config["data_writer.file_max_items"] = -(-count // files // CHUNK) * CHUNK
    pipeline = dlt.pipeline("patients", destination=mediquo, pipelines_dir=os.getcwd())
    pipeline.run(chunks(count), table_name="patients")


count, files, *more = sys.argv[1:]
report(lambda: upsert(int(count), int(files), more == ["plain"]))
