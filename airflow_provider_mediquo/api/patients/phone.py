"""Phone numbers, in the usual ways to write them."""

from __future__ import annotations

import re

from airflow_provider_mediquo.api.patients.words import INVISIBLE

_GAP = r"[ ().\-/]*"
_MORE_DIGITS = "{6,14}"  # after the first one
_PLAIN_NUMBER = re.compile(rf"\+[1-9](?:[ -]?[0-9]){_MORE_DIGITS}")  # most are written so
_INTERNATIONAL = re.compile(rf"\(?(?:\+[ (]*|00{_GAP})[1-9](?:{_GAP}[0-9]){_MORE_DIGITS}{_GAP}")
_NATIONAL = re.compile(rf"\(?(?!00)[0-9](?:{_GAP}[0-9])*{_GAP}")
_OTHER_SPACES = "\t\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_OTHER_HYPHENS = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"
_PLAIN = str.maketrans(
    dict.fromkeys(_OTHER_SPACES, " ") | dict.fromkeys(_OTHER_HYPHENS, "-") | {"\uff0b": "+"}
)
TRUNK_ZERO = re.compile(r"\( *0 *\)")  # dialled at home only
_FRACTION = re.compile(r".*\.[0-9]|[^.]*\.00")  # of a number that was a float
_REMARK = re.compile(r".*\( *[1-9][0-9]? *\) *")  # (2): the second one
_DAY = re.compile(r"[0-9]{1,2}([./-])[0-9]{1,2}\1[0-9]{2,4}")
_SHORT = r"[+(0 ]*(?:29[89]|376|508|687)(?:[^0-9/]*[0-9]){6}"  # of small countries
_TWO = re.compile(
    rf"(?:(?:[^0-9]*[0-9]){{10,}}|{_SHORT})[^0-9]*/[ -]*[0-9]{{1,4}}[^0-9]*"  # 900123/24 are two
)


def plain_phone(text: str) -> str:
    """Return a number without `tel:` and invisible characters, with plain spaces and hyphens."""
    if not (text.isascii() and text.isprintable()):
        text = INVISIBLE.sub("", text).translate(_PLAIN)
    text = text.strip()
    return text[4:].strip() if text[:4].lower() == "tel:" else text


def broken_phone_rule(phone: str) -> str | None:
    """Return the rule that a plain number breaks."""
    if _PLAIN_NUMBER.fullmatch(phone):
        return None
    if not _INTERNATIONAL.fullmatch(phone):
        return "prefix" if _NATIONAL.fullmatch(phone) else "phone"
    return "phone" if TRUNK_ZERO.search(phone) or is_ambiguous(phone) else None


def is_ambiguous(phone: str) -> bool:
    """Whether a plain number may be something else: a float, a day, two numbers, or one with a remark."""
    return any(each.fullmatch(phone) for each in (_FRACTION, _TWO, _DAY, _REMARK))
