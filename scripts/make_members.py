"""Generates example_dags/data/members.csv: `uv run --with faker scripts/make_members.py`.

All people in it are made up: names and birthdays are Faker's, the addresses are at example.com, and the
phone numbers come from ranges reserved for fiction (Ofcom's 07700 900xxx, the Bundesnetzagentur's
0171 39200xx and ARCEP's 06 39 98 xx xx). A few rows are wrong on purpose.
"""

import csv
import random
import unicodedata
from pathlib import Path

from faker import Faker

SEED = 20261121
ROWS = 300
LOCALES = {"es": "es_ES", "de": "de_DE", "pt": "pt_PT", "en": "en_GB"}
PLANS = ["premium", "family", "essential", ""]
COLUMNS = [
    "member_id",
    "first_name",
    "last_name",
    "gender",
    "birth_date",
    "email",
    "phone",
    "product",
    "locale",
]
MISTAKES = {
    17: {"birth_date": "1978-02-30"},
    48: {"phone": "07700 900123"},
    95: {"email": "not-an-address"},
    131: {"first_name": ""},
    164: {"gender": "f"},
    202: {"birth_date": "2931-07-04"},
    239: {"locale": "fr"},
    277: {"member_id": "M-000012"},
}


def main() -> None:
    """Write the file."""
    Faker.seed(SEED)
    random.seed(SEED)
    people = [member(number) | MISTAKES.get(number, {}) for number in range(1, ROWS + 1)]
    path = Path(__file__).parents[1] / "example_dags" / "data" / "members.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(people)


def member(number: int) -> dict[str, str]:
    """Return one made-up member."""
    locale = random.choices(list(LOCALES), weights=[6, 2, 1, 1])[0]
    faker = Faker(LOCALES[locale])
    gender = random.choice(["female", "male"])
    first = getattr(faker, f"first_name_{gender}")()
    last = faker.last_name()
    return {
        "member_id": f"M-{number:06}",
        "first_name": first,
        "last_name": last,
        "gender": gender,
        "birth_date": faker.date_of_birth(minimum_age=0, maximum_age=92).isoformat(),
        "email": f"{slug(first)}.{slug(last)}.{number}@example.com" if number % 9 else "",
        "phone": phone() if number % 7 else "",
        "product": random.choices(PLANS, weights=[5, 6, 6, 1])[0],
        "locale": locale,
    }


def phone() -> str:
    """Return a phone number that is reserved for fiction."""
    return random.choice(
        [
            f"+44 7700 900{random.randrange(1000):03}",
            f"+49 171 39200{random.randrange(100):02}",
            f"+33 6 39 98 {random.randrange(100):02} {random.randrange(100):02}",
        ]
    )


def slug(name: str) -> str:
    """Return a name as it appears in an e-mail address."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return "".join(letter for letter in plain.lower() if letter.isalpha())


if __name__ == "__main__":
    main()
