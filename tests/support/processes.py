import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def unmeasured() -> dict[str, str]:
    """The environment of a process that runs little of the package: measured it takes twice as long."""
    return {name: os.environ[name] for name in os.environ if name != "COVERAGE_PROCESS_CONFIG"}


@contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Run a process, which does not outlive the block: `Popen` itself waits for it, without a limit."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()
