"""A run that sends only what changed: `make bench-sync`.

PostgreSQL is the source and keeps the state. In one run: how the cost grows with the members, what the
state adds to a run that sends everything, and the alternatives.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common import LIMIT, NO_LIMIT, Cost, Sandbox, Table, about, measured, running_sandbox, say
from postgres import running_postgres, tell

LATENCY = 0.2  # seconds
CHANGED = 100  # one member of so many
BASE = 10_000  # members; the memory of more is compared with it
OURS, OURS_ALL = "this provider", "this provider, without a state"
SQL = "SELECT * FROM patients"
PARTS = "growth", "overhead", "limit", "peers"


@dataclass(frozen=True)
class Database:
    """A PostgreSQL that is the source, and keeps the state.

    :param connection: Airflow's, as JSON.
    """

    connection: str

    @property
    def port(self) -> int:
        """Its port on this machine."""
        return int(json.loads(self.connection)["port"])

    def forget(self) -> None:
        """Drop the state."""
        tables = "mediquo_member, mediquo_sync, mediquo_state"
        tell(self.port, f"SET client_min_messages = warning; DROP TABLE IF EXISTS {tables}")

    def rest(self) -> None:
        """Do what a database does between two nights."""
        tell(self.port, "VACUUM ANALYZE")

    def change(self) -> None:
        """Change one member of a hundred."""
        tell(
            self.port,
            f"UPDATE patients SET first_name = first_name || 'a' WHERE code LIKE '%{CHANGED - 1}'",
        )
        self.rest()


Peer = Callable[[Sandbox, Database, int], Cost]
"""Sends what a database has, with so many requests a minute."""


def main() -> None:
    """Measure, and print the tables."""
    asked = arguments()
    print(f"{about()}.")
    with running_sandbox() as sandbox:
        if "growth" in asked.only:
            print(f"\n### One member of {CHANGED} changed\n")
            print(growth(sandbox, asked.members))
        if "overhead" in asked.only:
            print(f"\n### {asked.few:,} patients, all of them new\n")
            print(overhead(sandbox, asked.few, asked.runs, 1.2))
        if "limit" in asked.only:
            print(f"\n### {asked.first:,} patients, all of them new, {LIMIT} requests a minute\n")
            print(overhead(sandbox, asked.first, 1, 1.03))
        if "peers" in asked.only:
            print(f"\n### {asked.compared:,} members, one of {CHANGED} changed\n")
            print(comparison(sandbox, asked.compared, peers(asked)))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, help="of the tables (all of them)"
    )
    parser.add_argument(
        "--members",
        type=int,
        nargs="+",
        default=[100_000, 500_000, 2_000_000],
        help="(%(default)s)",
    )
    parser.add_argument("--few", type=int, default=10_000, help="without waiting (%(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="of these; medians (%(default)s)")
    parser.add_argument("--first", type=int, default=120_000, help="at the limit (%(default)s)")
    parser.add_argument("--compared", type=int, default=100_000, help="with peers (%(default)s)")
    parser.add_argument("--dlt-python", default=".venv-bench-dlt/bin/python", help="(%(default)s)")
    parser.add_argument("--drt-python", default=".venv-bench-drt/bin/python", help="(%(default)s)")
    return parser.parse_args()


def growth(sandbox: Sandbox, sizes: list[int]) -> Table:
    """Run with nothing changed, and with one member of a hundred changed, for more and more members."""
    table = Table(
        "members",
        "changed",
        "seconds",
        "CPU-s",
        "CPU of a member",
        "peak memory",
        f"more than with {BASE:,}",
        "the first run, without a limit",
    )
    least = 0.0
    for members in (BASE, *sizes):
        with running_postgres(members) as connection:
            database = Database(connection)
            first = run(sandbox, database, ours, members, limit=NO_LIMIT, latency=0.0)
            database.rest()
            for changed in (0, members // CHANGED):
                if changed:
                    database.change()
                cost = run(sandbox, database, ours, changed)
                least = least or cost.peak
                table.add(
                    f"{members:,}",
                    f"{changed:,}",
                    f"{cost.wall:.1f}",
                    f"{cost.cpu:.1f}",
                    f"{cost.cpu / members * 1e6:.1f} us",
                    f"{cost.peak:.0f} MB",
                    f"{cost.peak - least:.0f} MB",
                    "" if changed else f"{first.wall:.0f} s, {first.cpu:.0f} CPU-s",
                )
    table.add("*target: 2,000,000*", "*0*", "", "", "*12 us*", "", "", "")
    table.add("*target: 2,000,000*", "*20,000*", "*60*", "*30*", "", "", "*120 MB*", "")
    return table


def overhead(sandbox: Sandbox, patients: int, runs: int, target: float) -> Table:
    """Send everything without and with a state, in turns."""
    table = Table("", "seconds", "CPU-s", "times as long")
    peers: dict[str, Peer] = {OURS_ALL: ours_all, f"{OURS}, with a state": ours}
    costs: dict[str, list[Cost]] = {name: [] for name in peers}
    with running_postgres(patients) as connection:
        database = Database(connection)
        for _ in range(runs):
            for name, peer in peers.items():
                database.forget()
                own = run(sandbox, database, peer, patients).own
                assert own
                costs[name].append(own)
    without = statistics.median(cost.wall for cost in costs[OURS_ALL])
    for name, each in costs.items():
        wall = statistics.median(cost.wall for cost in each)
        cpu = statistics.median(cost.cpu for cost in each)
        table.add(name, f"{wall:.2f}", f"{cpu:.2f}", f"{wall / without:.3f}")
    table.add("*target*", "", "", f"*{target}*")
    return table


def comparison(sandbox: Sandbox, members: int, peers: dict[str, Peer]) -> Table:
    """Let each send all members, change some, and measure what comes next."""
    table = Table(
        "", "first run, no limit: seconds", "CPU-s", "then: sent", "seconds", "CPU-s", "MB"
    )
    for name, peer in peers.items():
        with running_postgres(members) as connection:
            database = Database(connection)
            first = run(sandbox, database, peer, members, limit=NO_LIMIT, latency=0.0).own
            database.change()
            sent = members if peer is ours_all else members // CHANGED
            then = run(sandbox, database, peer, sent).own
            assert first and then
        table.add(
            name,
            f"{first.wall:.0f}",
            f"{first.cpu:.1f}",
            f"{sent:,}",
            f"{then.wall:.1f}",
            f"{then.cpu:.1f}",
            f"{then.peak:.0f}",
        )
    return table


def peers(asked: argparse.Namespace) -> dict[str, Peer]:
    """Return all that can send what changed, and this provider without a state."""

    def dlt(sandbox: Sandbox, database: Database, limit: int) -> Cost:
        env = sandbox.environment(limit)
        return measured("dlt_changed", database.port, env=env, python=asked.dlt_python)

    def drt(sandbox: Sandbox, database: Database, limit: int) -> Cost:
        env = sandbox.environment(limit)
        return measured("drt_rest", database.port, limit / 60, env=env, python=asked.drt_python)

    found: dict[str, Peer] = {OURS: ours, OURS_ALL: ours_all}
    others = {"dlt, with hashes by hand": (dlt, asked.dlt_python)}
    others["drt, with its ledger"] = drt, asked.drt_python
    for name, (peer, python) in others.items():
        if Path(python).exists():
            found[name] = peer
        else:
            say(f"There is no {python}: {name} is left out.")
    return found


def ours(sandbox: Sandbox, database: Database, limit: int) -> Cost:
    """Send what changed."""
    return _sql_to_mediquo(sandbox, database, limit, "state")


def ours_all(sandbox: Sandbox, database: Database, limit: int) -> Cost:
    """Send everything."""
    return _sql_to_mediquo(sandbox, database, limit)


def _sql_to_mediquo(sandbox: Sandbox, database: Database, limit: int, *state: str) -> Cost:
    env = sandbox.environment(limit)
    env |= dict.fromkeys(("AIRFLOW_CONN_POSTGRES", "AIRFLOW_CONN_STATE"), database.connection)
    return measured("sql_to_mediquo", SQL, *state, env=env)


def run(
    sandbox: Sandbox,
    database: Database,
    peer: Peer,
    sent: int,
    *,
    limit: int = LIMIT,
    latency: float = LATENCY,
) -> Cost:
    """Run a peer, and check that exactly so many patients were sent."""
    sandbox.start_over(latency=latency, requests_per_minute=limit)
    cost = peer(sandbox, database, limit)
    stats = sandbox.stats()
    say(f"{stats}, {cost}")
    if cost.error or stats.accepted != sent:
        raise SystemExit(f"{stats.accepted:,} patients accepted; {cost.error}")
    return cost


if __name__ == "__main__":
    main()
