"""Who may import whom: the contracts are in pyproject.toml."""

from pathlib import Path

from importlinter.cli import lint_imports

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def test_each_layer_imports_only_those_below_it(monkeypatch):
    monkeypatch.chdir(PROJECT.parent)
    assert lint_imports(config_filename=str(PROJECT), no_cache=True) == 0
