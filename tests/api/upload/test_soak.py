"""What a long run holds. An hour of it, with its memory, is `make bench-soak`."""

import os
import sys
import threading

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="It looks into /proc.")

IN_FLIGHT = 4


def held():
    """Open files and threads."""
    return len(os.listdir("/proc/self/fd")), threading.active_count()


@pytest.mark.no_cover
def test_a_long_run_with_faults_throughout_piles_up_no_files_and_no_threads(
    box, client, upload, people, eventually
):
    before = held()
    box.settings.seed = 3
    box.settings.error_rate = box.settings.lost_before_rate = box.settings.lost_after_rate = 0.08
    seen = []

    def watched():
        for number, patient in enumerate(people(600)):
            if number % 50 == 25:
                seen.append(held())
            yield patient

    run = upload(client, watched(), chunk_size=1, max_in_flight=IN_FLIGHT)
    # Two runs in five have a request that finds no answer five times: that is no matter here.
    assert run.report.read == 600
    assert run.report.stopped_because is None
    assert run.report.retries > 100
    files, threads = (max(counts) for counts in zip(*seen, strict=True))
    # Each request has a socket at both ends, which are both here; those that broke go a bit later.
    assert files <= before[0] + 4 * IN_FLIGHT
    assert threads <= before[1] + IN_FLIGHT + 1  # and what tells the progress
    client.close()
    eventually(lambda: all(now <= then for now, then in zip(held(), before, strict=True)))
