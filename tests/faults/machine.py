"""What both machines share: a mediQuo behind a gateway, and how long they run."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, ClassVar
from urllib.request import urlopen

from hypothesis import Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.faults.members import REFUSED
from tests.support.processes import running

PROJECT = Path(__file__).parents[2]
LAG = 0.05  # seconds
SETTLING = 60  # seconds for what is on its way to become visible, on a busy machine too
CALM = 5.0  # seconds for an answer where nothing goes wrong, whatever else the machine does

# By default the same examples every time, so that what turns CI red is the change; unshrunk, because
# that takes minutes. The profile `thorough` finds new ones.
IS_THOROUGH = settings.default is settings.get_profile("thorough")
TIME_LIMIT = 6 * 3600 if IS_THOROUGH else 600  # seconds


class FaultMachine(RuleBasedStateMachine):
    """A sandbox behind its gateway; a subclass says what happens, and what must hold after each run."""

    must_hold: ClassVar[Sequence[Callable[[Any], None]]]
    reached: ClassVar[Counter[str]]
    place: Callable[..., Any]
    connect: Callable[..., Any]

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.box, self.gateway = self.stack.enter_context(
            self.place(lag=LAG, retry_after="none", refuse_tax_id=REFUSED)
        )
        self.box.settings.drip = 0.03  # an answer takes longer than the client has patience
        self.children = 0
        self.is_well = True

    def shown(self) -> dict[str, Any]:
        """What mediQuo shows when nothing is on its way."""
        self.gateway.rest()
        deadline = time.monotonic() + SETTLING
        while self.pending():
            assert time.monotonic() < deadline, "Writes are still to come."
            time.sleep(0.02)
        return dict(self.box.patients)

    def pending(self) -> int:
        with urlopen(f"{self.box.home}/sandbox/stats", timeout=SETTLING) as answer:
            return json.load(answer)["pending"]

    def start_child(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        self.children += 1
        command = [sys.executable, "-m", "tests.faults.child"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}
        return running(command, cwd=PROJECT, **pipes)

    def check(self, run: Any) -> None:
        self.is_well = False
        for holds in self.must_hold:
            holds(run)
        self.is_well = True


def run_until_reached(
    machine: type[FaultMachine],
    needed: Mapping[str, int],
    *,
    max_examples: int,
    steps: int,
    seeds: Sequence[int],
) -> None:
    """Run batches, each with a seed of its own, until the machine has reached what is needed.

    What is drawn depends on hypothesis' version too: there are more, where one was not enough.

    :param needed: what it has to reach, and how often at least: else it proves little.
    :param max_examples: per batch.
    :param steps: per example.
    :param seeds: one a batch, as many batches as it takes.
    """
    machine.reached = Counter()
    if IS_THOROUGH:
        run_state_machine_as_test(machine, settings=settings())
    batch = settings(
        max_examples=max_examples,
        stateful_step_count=steps,
        derandomize=False,
        database=None,
        phases=[Phase.generate],
    )
    for number in seeds:
        run_state_machine_as_test(
            seed(number)(type("Machine", (machine,), {})),
            settings=batch,
        )
        lacking = {name: n for name, n in needed.items() if machine.reached[name] < n}
        if not lacking:
            return
    raise AssertionError(f"never, or not often enough: {lacking}")
