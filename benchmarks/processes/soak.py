"""Sends an hour's patients, and records memory, open files and threads meanwhile.

Usage: soak.py COUNT LOOKS FILE
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# A task process has imported this before the task's code starts.
import airflow.sdk.execution_time.task_runner  # noqa: F401
from call import held, report


def upsert(count: int, looks: int, file: Path) -> None:
    """Send the patients, and record the resources before, at intervals, and after."""
    from patients import patients

    from airflow_provider_mediquo.hooks.mediquo import MediquoHook

    hook = MediquoHook()
    hook.get_conn()
    seen = [(0, *held())]

    def watched() -> Iterator[dict[str, Any]]:
        for number, patient in enumerate(patients(count), 1):
            yield patient
            if number % (count // looks) == 0:
                seen.append((number, *held()))

    try:
        hook.upsert_patients(watched())
    finally:
        seen.append((count, *held()))
        file.write_text(json.dumps(seen))


count, looks, file = sys.argv[1:]
report(lambda: upsert(int(count), int(looks), Path(file)))
