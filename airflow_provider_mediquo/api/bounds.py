"""What comes from outside has no bounds of its own: how much of it is taken, how it is shown."""

from __future__ import annotations

import json
from collections.abc import Sequence

MAX_BYTES = 1 << 16
"""Of a record as JSON, which has some hundreds. A hundred of this size are near what web servers
take in one request, and ten such requests near what a small worker has memory for."""

MAX_CODE = 255
"""Characters of a code: what keys have in databases. It goes into a URL, too, and into logs."""

_MOST_SHOWN = 200  # characters of a name, of which there may be a megabyte
_MOST_NAMES = 20


def is_valid_text(text: str) -> bool:
    """Whether every database can hold it: half a surrogate pair and NUL are what some cannot."""
    if text.isascii() and text.isprintable():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def escaped(text: str) -> str:
    """Return it as one line that shows what is in it: a log is read by people and by programs.

    What is invisible, ends a line or turns the direction of writing is written as in JSON.
    """
    return text if text.isprintable() else json.dumps(text)[1:-1]


def shown(text: str) -> str:
    """Return its beginning, escaped."""
    return escaped(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…")


def listed(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are."""
    first = ", ".join(shown(name) or "(no name)" for name in names[:_MOST_NAMES])
    more = len(names) - _MOST_NAMES
    return f"{first} and {more:,} more" if more > 0 else first
