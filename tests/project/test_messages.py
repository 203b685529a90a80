"""The first line of every message that is raised is short, whatever is put into it.

Log lines and the cells of a list in Airflow's UI show that line alone.
"""

import ast
import itertools
import re
from functools import cache
from pathlib import Path

import airflow_provider_mediquo
from airflow_provider_mediquo.api import errors
from airflow_provider_mediquo.sources.files.formats import _MAGIC

SOURCE = Path(airflow_provider_mediquo.__file__).parent
LIMIT = 120
SPEAKERS = {name for name in vars(errors) if name.endswith("Error")} | {
    *("ValueError", "AirflowFailException", "AirflowNotFoundException", "AirflowSensorTimeout"),
    "type(error)",
}
LENGTHS = {
    # of what is put in, after the module's name
    r":,}$| MAX_| VERSION$| CHUNKS$": len("2,000,000"),
    r":\.0f}$|status$": len("3600"),
    r" counted\(": len("2,000,000 records"),
    r"' or '\.join\(missing\)": len("code or first_name"),
    r"' and the '\.join": len("API key (Login) and the Secret key (Password)"),
    r" kind$": len("Delta Lake"),
    r" what$| operation\.": len("POST authenticate"),
    r"since| last$": len("2026-11-29 22:45:00"),
    r"host$": 60,
    r"conn_id$| code| self\.code|sync\.name|lease.* self\._name|str\(codes\)": 40,
    r"message$|describe\(|str\(error\)|sql.py text$": 60,
    r" path$|escaped\(| where$|source$|sources/.*name$": 80,
}
SHOWN = ("counted", "describe", "escaped", "listed", "_shown")
USUAL = 20  # characters of anything else
FROM_ELSEWHERE = {
    # They raise the message of another error again,
    *("hooks/mediquo.py", "operators/rendered.py", "sensors/patients.py"),
    *("transfers/file_to_mediquo.py", "sources/files/reader.py"),
    # or that of another library,
    "api/upload/pool.py",
    # or join the lines of a ledger, which tests/api/upload look at.
    "api/upload/outcome.py",
}


class Module:
    """The texts of a module: all that an expression may be, with x for what is put in."""

    def __init__(self, path):
        self.name = path.relative_to(SOURCE).as_posix()
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.functions = {}
        self.within = {}  # node -> the function around it
        self._note(self.tree, None)

    def _note(self, node, function):
        for child in ast.iter_child_nodes(node):
            self.within[child] = function
            if is_function := isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                self.functions[child.name] = child
            self._note(child, child if is_function else function)

    def calls(self, names):
        return [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Call) and called(node) in names
        ]

    def texts(self, node, seen=()):
        """Each branch, and what names and functions of the package stand for."""
        if node is None or node in seen:
            return set()
        seen = (*seen, node)
        each = {
            ast.Constant: lambda: {node.value if isinstance(node.value, str) else ""},
            ast.JoinedStr: lambda: self._joined(node.values, seen),
            ast.BinOp: lambda: self._joined((node.left, node.right), seen),
            ast.IfExp: lambda: self._any((node.body, node.orelse), seen),
            ast.BoolOp: lambda: self._any(node.values, seen),
            ast.Name: lambda: self._named(node, seen),
            ast.Call: lambda: self._returned(node, seen),
            ast.FormattedValue: lambda: self.texts(node.value, seen),
        }.get(type(node), set)
        found = set() if has_length(node) else each()
        if found - {""} or isinstance(node, ast.Constant):
            return found
        text = f"{self.name} {placed(node)}"
        lengths = (n for pattern, n in LENGTHS.items() if re.search(pattern, text))
        return {"x" * next(lengths, USUAL)}

    def _joined(self, parts, seen):
        return {"".join(each) for each in itertools.product(*(self.texts(p, seen) for p in parts))}

    def _any(self, nodes, seen):
        return {text for node in nodes for text in self.texts(node, seen)}

    def _named(self, node, seen):
        """The texts of a variable, of a constant, or of an argument in all calls."""
        function = self.within[node]
        for scope in (function, None):
            values = [
                value
                for each in ast.walk(self.tree)
                if isinstance(each, ast.Assign | ast.NamedExpr) and self.within[each] is scope
                for target, value in assigned(each)
                if getattr(target, "id", "") == node.id
            ]
            if values:
                return self._any(values, seen)
        names = [argument.arg for argument in function.args.args] if function else []
        if node.id not in names or function.name.startswith("__"):
            return set()
        at = names.index(node.id) - (names[0] == "self")
        calls = self.calls({function.name})
        return self._any((call.args[at] for call in calls if len(call.args) > at), seen)

    def _returned(self, call, seen):
        for module in (self, *modules()):
            if function := module.functions.get(called(call)):
                returned = (n.value for n in ast.walk(function) if isinstance(n, ast.Return))
                return module._any(returned, seen)
        return set()


def called(call):
    func = call.func
    return getattr(func, "attr", getattr(func, "id", "")) or ast.unparse(func)


def assigned(node):
    """Each target of an assignment and its value."""
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            yield from zip(target.elts, node.value.elts, strict=True)
        else:
            yield target, node.value


def placed(node):
    """What is put in, with its format."""
    if isinstance(node, ast.FormattedValue):
        return f"{ast.unparse(node.value)}:{ast.unparse(node.format_spec)[2:-1]}}}"
    return ast.unparse(node)


def has_length(node):
    """Whether it is a number, or one of the texts that no function of ours can say more about."""
    if isinstance(node, ast.FormattedValue):
        return node.format_spec is not None
    return isinstance(node, ast.Call) and called(node) in SHOWN


@cache
def modules():
    paths = sorted(SOURCE.rglob("*.py"))
    return [Module(p) for p in paths if p.relative_to(SOURCE).parts[0] != "sandbox"]


@cache
def messages():
    """Every message that is raised: its module, and each text that it may be."""
    found = {
        (module.name, text)
        for module in modules()
        for call in module.calls(SPEAKERS)
        for text in (module.texts(call.args[0]) if call.args else ())
        if text
    }
    path = "x" * 80
    found |= {("sources/files/formats.py", f"{path} is {what}.") for what in _MAGIC.values()}
    return sorted(found)


def test_the_first_line_of_a_message_is_short():
    assert [each for each in messages() if len(each[1].splitlines()[0]) >= LIMIT] == []


def test_the_text_of_a_message_is_found():
    found = {module for module, text in messages() if not text.strip("x.:\n")}
    assert found == FROM_ELSEWHERE
