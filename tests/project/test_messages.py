"""The first line of a message whose text is a literal in its `raise` is short, whatever is put into it.

Log lines and the cells of a list in Airflow's UI show that line alone.
"""

import ast
from pathlib import Path

import pytest

import airflow_provider_mediquo

PACKAGE = Path(airflow_provider_mediquo.__file__).parent
# The sandbox's own errors are read in a terminal.
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if "sandbox" not in p.parts)
LIMIT = 120
RAISED = ("Error", "Exception", "AirflowSensorTimeout")
LONG = {"path": 80, "source": 80, "where": 80, "host": 60, "code": 40, "conn_id": 40, "name": 40}
NUMBER = len("2,000,000")
USUAL = 20  # characters of anything else


def length(value):
    if value.format_spec:
        return NUMBER
    last = getattr(value.value, "attr", getattr(value.value, "id", ""))
    return LONG.get(last.lstrip("_"), USUAL)


def written(part):
    return part.value if isinstance(part, ast.Constant) else "x" * length(part)


def messages(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(RAISED) and node.args:
            text = node.args[0]
            if isinstance(text, ast.JoinedStr):
                yield "".join(map(written, text.values))
            elif isinstance(text, ast.Constant):
                yield text.value


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_the_first_line_of_a_message_is_short(path):
    assert [text for text in messages(path) if len(text.splitlines()[0]) >= LIMIT] == []


def test_the_messages_are_found():
    assert sum(1 for path in MODULES for _ in messages(path)) > 100
