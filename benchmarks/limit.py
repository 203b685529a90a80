"""The effect of mediQuo's rate limit on each way to send: `make bench-limit`.

First so many patients that they take more than a minute's requests; then how much of the limit this
provider uses in three minutes, whichever way mediQuo counts its minute.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

from common import LIMIT, Run, Sandbox, Stats, Table, measured, running_sandbox, say
from patients import CHUNK
from peers import (
    DLT_MORE,
    DLT_TUNED,
    IN_FLIGHT,
    OURS_MORE,
    maybe_airflow,
    process_peers,
    task_peers,
    warm_up,
)

MINUTES = 3
CEILING = MINUTES * LIMIT * CHUNK  # patients that the limit allows
SHARE = 0.985  # the target, as a fraction of it


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=120_000, help="(%(default)s)")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds (%(default)s)")
    parser.add_argument("--dlt-python", default=".venv-bench-dlt/bin/python", help="(%(default)s)")
    parser.add_argument("--no-airflow", dest="airflow", action="store_false", help="processes only")
    asked = parser.parse_args()
    with running_sandbox() as sandbox:
        print(f"### {asked.patients:,} patients, {LIMIT} requests a minute\n")
        print(survivors(sandbox, asked))
        print(f"\n### {MINUTES} minutes of this provider\n")
        print(shares(sandbox, asked.latency))


def survivors(sandbox: Sandbox, asked: argparse.Namespace) -> Table:
    """Send the same patients in each way, and report the result."""
    table = Table("", "patients accepted", "seconds", "429s", "ended with")
    with maybe_airflow(sandbox, asked.airflow) as airflow:
        peers = process_peers(asked.dlt_python)
        for name in (OURS_MORE, DLT_MORE):  # with a limit, more requests at a time change nothing
            peers.pop(name, None)
        if DLT_TUNED in peers:
            peers[f"{DLT_TUNED}, with plain requests"] = lambda sandbox, count: measured(
                "dlt_destination",
                *(count, IN_FLIGHT, "plain"),
                env=sandbox.environment(),
                python=asked.dlt_python,
            )
        peers |= task_peers(airflow, patience=900.0) if airflow else {}
        warm_up(peers, sandbox)
        for name, peer in peers.items():
            sandbox.start_over(latency=asked.latency, window="fixed")
            cost, stats = peer(sandbox, asked.patients), sandbox.stats()
            say(f"{name}: {stats.accepted:,} accepted; {cost}")
            ending = cost.error or "success"
            table.add(
                name, f"{stats.accepted:,}", f"{cost.wall:.0f}", str(stats.refused), ending[:100]
            )
    table.add("*target for this provider*", f"*{asked.patients:,}*", "", "*0*", "*success*")
    return table


def shares(sandbox: Sandbox, latency: float) -> Table:
    """Report how much of the limit this provider uses."""
    table = Table("mediQuo's minute", "patients accepted", "share of the ceiling", "429s")
    for window in ("fixed", "sliding"):
        sandbox.start_over(latency=latency, window=window)
        # One minute more than is measured, so that there is always something to send.
        patients = CEILING + LIMIT * CHUNK
        with Run("provider", 0, patients, env=sandbox.environment()) as run:
            stats = after_minutes(sandbox)
            cost = run.cost()
        say(f"{window}: {stats}, {cost}")
        if cost.error:
            raise SystemExit(cost.error)
        refused = sandbox.stats().refused
        table.add(window, f"{stats.accepted:,}", f"{stats.accepted / CEILING:.1%}", str(refused))
    table.add("*target*", "", f"*{SHARE:.1%}*", "*0*")
    return table


def after_minutes(sandbox: Sandbox) -> Stats:
    """Wait for the first request, and count the patients after some minutes."""
    for _ in looks(within=60.0):
        if sandbox.stats().requests:
            break
    time.sleep(MINUTES * 60)
    return sandbox.stats()


def looks(within: float) -> Iterator[None]:
    """Poll until something is true."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        yield
        time.sleep(0.02)
    raise SystemExit("Nothing came.")


if __name__ == "__main__":
    main()
