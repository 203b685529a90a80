"""All that an error carries, as a callback or a tool that reports errors can read it."""

import pickle
import traceback
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

LEVELS = 5  # of what is in what, as Sentry has it


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that it came from."""
    seen: list[BaseException] = []
    left = [error]
    while left:
        each = left.pop()
        if each is not None and not any(each is one for one in seen):
            seen.append(each)
            left += [each.__cause__, each.__context__]
            left += getattr(each, "exceptions", ())
            yield each


def texts_of(error: BaseException | None) -> Iterator[str]:
    """What it says and has: also its notes, its attributes and those of these, and its pickle."""
    for each in chain(error):
        yield from traceback.format_exception(each)
        yield from (repr(each), str(each), repr(each.args))
        yield from getattr(each, "__notes__", ())
        yield from _texts_in(vars(each))
        try:
            yield pickle.dumps(each).decode("latin-1")
        except Exception as problem:  # noqa: BLE001  # others' errors hold what cannot be pickled
            yield repr(problem)


def locals_of(error: BaseException | None) -> Iterator[tuple[str, str]]:
    """Where, and the variables of the functions it went through, as a reporting tool shows them."""
    for each in chain(error):
        for frame, line in traceback.walk_tb(each.__traceback__):
            where = f"{frame.f_code.co_filename}:{line} {frame.f_code.co_name}"
            for name, value in frame.f_locals.items():
                yield where, f"{name} = {_shown(value)}"


def _texts_in(value: Any, levels: int = LEVELS) -> Iterator[str]:
    yield repr(value)
    inside = value if isinstance(value, Mapping) else getattr(value, "__dict__", {})
    for item in inside.values() if levels else ():
        yield from _texts_in(item, levels - 1)


def _shown(value: Any, levels: int = LEVELS) -> str:
    try:
        return _shown_whole(value, levels)
    except Exception as problem:  # noqa: BLE001  # of what is half made, or asks who is gone
        return type(problem).__name__


def _shown_whole(value: Any, levels: int) -> str:
    """As Sentry does: into what is a mapping or a sequence, and the `repr` of all else."""
    if levels and not isinstance(value, str | bytes | bytearray | range):
        if isinstance(value, Mapping):
            items = (f"{_shown(key, 0)}: {_shown(value[key], levels - 1)}" for key in value)
            return "{" + ", ".join(items) + "}"
        if isinstance(value, Sequence | AbstractSet):
            return "[" + ", ".join(_shown(item, levels - 1) for item in value) + "]"
    return repr(value)
