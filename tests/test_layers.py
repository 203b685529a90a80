"""Who may import whom: each layer those below it, the sandbox nobody, and nobody the sandbox."""

import ast
from pathlib import Path

import pytest

import airflow_provider_mediquo

NAME = "airflow_provider_mediquo"
PACKAGE = Path(airflow_provider_mediquo.__file__).parent

ABOVE_API = {"api", "get_provider_info"}
MAY_IMPORT = {
    "": set(),
    "get_provider_info": set(),
    "sandbox": set(),
    "api": set(),
    "hooks": ABOVE_API,
    "triggers": ABOVE_API | {"hooks"},
    "sensors": ABOVE_API | {"hooks", "triggers"},
    "operators": ABOVE_API | {"hooks"},
    "decorators": ABOVE_API | {"hooks", "operators"},
    "transfers": ABOVE_API | {"hooks", "operators"},
}
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def layer_of(file):
    return (
        "" if file.name == file.as_posix() == "__init__.py" else file.parts[0].removesuffix(".py")
    )


def imports(file):
    """Return the full names of all that a file imports, wherever in it."""
    tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    here = [NAME, *file.parts[:-1]]
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = here[: len(here) - node.level + 1] if node.level else []
            module = ".".join([*start, *filter(None, [node.module])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def layers_imported_by(file):
    parts = [name.split(".") for name in imports(file)]
    # The version, of the package itself, is anybody's.
    return {part[1] for part in parts if part[0] == NAME and part[1:] != ["__version__"]}


def outsiders_imported_by(file):
    return {name.partition(".")[0] for name in imports(file)} - {NAME}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_layer_imports_itself_and_those_below_it(file):
    layer = layer_of(file)
    assert layers_imported_by(file) <= MAY_IMPORT[layer] | {layer}


@pytest.mark.parametrize("layer", ["api", "sandbox", "get_provider_info"])
def test_airflow_is_none_of_their_business(layer):
    files = [file for file in FILES if layer_of(file) == layer]
    assert files
    for file in files:
        assert "airflow" not in outsiders_imported_by(file)


def test_one_layer_alone_speaks_http():
    users = {file.as_posix() for file in FILES if "requests" in outsiders_imported_by(file)}
    assert users == {"api/client.py", "api/transport.py"}


def test_no_http_library_that_is_not_declared_is_used():
    for file in FILES:
        assert not outsiders_imported_by(file) & {"httpx", "httpx2", "aiohttp"}
