"""A plain `@task`: requests, a session and a loop, without any check.

Usage: loop.py COUNT
"""

import os
import sys

from call import report


def upsert(count: int) -> None:
    """Send one request after the other."""
    import requests
    from patients import chunks

    with requests.Session() as session:
        session.headers["X-API-Key"] = os.environ["MEDIQUO_API_KEY"]
        session.headers["X-Secret-Key"] = os.environ["MEDIQUO_SECRET_KEY"]
        for chunk in chunks(count):
            answer = session.put(
                f"{os.environ['MEDIQUO_URL']}/patients", json={"patients": chunk}, timeout=30
            )
            answer.raise_for_status()


report(lambda: upsert(int(sys.argv[1])))
