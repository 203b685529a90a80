"""An hour's patients, and what the process holds meanwhile: memory, open files, threads.

Usage: soak.py COUNT LOOKS FILE
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# What is there already when a task's code begins.
import airflow.sdk.execution_time.task_runner  # noqa: F401
from call import held, report


def upsert(count: int, looks: int, file: Path) -> None:
    """Send them, and write down what was seen: before, so often meanwhile, and after."""
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
