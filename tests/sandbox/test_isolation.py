import ast
import sys
from pathlib import Path

import pytest

from airflow_provider_mediquo import sandbox

FOLDER = Path(sandbox.__file__).parent
OF_AIRFLOW = {"fastapi", "pydantic", "starlette", "uvicorn"}


@pytest.mark.parametrize(
    "path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.relative_to(FOLDER).as_posix()
)
def test_it_imports_only_itself_and_dependencies_of_airflow(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level
            names = [node.module or ""]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            is_own = f"{name}.".startswith(f"{sandbox.__name__}.")
            assert is_own or name.partition(".")[0] in OF_AIRFLOW | sys.stdlib_module_names
