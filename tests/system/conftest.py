"""What the tests with a whole Airflow or a browser share.

They say what they do, and leave no process behind.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from dev.local_airflow import stop_cleanly_on_signals

TIMEOUT = 20  # seconds, for a process that was told to end
PAGE_TIMEOUT = 60_000  # milliseconds, for anything on a page
# The first one takes a fifth of the CPU of the others.
CHROMIUMS = ("chromium-headless-shell", "chromium", "chromium-browser")
ON_ITS_OWN = [
    "--no-sandbox",  # which does not work for root
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give a test time to start a whole Airflow."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session", autouse=True)
def orderly_end() -> None:
    """Stop what was started also when the tests are told to end."""
    stop_cleanly_on_signals()


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
        deadline = time.monotonic() + TIMEOUT
        while (left := processes_of(home)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left, f"These processes were left behind: {left}"

    return check


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium that asks nobody but the pages it is led to."""
    from playwright.sync_api import expect, sync_playwright  # not where these tests are left out

    program = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    assert program, "There is no Chromium here: `make test-system` installs it."
    expect.set_options(timeout=PAGE_TIMEOUT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ON_ITS_OWN)
        yield browser
        browser.close()


def processes_of(home: Path) -> list[psutil.Process]:
    """Return what works in a folder, or in one below it, as all does that `Airflow` starts.

    Airflow's processes rename themselves, which blots out their environment.
    """
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(home):
                found.append(process)
    return found
