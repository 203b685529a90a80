"""Phone numbers as people of a country write them, as E.164; needs the extra `[phone]`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any


def check_region(region: str) -> None:
    """Raise ValueError if this is not a country code, or if the library is missing."""
    if not find_spec("phonenumbers"):
        raise ValueError(
            "`phone_region` needs the package `phonenumbers`: install "
            "`airflow-provider-mediquo[phone]`"
        )
    from phonenumbers import SUPPORTED_REGIONS

    if region not in SUPPORTED_REGIONS:
        raise ValueError("`phone_region` must be a country code of two capitals, such as 'ES'")


def to_e164(value: Any, region: str) -> Any:
    """Return a phone number as E.164, or the value unchanged if it cannot be one.

    A number with a country prefix keeps that country. Only lengths are checked, because
    countries open new ranges all the time.
    """
    if not isinstance(value, str) or not value.strip():
        return value
    import phonenumbers

    try:
        number = phonenumbers.parse(value, region)
    except phonenumbers.NumberParseException:
        return value
    if number.extension or not phonenumbers.is_possible_number(number):
        return value
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
