"""Runs the tests on every supported combination of Airflow, Python and marshmallow.

A cell is one combination, written as 3.1/3.11/3. Each cell has its own virtual environment with the
built wheel, and runs the tests in a copy of the project without the package's source, so that the
tests can only import the wheel.

The newest Airflow is tested with the newest version of each dependency, to find what they break.

Usage: matrix.py [--oldest] [--quick] [CELL...]
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".venv-matrix"
UV = str(ROOT / ".venv-uv" / "bin" / "uv")
PACKAGE, DISTRIBUTION = "airflow_provider_mediquo", "airflow-provider-mediquo"
DISTRIBUTIONS = ["apache-airflow", "marshmallow", "apache-airflow-providers-common-compat"]
PYTEST = ["-n", "4", "--dist", "loadfile", "--no-loadscope-reorder", "--ignore=tests/system"]
# What a quick run leaves out: what touches neither Airflow nor marshmallow, nor the wheel, runs the
# same as in `make test`.
LEFT_OUT = ["api/client", "api/upload", "api/visibility", "dev", "faults", "sandbox", "support"]
NOT_QUICK = [f"--ignore=tests/{folder}" for folder in LEFT_OUT]

# An older Airflow gets the packages that were newest when its last patch was released: today's
# pydantic breaks 3.1 and 3.2. A date has the effect of Airflow's constraint files, without another
# host than PyPI.
AIRFLOWS = {"3.1": "2026-03-20", "3.2": "2026-06-10", "3.3": None}
PYTHONS = ["3.11", "3.12", "3.13"]
MARSHMALLOWS = ["3", "4"]
TIMEOUT = 45 * 60  # seconds, for the tests of one cell


@dataclass(frozen=True)
class Cell:
    airflow: str
    python: str
    marshmallow: str

    def __str__(self) -> str:
        return f"{self.airflow}/{self.python}/{self.marshmallow}"

    @property
    def home(self) -> Path:
        return HOME / str(self).replace("/", "-")

    @property
    def interpreter(self) -> Path:
        return self.home / "bin" / "python"

    @property
    def log(self) -> Path:
        return HOME / f"{self.home.name}.log"


CELLS = [Cell(*parts) for parts in product(AIRFLOWS, PYTHONS, MARSHMALLOWS)]
# The oldest and the newest break first; `make test` covers the newest, except for Python.
OLDEST = Cell("3.1", "3.11", "3")


@dataclass
class Result:
    """The result of a cell: a remark, the installed versions and the test counts."""

    cell: Cell
    remark: str
    good: bool = False
    installed: tuple[str, ...] = ("",) * 4
    counts: tuple[int | str, ...] = ("",) * 3
    seconds: float = 0

    @property
    def row(self) -> list[str]:
        seconds = f"{self.seconds:.0f}" if self.seconds else ""
        return [str(self.cell), *self.installed, *map(str, self.counts), seconds, self.remark]


def main() -> None:
    """Run the cells, print a table, and end with an error if a cell failed or none ran."""
    options = read_options()
    cells = oldest() if options.oldest else chosen(options.cells)
    with tempfile.TemporaryDirectory(prefix="mediquo-matrix-") as folder:
        tree, dist = Path(folder, "tree"), Path(folder, "dist")
        copy_project(tree)
        build(tree, dist, export_lock())
        shutil.rmtree(tree / PACKAGE)
        results = [run(cell, tree, dist, options.quick) for cell in cells]
    print_table(results)
    if not all(result.good for result in results if result.seconds):
        sys.exit("There are failures. Their logs: .venv-matrix/*.log")
    if not options.oldest and not all(result.seconds for result in results):
        sys.exit("Not all of them were run.")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make matrix ARGS=...",
        description="Run the tests on every Airflow, Python and marshmallow that is supported.",
    )
    parser.add_argument(
        "cells", nargs="*", metavar="CELL", help="for example 3.1/3.11/3 or '3.1/*'"
    )
    parser.add_argument("--oldest", action="store_true", help="only the cell that CI runs")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="no database servers, and only tests of what versions differ in",
    )
    return parser.parse_args()


def chosen(patterns: list[str]) -> list[Cell]:
    """Return the cells that match one of the patterns; all without patterns."""
    if unknown := [p for p in patterns if not fnmatch.filter(map(str, CELLS), p)]:
        sys.exit(f"No such cell: {', '.join(unknown)}. There are: {', '.join(map(str, CELLS))}")
    return [
        cell
        for cell in CELLS
        if not patterns or any(fnmatch.fnmatch(str(cell), pattern) for pattern in patterns)
    ]


def oldest() -> list[Cell]:
    """Return the oldest cell; if its Python is missing here, also one with this Python."""
    stand_in = Cell(OLDEST.airflow, "{}.{}".format(*sys.version_info), OLDEST.marshmallow)
    return [OLDEST] if find_python(OLDEST.python) else [OLDEST, stand_in]


@cache
def find_python(version: str) -> str | None:
    """Return an interpreter that runs: from PATH, pyenv or uv.

    A pyenv shim on PATH fails if pyenv has another version selected.
    """
    name = f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders = [*os.get_exec_path(), *map(str, sorted(pyenv.glob(f"versions/{version}.*/bin")))]
    candidates = [
        sys.executable,
        *(found for f in folders if (found := shutil.which(name, path=f))),
    ]
    by_uv = output(UV, "python", "find", "--no-project", "--no-python-downloads", version)
    for candidate in [*candidates, by_uv]:
        if candidate and output(candidate, "-c", "import sys; print(sys.version)").startswith(
            f"{version}."
        ):
            return candidate
    return None


def output(*command: str) -> str:
    """Return the output of a command; empty if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if done.returncode else done.stdout.strip()


def copy_project(tree: Path) -> None:
    """Copy all files that git tracks or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # it may have been deleted
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)


def export_lock() -> Path:
    """Export the versions and hashes in uv.lock to a requirements file."""
    HOME.mkdir(exist_ok=True)
    locked = HOME / "locked.txt"
    command = [UV, "export", "--quiet", "--frozen", "--all-groups", "--all-extras"]
    command += ["--no-emit-project", "--output-file", str(locked)]
    subprocess.run(command, cwd=ROOT, check=True)
    return locked


def build(tree: Path, dist: Path, locked: Path) -> None:
    """Build the sdist and the wheel, and a wheel from the sdist to compare."""
    print("Building the wheel ...", flush=True)
    uv = [UV, "build", "--quiet", "--python", sys.executable]
    subprocess.run([*uv, "--out-dir", dist, tree], check=True)
    (wheel,) = dist.glob("*.whl")
    (dist / "from_sdist").mkdir()
    wheel.rename(dist / "from_sdist" / wheel.name)
    subprocess.run([*uv, "--wheel", "--out-dir", dist, tree], check=True)
    # Checks that PyPI can render the README.
    archives = [wheel, *dist.glob("*.tar.gz")]
    twine = [UV, "tool", "run", "--quiet", "--constraints", locked, "twine", "check", "--strict"]
    subprocess.run([*twine, *archives], stdout=subprocess.DEVNULL, check=True)


def run(cell: Cell, tree: Path, dist: Path, quick: bool) -> Result:
    python = find_python(cell.python)
    if not python:
        return Result(cell, f"not run: no Python {cell.python} here")
    print(f"{cell} ... ", end="", flush=True)
    started = time.monotonic()
    with cell.log.open("w") as log:
        try:
            install(cell, python, tree, dist, log)
        except subprocess.CalledProcessError:
            result = Result(cell, "not installed")
        else:
            result = test(cell, tree, dist, quick, log)
    result.seconds = time.monotonic() - started
    print(result.remark, flush=True)
    return result


def install(cell: Cell, python: str, tree: Path, dist: Path, log: IO[str]) -> None:
    (wheel,) = dist.glob("*.whl")
    before = AIRFLOWS[cell.airflow]
    # MySQL's drivers are compiled, with packages that `make services` installs.
    groups = ["test", *(["mysql"] if shutil.which("mariadb_config") else [])]
    # Airflow 3.1 takes 1.4 and 2.
    oldest = ["sqlalchemy==1.4.*"] if cell == OLDEST else []
    for command in (
        ["venv", "--clear", "--python", python, cell.home],
        [
            *("pip", "install", "--python", cell.interpreter, "--reinstall-package", DISTRIBUTION),
            # pyproject.toml pins a newer setuptools for building the drivers.
            *(["--exclude-newer", before] if before else []),
            *(["--exclude-newer-package", "setuptools=false"] if before else []),
            *(part for group in groups for part in ("--group", f"{tree}/pyproject.toml:{group}")),
            *(
                wheel,
                f"apache-airflow=={cell.airflow}.*",
                f"marshmallow=={cell.marshmallow}.*",
                *oldest,
            ),
        ],
    ):
        subprocess.run([UV, *command], stdout=log, stderr=log, check=True)


def test(cell: Cell, tree: Path, dist: Path, quick: bool, log: IO[str]) -> Result:
    report = cell.home / "report.xml"
    command = [cell.interpreter, "-m", "pytest", *PYTEST, f"--junitxml={report}"]
    environment = os.environ | {"MEDIQUO_TEST_DIST": str(dist)}
    for name in ("PYTEST_ADDOPTS", "PYTHONPATH", "VIRTUAL_ENV"):
        environment.pop(name, None)
    command += ["--quick", *NOT_QUICK] if quick else []
    try:
        process = subprocess.Popen(
            command, cwd=tree, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        code: int | str = process.wait(TIMEOUT)
    except subprocess.TimeoutExpired:
        code = "timeout"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    result = Result(cell, f"failed ({code})" if code else "passed", good=not code)
    result.installed = installed(cell)
    if report.exists():
        suite = xml.etree.ElementTree.parse(report).getroot()[0]
        total, failures, errors, skipped = (
            int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")
        )
        failed = failures + errors
        result.counts = (total - failed - skipped, failed, skipped)
    return result


def installed(cell: Cell) -> tuple[str, ...]:
    """Return the versions that the cell has installed."""
    code = (
        "import json, platform, sys; from importlib.metadata import version; "
        "print(json.dumps([platform.python_version(), *map(version, sys.argv[1:])]))"
    )
    found = output(str(cell.interpreter), "-c", code, *DISTRIBUTIONS)
    python, *others = json.loads(found) if found else ["?"] * 4
    return others[0], python, *others[1:]


def print_table(results: list[Result]) -> None:
    heads = ["cell", "airflow", "python", "marshmallow", "common-compat"]
    heads += ["passed", "failed", "skipped", "seconds", ""]
    rows = [heads, *(result.row for result in results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())


if __name__ == "__main__":
    main()
