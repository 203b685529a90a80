"""The patients of an hour at the limit, sent without it: does memory grow? `make bench-soak`.

One request of a hundred fails, and one of a hundred loses its answer after it was accepted, because
what leaks, leaks there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from common import LIMIT, NO_LIMIT, Cost, Table, measured, running_sandbox, say
from patients import CHUNK

HOUR = 60 * LIMIT * CHUNK  # patients
LOOKS = 12
FAULTS = {"error_rate": 0.01, "lost_after_rate": 0.01}
GROWTH = 20  # MB, from a twelfth to the end, in addition to the codes


def main() -> None:
    """Send the patients, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=HOUR, help="(%(default)s)")
    count = parser.parse_args().patients
    with running_sandbox() as sandbox:
        sandbox.start_over(latency=0.0, requests_per_minute=NO_LIMIT, seed=1, **FAULTS)
        cost, seen = watched("soak", count, sandbox.environment(NO_LIMIT))
        stats = sandbox.stats()
    say(f"{cost}; {stats}")
    if cost.error:
        raise SystemExit(cost.error)
    _, codes = watched("codes", count, {})
    table = Table("patients", "memory", "the codes alone", "open files", "threads")
    alone = {patients: f"{memory:.0f} MB" for patients, memory, *_ in codes}
    for patients, memory, files, threads in seen:
        table.add(
            f"{patients:,}", f"{memory:.0f} MB", alone.get(patients, ""), f"{files}", f"{threads}"
        )
    grown, grown_alone = seen[LOOKS][1] - seen[1][1], codes[-1][1] - codes[0][1]
    print(f"{stats.requests:,} requests in {cost.wall:.0f} s, {cost.cpu:.0f} CPU-s.\n")
    print(table)
    print(
        f"\nFrom a twelfth to the end it grew by {grown:.0f} MB, and the codes alone by "
        f"{grown_alone:.0f} MB. Target: {GROWTH} MB more than those at most; after the end as many "
        "open files and threads as before."
    )


def watched(process: str, count: int, env: dict[str, str]) -> tuple[Cost, list[list[float]]]:
    """Run one of the processes; return its cost, and its resources meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "seen.json")
        cost = measured(process, count, LOOKS, file, env=env)
        return cost, json.loads(file.read_text())


if __name__ == "__main__":
    main()
