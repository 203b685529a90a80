"""This provider: `MediquoHook.upsert_patients`.

Usage: provider.py FIRST COUNT [OPTION=NUMBER ...]
"""

import sys

# A task process has imported this before the task's code starts.
import airflow.sdk.execution_time.task_runner  # noqa: F401
from call import report


def upsert(first: int, count: int, **options: int) -> None:
    """Send the patients."""
    from patients import patients

    from airflow_provider_mediquo.hooks.mediquo import MediquoHook

    MediquoHook().upsert_patients(patients(count, first), **options)


first, count, *options = sys.argv[1:]
named = (option.split("=") for option in options)
report(lambda: upsert(int(first), int(count), **{name: int(value) for name, value in named}))
