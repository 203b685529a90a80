"""Which records of a refused chunk are bad, in as few requests as it takes to prove it."""

from __future__ import annotations

from collections.abc import Collection, Generator
from typing import TypeVar

T = TypeVar("T")

Search = Generator[list[T], Collection[int] | None, None]
"""Yields records to send together, and is told: None if they were not refused, else the places in
that list, from 0, which the answer names; often none."""

_BAD_IN_A_GROUP = 0.7
"""How many bad records a group should hold, by what is known so far: with more, groups are mostly
refused as a whole; with fewer, there are too many groups. Found by simulation."""


def isolate(chunk: list[T], named: Collection[int]) -> Search[T]:
    """Search a chunk that was refused; each record ends in a group that was not, or alone.

    Where the answer names records, the rest is sent, then each of these alone. As soon as none of
    those named is bad, names count for nothing and it goes on by halving.
    """
    while len(chunk) > 1:
        suspects = [item for place, item in enumerate(chunk) if place in named]
        if not suspects:
            break
        rest = [item for place, item in enumerate(chunk) if place not in named]
        answer = (yield rest) if rest else None
        told_the_truth = False
        for suspect in suspects:
            told_the_truth |= (yield [suspect]) is not None
        if answer is None:
            return
        chunk, named = rest, answer if told_the_truth else ()
    yield from _without_names(chunk)


def _without_names(chunk: list[T]) -> Search[T]:
    found, left = 1, (yield from _find_one(chunk))
    while left:
        known = len(chunk) - len(left)
        size = max(1, int(_BAD_IN_A_GROUP * known / found))
        group, left = left[:size], left[size:]
        if (yield group) is not None:
            found += 1
            left = (yield from _find_one(group)) + left


def _find_one(
    refused: list[T],
) -> Generator[list[T], Collection[int] | None, list[T]]:
    """Halve until one bad record is refused alone; return those that nothing is known of."""
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
