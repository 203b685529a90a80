"""What comes from outside has no bounds of its own: how much of it is taken, how it is shown."""

from __future__ import annotations

import json
from collections.abc import Sequence

MAX_SHOWN = 200  # characters of a name, of which there may be a megabyte
MAX_NAMES = 20


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
    return escaped(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…")


def listed(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are."""
    first = ", ".join(shown(name) or "(no name)" for name in names[:MAX_NAMES])
    more = len(names) - MAX_NAMES
    return f"{first} and {more:,} more" if more > 0 else first
