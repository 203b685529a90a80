"""Numbered lines of limited length: a line without an end must not fill the memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TextIO

MAX_LINE = 1 << 20
"""Characters; a patient takes some hundreds."""


class Line(NamedTuple):
    """A physical line.

    :param text: with its line end; None if it is too long.
    """

    number: int
    text: str | None


class Lines:
    """The lines of a text, from 1; lines that are put back come again.

    :param text: opened with `newline=""`, so that it keeps its line ends.
    """

    def __init__(self, text: TextIO) -> None:
        self._again: deque[Line] = deque()
        self._numbered = enumerate(_bounded(text), 1)

    def __iter__(self) -> Iterator[Line]:
        """Yield the lines that are left; several iterators share them."""
        again, new, make = self._again, tuple.__new__, Line
        while again:
            yield again.popleft()
        for pair in self._numbered:
            yield new(make, pair)  # twice as fast as Line(number, text)
            while again:
                yield again.popleft()

    def peek(self) -> Line | None:
        """Return the next line, which comes again."""
        if not self._again and (pair := next(self._numbered, None)):
            self._again.append(Line(*pair))
        return self._again[0] if self._again else None

    def put_back(self, lines: Iterable[Line]) -> None:
        """Let these lines come next, in this order."""
        self._again.extendleft(reversed([*lines]))


def _bounded(text: TextIO) -> Iterator[str | None]:
    readline = text.readline
    while line := readline(MAX_LINE):
        if len(line) == MAX_LINE and not _has_end(line):
            _skip(text)
            yield None
        else:
            yield line


def _skip(text: TextIO) -> None:
    while (rest := text.readline(MAX_LINE)) and not _has_end(rest):
        pass


def _has_end(line: str) -> bool:
    return line.endswith(("\n", "\r"))
