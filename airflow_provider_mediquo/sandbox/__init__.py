"""A mediQuo on your own machine: ``python -m airflow_provider_mediquo.sandbox``, or ``Sandbox()``.

It behaves as mediQuo's documents say, and imports nothing of the rest of the package, so that one
mistake cannot hide in both.
"""

from airflow_provider_mediquo.sandbox.model.journal import Counters, Entry
from airflow_provider_mediquo.sandbox.sandbox import Sandbox
from airflow_provider_mediquo.sandbox.settings import Settings

__all__ = ["Counters", "Entry", "Sandbox", "Settings"]
