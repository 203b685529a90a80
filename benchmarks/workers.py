"""Four parallel processes under one limit, with and without a share each: `make bench-workers`."""

from __future__ import annotations

import argparse
import contextlib
import time

from common import LIMIT, Run, Sandbox, Stats, Table, running_sandbox, say
from limit import CEILING, MINUTES, SHARE, after_minutes
from patients import CHUNK

WORKERS = 4


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latency", type=float, default=0.2, help="seconds (%(default)s)")
    asked = parser.parse_args()
    table = Table(
        f"{WORKERS} processes, each with",
        "mediQuo's minute",
        "patients accepted",
        "share of the ceiling",
        "429s",
        "failures",
        "all done after",
    )
    with running_sandbox() as sandbox:
        for name, rate in ((f"its share, {LIMIT // WORKERS}", LIMIT // WORKERS), ("all", LIMIT)):
            for window in ("fixed", "sliding"):
                sandbox.start_over(latency=asked.latency, window=window)
                stats, seconds, errors = at_once(sandbox, rate)
                say(f"{name}, {window}: {stats}, {errors}")
                table.add(
                    name,
                    window,
                    f"{stats.accepted:,}",
                    f"{stats.accepted / CEILING:.1%}",
                    str(sandbox.stats().refused),
                    str(len(errors)),
                    f"{seconds:.0f} s",
                )
    table.add("*target: its share*", "", "", f"*{SHARE:.1%}*", "*0*", "*0*", "")
    table.add("*target: all*", "", "", f"*{SHARE:.1%}*", "*they pause*", "*0*", "")
    print(f"### {WORKERS} workers, counted after {MINUTES} minutes\n")
    print(table)


def at_once(sandbox: Sandbox, rate: int) -> tuple[Stats, float, list[str]]:
    """Start all; return the patients after some minutes, the duration, and the errors."""
    patients = (CEILING + LIMIT * CHUNK) // WORKERS
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        runs = [
            stack.enter_context(
                Run("provider", worker * patients, patients, env=sandbox.environment(rate))
            )
            for worker in range(WORKERS)
        ]
        stats = after_minutes(sandbox)
        costs = [run.cost() for run in runs]
    seconds = time.monotonic() - started
    return stats, seconds, [cost.error for cost in costs if cost.error]


if __name__ == "__main__":
    main()
