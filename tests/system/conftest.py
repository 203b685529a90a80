"""What the tests with a whole Airflow share: they tell what they do, and leave no process behind."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PATIENCE = 20  # seconds, for a process that was told to end


@pytest.fixture(scope="session", autouse=True)
def orderly_end() -> None:
    """Take being told to end for Ctrl-C, so that what was started is stopped then too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def say(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Print a line at once, whatever pytest captures: such a test takes minutes."""
    started = time.monotonic()

    def say(line: str) -> None:
        with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"\n[{time.monotonic() - started:5.0f} s] {line.strip()}", end="", flush=True)

    return say


@pytest.fixture(scope="session")
def nothing_left() -> Callable[[Path], None]:
    """Fail if a process that was started in a folder lives on: `nothing_left(home)`."""

    def check(home: Path) -> None:
        deadline = time.monotonic() + PATIENCE
        while (left := processes_of(home)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left, "\n".join(["These processes were left behind:", *left])

    return check


def processes_of(home: Path) -> list[str]:
    """Return the id and the command of each process that works in this folder or in one below it.

    Airflow's processes are started there, and rename themselves, which blots out their environment.
    """
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(home):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                found.append(f"{process.name} {command.decode(errors='replace')}")
        except OSError:  # it has ended, or is somebody else's
            continue
    return found
