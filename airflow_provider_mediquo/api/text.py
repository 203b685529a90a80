"""Text in messages: which text from outside is valid, how it is displayed, and counts of things."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

MAX_SHOWN = 200  # characters of a name, which may have a million
MAX_NAMES = 20
_C1 = re.compile(r"[\x80-\x9f]")


def is_valid_text(text: str) -> bool:
    """Return whether any database can store a text: not with NUL or half a surrogate pair."""
    if text.isascii() and text.isprintable():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def is_misread(text: str) -> bool:
    """Return whether a text has C1 controls, which only text in another encoding seems to have."""
    return not text.isascii() and bool(_C1.search(text))


def escaped(text: str) -> str:
    """Return a text as one printable line, for logs.

    Invisible characters, line ends and changes of the writing direction are escaped as in JSON.
    """
    return text if text.isprintable() else json.dumps(text)[1:-1]


def shown(text: str) -> str:
    """Return the beginning of a text, escaped."""
    return escaped(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…")


def listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    first = ", ".join(shown(name) or "(no name)" for name in names[:MAX_NAMES])
    more = len(names) - MAX_NAMES
    return f"{first} and {more:,} more" if more > 0 else first


def counted(count: int, noun: str) -> str:
    """Return a count of things, such as `1 record` or `2,000 records`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
