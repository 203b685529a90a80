"""Codes in templates stay text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_TEXT = "code:"  # no number begins with it


class TextCodes:
    """A task whose `code` or `codes` are text, also with `render_template_as_native_obj`.

    Airflow would read what a template renders as Python: `1_001` as the number 1001, which is the code
    of another patient. One template for all of `codes` is not changed, because it may render to a list: codes that it
    puts together, as in `"[{{ a }}, {{ b }}]"`, are read as Python.
    """

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Any,
        jinja_env: Any,
        seen_oids: set[int],
    ) -> None:
        names = {"code", "codes"}.intersection(template_fields) if parent is self else ()
        given = {name: getattr(self, name) for name in names}
        if _may_be_list(given.get("codes")):
            del given["codes"]
        literal = frozenset(seen_oids)  # what a mapped task got from another one is no template
        for name, value in given.items():
            setattr(self, name, _marked(value, literal))
        try:
            super()._do_render_template_fields(  # type: ignore[misc]  # of the operator
                parent, template_fields, context, jinja_env, seen_oids
            )
        finally:
            for name, value in given.items():
                setattr(self, name, _unmarked(getattr(self, name), value, literal))


def _may_be_list(codes: Any) -> bool:
    return isinstance(codes, str) and ("{{" in codes or "{%" in codes)


def _marked(given: Any, literal: frozenset[int]) -> Any:
    if id(given) in literal:
        return given
    if isinstance(given, list | tuple):
        return type(given)(_marked(each, literal) for each in given)
    return _TEXT + given if isinstance(given, str) else given


def _unmarked(rendered: Any, given: Any, literal: frozenset[int]) -> Any:
    """Return what was rendered, without the mark where what was given has got one."""
    if id(given) in literal:
        return rendered
    if isinstance(given, list | tuple):
        pairs = zip(rendered, given, strict=True)
        return type(given)(_unmarked(*pair, literal) for pair in pairs)
    return rendered.removeprefix(_TEXT) if isinstance(given, str) else rendered
