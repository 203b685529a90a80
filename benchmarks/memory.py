"""Peak memory for few and for many rows of a source that streams: `make bench-memory`.

The limit is out of the way here: a million patients would take 17 minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from common import NO_LIMIT, Cost, Sandbox, Table, measured, running_sandbox, say
from postgres import running_postgres

TARGET = 100  # MB more for many rows than for few


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", choices=SOURCES, default="postgres", help="(%(default)s)")
    parser.add_argument(
        "--rows", type=int, nargs=2, default=[10_000, 1_000_000], help="(%(default)s)"
    )
    asked = parser.parse_args()
    few, many = asked.rows
    table = Table(f"rows from {asked.source}", "peak memory", "more", "seconds", "CPU-s")
    with running_sandbox() as sandbox:
        costs = {}
        for rows in (few, many):
            sandbox.start_over(latency=0.0, requests_per_minute=NO_LIMIT)
            costs[rows] = cost = SOURCES[asked.source](sandbox, rows)
            say(f"{rows:,}: {cost}")
            accepted = sandbox.stats().accepted
            if cost.error or accepted != rows:
                raise SystemExit(f"{accepted:,} patients accepted; {cost.error}")
    for rows, cost in costs.items():
        more = cost.peak - costs[few].peak
        table.add(
            f"{rows:,}",
            f"{cost.peak:.0f} MB",
            f"{more:.0f} MB",
            f"{cost.wall:.0f}",
            f"{cost.cpu:.0f}",
        )
    table.add("*target*", "", f"*within {TARGET} MB*", "", "")
    print(table)


def generator(sandbox: Sandbox, rows: int) -> Cost:
    """Rows of a generator."""
    return measured("provider", 0, rows, env=sandbox.environment(NO_LIMIT))


def postgres(sandbox: Sandbox, rows: int) -> Cost:
    """Rows of a table, through `SqlToMediquoOperator`."""
    with running_postgres(rows) as connection:
        env = sandbox.environment(NO_LIMIT) | {"AIRFLOW_CONN_POSTGRES": connection}
        return measured("sql_to_mediquo", "SELECT * FROM patients", env=env)


SOURCES: dict[str, Callable[[Sandbox, int], Cost]] = {"generator": generator, "postgres": postgres}


if __name__ == "__main__":
    main()
