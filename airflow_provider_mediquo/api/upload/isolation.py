"""Finds the records that cause a refusal, in as few requests as it takes to prove it."""

from __future__ import annotations

from collections.abc import Collection, Generator
from typing import TypeVar

T = TypeVar("T")

Search = Generator[list[T], Collection[int] | None, None]
"""Yields groups to send; receives None if accepted, else the positions that the answer names: from
0, often none."""

_REFUSED_PER_GROUP = 0.7
"""How many refused records to expect in a group: with more, most groups are refused; with fewer,
there are too many groups. Found by simulation."""


def isolate(chunk: list[T], named: Collection[int]) -> Search[T]:
    """Search a refused chunk: each record ends up in an accepted group, or is refused alone.

    If the answer names records, the others are sent together, then each named one alone. Once an
    answer names none that is refused alone, names are ignored and the search goes on by halving.
    """
    while len(chunk) > 1:
        suspects = [item for position, item in enumerate(chunk) if position in named]
        if not suspects:
            break
        rest = [item for position, item in enumerate(chunk) if position not in named]
        answer = (yield rest) if rest else None
        are_names_right = False
        for suspect in suspects:
            are_names_right |= (yield [suspect]) is not None
        if answer is None:
            return
        chunk, named = rest, answer if are_names_right else ()
    yield from _without_names(chunk)


def _without_names(chunk: list[T]) -> Search[T]:
    found, left = 1, (yield from _find_one(chunk))
    while left:
        known = len(chunk) - len(left)
        size = max(1, int(_REFUSED_PER_GROUP * known / found))
        group, left = left[:size], left[size:]
        if (yield group) is not None:
            found += 1
            left = (yield from _find_one(group)) + left


def _find_one(
    refused: list[T],
) -> Generator[list[T], Collection[int] | None, list[T]]:
    """Halve until one record is refused alone; return those of which nothing is known yet."""
    left: list[T] = []
    is_proven = True
    while len(refused) > 1:
        middle = len(refused) // 2
        first, second = refused[:middle], refused[middle:]
        is_proven = (yield first) is not None
        if is_proven:
            refused, left = first, second + left
        else:
            refused = second
    if not is_proven:
        yield refused
    return left
