"""The import contracts of pyproject.toml."""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_each_layer_imports_only_those_below_it():
    # In a process of its own: it switches off all loggers that are there.
    linter = str(Path(sys.executable).with_name("lint-imports"))
    command = [linter, "--config", str(PROJECT), "--no-cache"]
    done = subprocess.run(
        command, cwd=PROJECT.parent, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
