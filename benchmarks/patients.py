"""Made-up patients with all fields: 277 bytes of JSON each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

CHUNK = 100  # patients that one request may carry


def patients(count: int, first: int = 0) -> Iterator[dict[str, Any]]:
    """Yield patients, each with a different code.

    The phone numbers are those that Ofcom reserves for fiction.
    """
    for number in range(first, first + count):
        yield {
            "code": f"M-{number:07}",
            "first_name": "Conceição" if number % 2 else "Hans-Georg",
            "last_name": "Figueiredo da Silva" if number % 2 else "von der Tannhäuser",
            "gender": "female" if number % 2 else "male",
            "birth_date": f"{1935 + number % 80}-{1 + number % 12:02}-{1 + number % 28:02}",
            "tax_id": f"{number:08}Z",
            "email": f"member.{number:07}@example.com",
            "phone": f"+44 7700 900{number % 1000:03}",
            "plan": "premium" if number % 3 else "essential",
            "locale": "pt" if number % 2 else "de",
            "meta": {"card_id": f"{number:016}"},
        }


def chunks(count: int) -> Iterator[list[dict[str, Any]]]:
    """Yield patients as lists of 100, the maximum of a request."""
    source = patients(count)
    for first in range(0, count, CHUNK):
        yield [next(source) for _ in range(min(CHUNK, count - first))]
