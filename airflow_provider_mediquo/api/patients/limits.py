"""Limits of mediQuo's Patients API, and our own limits on a record."""

from __future__ import annotations

MAX_PATIENTS = 100
"""Patients in one request, at most."""

MAX_RECORD_BYTES = 1 << 16
"""Size of a record as JSON; a usual one has some hundred bytes. A hundred records of this size are
close to what web servers accept as one request, and ten such requests to the memory of a small
worker."""

MAX_CODE = 255
"""Characters of a code, as for keys in databases. It also appears in URLs and logs."""
