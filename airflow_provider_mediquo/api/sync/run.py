"""One run of a sync: its lease, its comparison, and what it writes to the state."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Literal

from airflow_provider_mediquo.api.errors import StateError
from airflow_provider_mediquo.api.records import ValidRecord
from airflow_provider_mediquo.api.sync import lease, store
from airflow_provider_mediquo.api.sync.comparison import Comparison, ResendPolicy
from airflow_provider_mediquo.api.sync.fingerprints import Fingerprints
from airflow_provider_mediquo.api.sync.lease import Lease
from airflow_provider_mediquo.api.sync.members import (
    ACKNOWLEDGED,
    DOUBT,
    FOREIGN_DOUBT,
    OWN,
    PLAN,
    PRESENT,
    Members,
)
from airflow_provider_mediquo.api.sync.store import Doubt, Sent, Store
from airflow_provider_mediquo.api.visibility.fingerprint import make_proof

log = logging.getLogger(__name__)

_MAX_RESPELLED = 2000  # kept before they are written
_RECENT = timedelta(minutes=15).total_seconds()
"""How long mediQuo may take to show a write."""
