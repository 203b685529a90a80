"""Limits of mediQuo's Patients API, and of what is accepted as a record."""

from __future__ import annotations

MAX_PATIENTS = 100
"""Patients in one request, at most."""

MAX_RECORD_BYTES = 1 << 16
"""Of a record as JSON, which has some hundreds. A hundred of this size are near what web servers
take in one request, and ten such requests near what a small worker has memory for."""

MAX_CODE = 255
"""Characters of a code: what keys have in databases. It goes into a URL, too, and into logs."""
