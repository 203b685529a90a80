"""This provider compared with the alternatives: `make bench-peers`.

All in one run and in turns, against a mediQuo on this machine that takes 50, 200 and 800 ms to answer:
processes of their own, and tasks of one Airflow.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

from common import Cost, Sandbox, Table, about, measured, running_sandbox, say
from deployment import Deployment, running_airflow

OURS, LOOP, DLT, DLT_TUNED = "this provider", "loop", "dlt as it comes", "dlt tuned"
MAPPED = "`HttpOperator` mapped"
IN_FLIGHT = 10  # requests at a time: our default, and dlt's workers when tuned
MORE = 20  # a second setting for both
OURS_MORE, DLT_MORE = f"{OURS}, {MORE} requests at once", f"dlt tuned, {MORE} requests at once"
TARGET_LATENCY = 0.2  # seconds; the targets apply to it
TARGETS = {LOOP: 6.0, DLT: 3.0, DLT_TUNED: 1.7, DLT_MORE: 1.7, MAPPED: 12.0}  # times faster
CPU_TARGETS = {DLT: 1 / 2, DLT_TUNED: 1 / 2, DLT_MORE: 1 / 2, MAPPED: 1 / 50}  # of their CPU

Peer = Callable[[Sandbox, int], Cost]


def main() -> None:
    """Measure, and print the tables."""
    asked = arguments()
    print(f"{asked.runs} runs of each, medians. {about()}.")
    with running_sandbox() as sandbox, maybe_airflow(sandbox, asked.airflow) as airflow:
        processes = process_peers(asked.dlt_python)
        tasks = task_peers(airflow, asked.patience) if airflow else {}
        warm_up(processes | tasks, sandbox)
        for latency in asked.latency:
            costs = in_turns(processes | tasks, sandbox, latency, asked)
            print(f"\n### {asked.patients:,} patients, {latency * 1000:.0f} ms an answer\n")
            print(process_table({name: costs[name] for name in processes}, asked.patients, latency))
            if airflow:
                print()
                print(task_table({name: costs[name] for name in tasks}, costs, asked, latency))
        if airflow:
            idle = airflow.idle(20)
            print(f"\nAirflow that does nothing: {idle.cpu / idle.wall:.2f} CPU-s a second.")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=10_000, help="(%(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="of each; medians count (%(default)s)")
    parser.add_argument(
        "--latency", type=float, nargs="+", default=[0.05, 0.2, 0.8], help="seconds (%(default)s)"
    )
    parser.add_argument(
        "--dlt-python",
        default=".venv-bench-dlt/bin/python",
        help="of an environment with dlt, without which dlt is left out (%(default)s)",
    )
    parser.add_argument("--no-airflow", dest="airflow", action="store_false", help="processes only")
    parser.add_argument(
        "--patience", type=float, default=900.0, help="seconds for a run of Airflow (%(default)s)"
    )
    return parser.parse_args()


@contextlib.contextmanager
def maybe_airflow(sandbox: Sandbox, wanted: bool) -> Iterator[Deployment | None]:
    """Start an Airflow, if requested."""
    if not wanted:
        yield None
        return
    say("Starting Airflow ...")
    with running_airflow(sandbox.environment()) as deployment:
        yield deployment


def process_peers(dlt_python: str) -> dict[str, Peer]:
    """Return the peers that run in separate processes."""

    def process(name: str, *before: object, after: tuple[object, ...] = (), **how: str) -> Peer:
        return lambda sandbox, count: measured(
            name, *before, count, *after, env=sandbox.environment(), **how
        )

    peers = {
        OURS: process("provider", 0),
        OURS_MORE: process("provider", 0, after=(f"max_in_flight={MORE}",)),
        LOOP: process("loop"),
    }
    if not Path(dlt_python).exists():
        say(f"There is no {dlt_python}: dlt is left out.")
        return peers
    return peers | {
        DLT: process("dlt_destination", after=(1,), python=dlt_python),
        DLT_TUNED: process("dlt_destination", after=(IN_FLIGHT,), python=dlt_python),
        DLT_MORE: process("dlt_destination", after=(MORE,), python=dlt_python),
    }


def task_peers(airflow: Deployment, patience: float) -> dict[str, Peer]:
    """Return the peers that run as tasks of one Airflow."""
    return {
        f"{OURS}, a task": lambda _, count: airflow.run("provider_task", patience, count=count),
        MAPPED: lambda _, count: airflow.run("http_operator_mapped", patience, count=count),
    }


def warm_up(peers: dict[str, Peer], sandbox: Sandbox) -> None:
    """Run each once, so that its modules are compiled."""
    for name, peer in peers.items():
        say(f"warming up: {name}")
        sandbox.start_over(latency=0.0)
        peer(sandbox, 100)


def in_turns(
    peers: dict[str, Peer], sandbox: Sandbox, latency: float, asked: argparse.Namespace
) -> dict[str, list[Cost]]:
    """Run each several times, in turns, and return the costs."""
    costs: dict[str, list[Cost]] = {name: [] for name in peers}
    for turn in range(asked.runs):
        for name, peer in peers.items():
            sandbox.start_over(latency=latency)
            cost = peer(sandbox, asked.patients)
            accepted = sandbox.stats().accepted
            if cost.error or accepted != asked.patients:
                raise SystemExit(f"{name}: {accepted:,} patients accepted; {cost.error}")
            say(f"{latency} s, run {turn + 1}, {name}: {cost}")
            costs[name].append(cost)
    return costs


def process_table(costs: dict[str, list[Cost]], patients: int, latency: float) -> Table:
    """Compare the peers that ran in separate processes."""
    table = Table(
        "a process each",
        "seconds",
        "patients/s",
        "CPU-s",
        "MB",
        "this provider is",
        "with ... of its CPU",
        "start included: seconds",
        "CPU-s",
        "MB",
    )
    for name, each in costs.items():
        like = OURS_MORE if name == DLT_MORE else OURS
        ours = middle([cost.own for cost in costs[like] if cost.own])
        own, whole = middle([cost.own for cost in each if cost.own]), middle(each)
        table.add(
            name,
            f"{own.wall:.1f}",
            f"{patients / own.wall:,.0f}",
            f"{own.cpu:.2f}",
            f"{own.peak:.0f}",
            *compared(name, ours, own, latency),
            f"{whole.wall:.1f}",
            f"{whole.cpu:.2f}",
            f"{whole.peak:.0f}",
        )
    return table


def task_table(
    tasks: dict[str, list[Cost]],
    all_of_them: dict[str, list[Cost]],
    asked: argparse.Namespace,
    latency: float,
) -> Table:
    """Compare the peers that ran as tasks of one Airflow, and ours as a process."""
    table = Table(
        "in Airflow, from the trigger to the run's end",
        "seconds",
        "patients/s",
        "CPU-s, all of Airflow",
        "MB, all of Airflow",
        "this provider, a task, is",
        "with ... of its CPU",
        "this provider, a process, is",
        "with ... of its CPU",
    )
    as_task = middle(tasks[f"{OURS}, a task"])
    as_process = middle([cost.own for cost in all_of_them[OURS] if cost.own])
    for name, each in tasks.items():
        cost = middle(each)
        table.add(
            name,
            f"{cost.wall:.1f}",
            f"{asked.patients / cost.wall:,.0f}",
            f"{cost.cpu:.2f}",
            f"{cost.peak:,.0f}",
            *compared(name, as_task, cost, latency),
            *compared(name, as_process, cost, latency),
        )
    return table


def compared(name: str, ours: Cost, other: Cost, latency: float) -> tuple[str, str]:
    """Report how much faster ours is, its CPU time as a fraction of the other's, and the targets."""
    if name not in TARGETS:
        return "", ""
    faster, less = f"{other.wall / ours.wall:.1f} times faster", f"{ours.cpu / other.cpu:.3f}"
    if latency == TARGET_LATENCY:
        faster += f" (target: {TARGETS[name]:g})"
    if latency == TARGET_LATENCY and name in CPU_TARGETS:
        less += f" (target: {CPU_TARGETS[name]:g})"
    return faster, less


def middle(costs: list[Cost]) -> Cost:
    """Return the medians."""
    return Cost(
        statistics.median(cost.wall for cost in costs),
        statistics.median(cost.cpu for cost in costs),
        statistics.median(cost.peak for cost in costs),
    )


if __name__ == "__main__":
    main()
