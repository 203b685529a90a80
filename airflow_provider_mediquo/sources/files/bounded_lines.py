"""Lines of text, each of a bounded length: one without an end must not fill the memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

MAX_LINE = 1 << 20
"""Characters; a patient takes some hundreds."""


class Lines:
    """The lines of a text, with their ends; None in the place of one that is too long.

    :param text: opened so that it keeps the ends of its lines.
    """

    def __init__(self, text: TextIO) -> None:
        self.last: str | None = None
        """The line that was given last."""
        self._text = text

    def __iter__(self) -> Iterator[str | None]:
        readline = self._text.readline
        while line := readline(MAX_LINE):
            if len(line) == MAX_LINE and not _has_end(line):
                self._skip()
                self.last = None
            else:
                self.last = line
            yield self.last

    def _skip(self) -> None:
        while (rest := self._text.readline(MAX_LINE)) and not _has_end(rest):
            pass


def _has_end(line: str) -> bool:
    return line.endswith(("\n", "\r"))
