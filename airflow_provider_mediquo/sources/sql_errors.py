"""What a database driver's error means, without its message: that may quote a row."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from typing import Any

_NO_COLUMN = "no such column"
_SYNTAX = "a syntax error"
_MEANINGS: Mapping[Any, str] = {
    "42601": _SYNTAX,
    "42703": _NO_COLUMN,
    "42P01": "no such table",
    "42501": "this user may not read it",
    "42000": "a syntax error, or this user may not read it",
    "42S02": "no such table",
    "42S22": _NO_COLUMN,
    1054: _NO_COLUMN,
    1064: _SYNTAX,
    1142: "this user may not read it",
    1146: "no such table",
}
# SQLite has a single code for all of them.
_OF_SQLITE = (
    (re.compile("^no such table: "), "no such table"),
    (re.compile("^no such column: "), _NO_COLUMN),
    (
        re.compile(
            '(^near ".*": syntax error|^incomplete input|^unrecognized token: .*)$', re.DOTALL
        ),
        _SYNTAX,
    ),
)
_NO_ERROR_NUMBER = -1  # of MySQL Connector's own errors
_MAX_CODE = 1 << 16  # a larger number in an error may be a value
_COLUMN = re.compile(
    r'column "?([\w.]+)"? does not exist|Unknown column \'([\w.]+)\' in|^no such column: ([\w.]+)$'
)
_QUOTED = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`|--.*|/\*.*?\*/""", re.DOTALL | re.MULTILINE)
_NAME = re.compile(r"[A-Za-z_]\w*")


def describe(error: Exception) -> str:
    """Return the class and code of an error, and what the code means."""
    kind, code = type(error), _code_of(error)
    text = f"{kind.__module__}.{kind.__qualname__} {code}".strip()
    meaning = _meaning_of(error)
    return f"{text}, {meaning}" if meaning else text


def is_syntax_error(error: Exception) -> bool:
    """Return whether the database cannot parse something: the statement, or a value."""
    return _is_second_statement(error) or _meaning_of(error) == _SYNTAX


def is_of_parameters(error: Exception, *, are_given: bool) -> bool:
    """Return whether a driver could not put the parameters into the statement.

    :param are_given: without any, only SQLite takes a character of the statement for a placeholder.
    """
    if not are_given or isinstance(error, sqlite3.ProgrammingError):
        return isinstance(error, sqlite3.ProgrammingError)
    has_no_code = _code_of(error) in ("", _NO_ERROR_NUMBER)
    is_own = any(each.__name__ == "ProgrammingError" for each in type(error).__mro__)
    is_of_driver = type(error).__module__.startswith(("psycopg", "MySQLdb", "mysql.connector"))
    # Not their subclasses: an answer that is not JSON raises one of ValueError.
    kinds = (TypeError, ValueError, KeyError, IndexError, UnicodeEncodeError)
    is_of_python = type(error) in kinds
    return has_no_code and (is_of_python or (is_own and is_of_driver))


def missing_column(error: Exception, sql: str) -> str | None:
    """Return the column that a statement names and the database lacks; empty if it may be a value.

    None if the error means anything else.
    """
    if _meaning_of(error) != _NO_COLUMN:
        return None
    if not (found := _COLUMN.search(str(error))):
        return ""
    name = str(found[found.lastindex or 0])
    # Only what the statement names outside of quotes cannot be a value of a row.
    named = {word.lower() for word in _NAME.findall(_QUOTED.sub(" ", sql))}
    return name if {*name.lower().split(".")} <= named else ""


def _is_second_statement(error: Exception) -> bool:
    """Python's own error: it has no code."""
    is_own = isinstance(error, sqlite3.ProgrammingError | sqlite3.Warning)
    return is_own and "one statement" in str(error)


def _meaning_of(error: Exception) -> str | None:
    if isinstance(error, sqlite3.OperationalError):
        return next((means for said, means in _OF_SQLITE if said.search(str(error))), None)
    return _MEANINGS.get(_code_of(error))


def _code_of(error: Exception) -> Any:
    if (number := getattr(error, "errno", None)) in _MEANINGS:  # MySQL's SQLSTATE says less
        return number
    for name in ("sqlstate", "pgcode", "sqlite_errorname"):
        if code := getattr(error, name, None):
            return code
    # Those of text that cannot be encoded are places in it.
    args = () if isinstance(error, UnicodeError) else error.args
    return next((n for n in args if isinstance(n, int) and n < _MAX_CODE), "")
