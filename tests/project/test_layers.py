"""The import contracts of pyproject.toml, and who may change the ledger."""

import ast
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import airflow_provider_mediquo
from airflow_provider_mediquo.api.report import UploadReport

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
PACKAGE = Path(airflow_provider_mediquo.__file__).parent


def test_each_layer_imports_only_those_below_it():
    # In a process of its own: it switches off all loggers that are there.
    linter = str(Path(sys.executable).with_name("lint-imports"))
    command = [linter, "--config", str(PROJECT), "--no-cache"]
    done = subprocess.run(
        command, cwd=PROJECT.parent, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_the_ledger_changes_the_report():
    """By assignment, at least."""
    counts = {field.name for field in fields(UploadReport)}
    changes = {
        f"{path.stem}: {ast.unparse(node)}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if node.attr in counts and ast.unparse(node.value).endswith("report")
    }
    assert "ledger: self.report.read" in changes
    assert {each for each in changes if not each.startswith("ledger: ")} == set()
