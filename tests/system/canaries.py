"""Patients, keys and a token whose text is nowhere else, and the search for them.

Each holds a word that no program says by itself. A text is searched for the word however it may
have been written: in another case, as JSON, in a URL, as base64, in hexadecimal, backwards.
"""

import base64
import html
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from urllib.parse import quote

API_KEY = "zqkwbrvnjApiKey-\"'<%41>"
SECRET_KEY = "zqkwbrvnjSecretKey/+@:{{1}}"
WRONG_KEY = "zqkwbrvnjWrongApiKey"
OTHER_SECRET_KEY = "zqkwbrvnjOtherSecretKey"
TOKEN = "eyZqkTokenHead.zqkwbrvnjTokenBody.zqkwbrvnjTokenSign"
CODE = "zqkwbrvnjCodeWord/ü'\"<&>%2F"
NOBODY = "zqkwbrvnjCodeWord-nobody"
COLUMN = "zqkwbrvnjColumnName"
PATH = "zqkwbrvnjPathName"
LEAK = "zqkwbrvnjLeak"
OWN_KEY = "zqkwbrvnjLeakSecretKey"
OWN_TOKEN = "zqkwbrvnjLeakToken"
COUNT = 71_993  # above every port
BORN = datetime(1907, 3, 19, tzinfo=UTC)

PATIENT = {
    "code": CODE,
    "first_name": "zqkwbrvnjFirstName \"q\" 'n' <script>alert(1)</script>",
    "last_name": "zqkwbrvnjLastName {{ conn.mediquo_default.password }} \u9d89\u9ce5\u9d89",
    "gender": "female",
    "birth_date": BORN.date().isoformat(),
    "tax_id": "zqkwbrvnjTaxNumber \x1b[31m; DROP TABLE members --",
    "email": "zqkwbrvnjMailbox+canary@example.com",
    "plan": "zqkwbrvnjPlanName %s {0} %(password)s",
    "phone": "+44 7700 900771",
    "locale": "pt",
    "meta": {"zqkwbrvnjMetaKey": ["zqkwbrvnjMetaValue\u2028"]},
}

# Of whoever writes a DAG that hands patients about: that these are found shows that others would be.
OWN_PATIENT = {
    "code": "zqkwbrvnjLeakCode",
    "first_name": "zqkwbrvnjLeakFirst",
    "plan": "zqkwbrvnjLeakPlan",
    "email": "zqkwbrvnjLeak@example.com",
}

WORDS = {
    "codes": ["zqkwbrvnjCodeWord"],
    "values": [
        "zqkwbrvnjFirstName",
        "zqkwbrvnjLastName",
        "\u9d89\u9ce5\u9d89",
        "zqkwbrvnjTaxNumber",
        "zqkwbrvnjMailbox",
        "zqkwbrvnjPlanName",
        "zqkwbrvnjMetaKey",
        "zqkwbrvnjMetaValue",
        "+44 7700 900771",
        "7700 900771",
        "7700900771",
        "1907-03-19",
        "1907, 3, 19",
        "19/03/1907",
        "03/19/1907",
        str(int(BORN.timestamp())),
    ],
    "API key": ["zqkwbrvnjApiKey", WRONG_KEY],
    "secret key": ["zqkwbrvnjSecretKey", OTHER_SECRET_KEY],
    "tokens": TOKEN.split("."),
    "columns": [COLUMN],
    "paths": [PATH],
    "leak": [LEAK],
}
# What is too short to be nowhere else, in the company that gives it away.
PATTERNS = {
    "values": [r"(?<!\d)19070319(?!\d)", r"\bfemale\b", r"\blocale\W{1,6}pt\b"],
    "counts": [rf"(?<![\d.,]){COUNT}(?![\d.])", rf"(?<![\d.,]){COUNT:,}(?![\d.])"],
}


def kinds_in(text: str) -> set[str]:
    """Return what kinds of canaries are in a text, in whatever form."""
    folded = text.casefold()
    found = {
        kind for kind, forms in _folded_forms().items() if any(map(folded.__contains__, forms))
    }
    found |= {kind for kind, forms in _exact_forms().items() if any(map(text.__contains__, forms))}
    for kind, patterns in PATTERNS.items():
        if kind not in found and any(re.search(pattern, folded) for pattern in patterns):
            found.add(kind)
    return found


def shown_in(text: str, kind: str, around: int = 120) -> str:
    """Return the first piece of a text in which a kind was found, for whoever reads a failure."""
    folded = text.casefold()
    places = [folded.find(form) for form in _folded_forms().get(kind, ())]
    places += [text.find(form) for form in _exact_forms().get(kind, ())]
    places += [m.start() for p in PATTERNS.get(kind, ()) if (m := re.search(p, folded))]
    at = min((place for place in places if place >= 0), default=0)
    return text[max(0, at - around) : at + around]


@cache
def _folded_forms() -> dict[str, set[str]]:
    return {
        kind: {form.casefold() for word in words for form in _written(word)}
        for kind, words in WORDS.items()
    }


@cache
def _exact_forms() -> dict[str, set[str]]:
    return {kind: {f for word in words for f in _base64(word)} for kind, words in WORDS.items()}


def _written(word: str) -> Iterator[str]:
    yield word
    yield word[::-1]
    yield json.dumps(word)[1:-1]
    yield json.dumps(json.dumps(word))[3:-3]
    yield ascii(word)[1:-1]
    yield quote(word, safe="")
    yield quote(quote(word, safe=""), safe="")
    yield html.escape(word)
    yield word.encode().hex()
    yield str(word.encode())[2:-1]
    yield word.encode().decode("latin-1")


def _base64(word: str) -> Iterator[str]:
    """A word in base64, whichever of the three ways it comes to lie in what was encoded."""
    raw = word.encode()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + raw).decode().rstrip("=")
        yield encoded[(0, 2, 3)[before] : -1]
        yield encoded[(0, 2, 3)[before] : -1].replace("+", "-").replace("/", "_")
