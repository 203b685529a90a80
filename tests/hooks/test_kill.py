"""A kill that always works: what a signal handler calls takes no lock of the interrupted thread."""

import json
import os
import subprocess
import sys

import pytest

PATIENCE = 120  # seconds: a deadlock would last for ever
SOON = 30  # seconds: each wait would take 300


@pytest.mark.no_cover
def test_a_kill_ends_every_wait(box):
    """For an answer, a pause or a backoff; the sensor between two checks too."""
    for endpoint in ("upsert", "get", "authenticate"):
        box.script(endpoint, *["hang", "503:60", "hang"] * 3, *["429:300"] * 1000)
    seconds = killed("upsert", "get", "authenticate", "sensor", count=12)
    assert max(seconds) < SOON


def killed(*kinds, count):
    """Kill so many calls in a process of their own; return how long each took to end."""
    command = [sys.executable, "-m", "tests.hooks.kills", str(count), *kinds]
    done = subprocess.run(
        command, env=os.environ, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    seconds = json.loads(done.stdout.splitlines()[-1])
    assert len(seconds) == count * len(kinds)
    return seconds
