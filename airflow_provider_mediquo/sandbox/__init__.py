"""A local mock of mediQuo: ``python -m airflow_provider_mediquo.sandbox``, or ``Sandbox()``.

It follows mediQuo's API documentation. It imports nothing from the rest of the package, so that a
mistake there does not go unnoticed here.
"""

from airflow_provider_mediquo.sandbox.model.journal import Counters, Entry
from airflow_provider_mediquo.sandbox.sandbox import Sandbox
from airflow_provider_mediquo.sandbox.settings import Settings

__all__ = ["Counters", "Entry", "Sandbox", "Settings"]
