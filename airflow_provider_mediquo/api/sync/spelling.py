"""Codes that differ here, and may be the same to mediQuo's database."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from airflow_provider_mediquo.api.patients.words import INVISIBLE
from airflow_provider_mediquo.api.sync.members import OWN, PLAN, PRESENT, Members
from airflow_provider_mediquo.api.sync.store import Store
from airflow_provider_mediquo.api.sync.tables import MEMBER

# Unicode does not decompose these. MySQL's default collation takes them for the same, others do not.
_PLAIN = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "\u0131": "i", "æ": "ae", "œ": "oe"}
    | {"·": ""}  # `ŀ` is decomposed to `l` and this
)
# And how a spreadsheet or another program may rewrite it.
_NUMBER = re.compile(r"\+?([0-9]+)(?:[.,]([0-9]*?)0*)?(?:e\+?([0-9]{1,3}))?")
_GROUPED = re.compile(r"[0-9]{1,3}(?:(?: [0-9]{3})+|(?:,[0-9]{3}){2,}|(?:\.[0-9]{3}){2,})")
_IGNORED = frozenset(("Mn", "Mc", "Me", "Cf"))  # accents and other marks, invisible characters


def key_of(code: str) -> int:
    """Return the hash of a code without its case, accents, width, and invisible characters.

    A number is the same with zeros or + before it, with `.0` after it, with an exponent (`3.5E3`), or
    with separators (`1.234.567`); any code with an apostrophe before it, or in braces: spreadsheets and
    databases rewrite codes so.

    Codes of European languages have the same hash if MySQL's collations for all languages
    (`utf8mb4_0900_ai_ci`, `utf8mb4_unicode_ci`) take them for the same.
    """
    text = code.strip().lower() if code.isascii() else _folded(code)
    text = text.removeprefix("'")
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    return hash(_whole_number(text) or text)


def keep_other_spellings(store: Store, members: Members, unknown: Iterable[int]) -> list[str]:
    """Let missing members count as present if the source spells their code differently.

    Return those that have a plan; the others have none to lose, and are left missing. Only the missing
    are kept in memory, so the codes are read from the state a second time.

    :param unknown: keys of the codes that the source has and the state did not know.
    """
    missing = {key_of(code) for code in _missing(store, members)}
    present = missing.intersection(unknown)
    for code in _codes(store):
        if (key := key_of(code)) in missing and _flags(members, code) & PRESENT:
            present.add(key)
    if not present:
        return []
    kept = [code for code in _missing(store, members) if key_of(code) in present]
    for code in kept:
        members.flags[members.find(code)] |= PRESENT
    return kept


def _folded(code: str) -> str:
    # Folding may compose (`ŉ`), and decomposing may give capitals (`™`).
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", code).casefold())
    letters = [letter for letter in text if unicodedata.category(letter) not in _IGNORED]
    return INVISIBLE.sub("", "".join(letters)).strip().casefold().translate(_PLAIN)


def _whole_number(text: str) -> str:
    """Return the digits of a whole number; empty for anything else."""
    if _GROUPED.fullmatch(text):
        text = re.sub("[., ]", "", text)
    number = _NUMBER.fullmatch(text)
    if not number:
        return ""
    whole, fraction, exponent = number[1], number[2] or "", int(number[3] or 0)
    if len(fraction) > exponent:
        return ""
    return f"{whole}{fraction:0<{exponent}}".lstrip("0") or "0"


def _missing(store: Store, members: Members) -> Iterator[str]:
    """Yield the code of each member that is missing and has a plan."""
    for code in _codes(store):
        if _flags(members, code) & (OWN | PLAN | PRESENT) == OWN | PLAN:
            yield code


def _flags(members: Members, code: str) -> int:
    number = members.find(code)
    return members.flags[number] if number >= 0 else 0


def _codes(store: Store) -> Iterator[str]:
    return (code for page in store.pages(MEMBER.c.code) for (code,) in page)
