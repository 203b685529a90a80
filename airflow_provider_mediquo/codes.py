"""Codes in templates stay text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_TEXT = "code:"  # no number begins with it


class TextCodes:
    """A task whose `code` or `codes` are text, also with `render_template_as_native_obj`.

    Airflow would read what a template renders as Python: `1_001` as the number 1001, which is the code
    of another patient. One template for all of `codes` is not changed: it may render to a list.
    """

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], *others: Any, **named: Any
    ) -> None:
        names = {"code", "codes"}.intersection(template_fields) if parent is self else ()
        given = {name: getattr(self, name) for name in names}
        if _may_be_list(given.get("codes")):
            del given["codes"]
        for name, value in given.items():
            setattr(self, name, _marked(value))
        try:
            super()._do_render_template_fields(parent, template_fields, *others, **named)  # type: ignore[misc]
        finally:
            for name, value in given.items():
                setattr(self, name, _unmarked(getattr(self, name), value))


def _may_be_list(codes: Any) -> bool:
    return isinstance(codes, str) and "{{" in codes


def _marked(given: Any) -> Any:
    if isinstance(given, list | tuple):
        return type(given)(map(_marked, given))
    return _TEXT + given if isinstance(given, str) else given


def _unmarked(rendered: Any, given: Any) -> Any:
    """Return what was rendered, without the mark where what was given has one."""
    if isinstance(given, list | tuple):
        return type(given)(map(_unmarked, rendered, given))
    return rendered.removeprefix(_TEXT) if isinstance(given, str) else rendered
