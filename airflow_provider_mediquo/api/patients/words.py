"""Text that is not a value: words for a missing value, and what spreadsheets turn values into."""

from __future__ import annotations

import re

# Rejected, and not read as blank: a blank clears a field or unsubscribes, and that must not depend
# on a guess about the program that wrote the file.
_NEVER_VALUES = re.compile(
    r"\\{1,2}N"  # MySQL, PostgreSQL, Hive; escaped once more
    r"|[<(\[](?:null|none|na|nan|nil)[>)\]]"  # database tools, pandas
    r"|\#(?:N/?[ADV]!?|N/B|I/T|\u041d/\u0414|N/?A N/?A|\#\#+)"  # #N/A in many languages
    r"|\#(?:YOK|HIÁNYZIK|NENÍ_K_DISPOZICI)"  # and in Turkish, Hungarian, Czech
    r"|\#[¡¿]?(?:[^\W\d_]{3}[\w/]*[!?]|AD\?)"  # #REF!, #NAME?, #DIV/0! in any language
    r"|\#(?-i:GETTING_DATA|LOADING\.\.\.|REF|ERROR|CYCLE|BAD_EXPR|SPILL)"  # Google, Odoo
    r"|\#(?-i:Error|Deleted)"  # Access
    r"|(?:Err|Fehler):5[0-9]{2}",  # LibreOffice
    re.IGNORECASE,
)
_FORMULA = re.compile(r'="[^"]*"|=[0-9]+|=[A-ZÀ-Þ][A-ZÀ-Þ0-9._]*\(.*\)', re.IGNORECASE)
SUSPECT = frozenset("\\#<([=EeFf")
"""The first characters of what is never a value; any other text needs no closer look."""

_NULL_WORDS = frozenset(("null", "none", "nan", "-nan", "nat", "n/a", "undefined"))
_NO_NUMBER = re.compile(r"-?1[.,]#(?:IND|QNAN|SNAN|INF)", re.IGNORECASE)  # of C, on Windows
_CHANGED_NUMBER = re.compile(
    r"-?[0-9]+(?:[.,][0-9]+)?[Ee]\+[0-9]{1,3}"  # 1.2E+11; 3E+1 of decimal types
    r"|-?[0-9][.,][0-9]+[Ee][0-9]{1,3}"  # 1.2E11, of Java
    r"|'[0-9+=-].*"
)

# Unicode's Default_Ignorable_Code_Point and the blank of Braille.
_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff"
)
INVISIBLE = re.compile(f"[{_INVISIBLE}]")
_NOTHING_VISIBLE = re.compile(rf"[\s{_INVISIBLE}]*")


def is_invisible(text: str) -> bool:
    """Return whether a text has no visible character."""
    return not text.isascii() and bool(_NOTHING_VISIBLE.fullmatch(text))


def broken_rule(text: str) -> str | None:
    """Return the rule that a text breaks in any field; it begins with one of SUSPECT."""
    if _NEVER_VALUES.fullmatch(text):
        return "null"
    return "spreadsheet" if _FORMULA.fullmatch(text) else None


def broken_identifier_rule(text: str) -> str | None:
    """Return the rule that an identifier breaks; a name may be Null or Nan, a code may not."""
    if text[0] in "NnUu-" and text.lower() in _NULL_WORDS:
        return "null"
    if "#" in text and _NO_NUMBER.fullmatch(text):
        return "null"
    may_be_changed = "E" in text or "e" in text or text[0] == "'"
    return "spreadsheet" if may_be_changed and _CHANGED_NUMBER.fullmatch(text) else None
