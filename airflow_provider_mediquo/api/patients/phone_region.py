"""Phone numbers as people of a country write them, as E.164; needs the extra `[phone]`."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any

from airflow_provider_mediquo.api.patients.phone import TRUNK_ZERO, is_ambiguous, plain_phone

_NUMBER = re.compile(r"\+?[0-9 ().\-/]+")  # no letters, no remark
_GROUPS = re.compile(  # one number: 0532/123/45/67, (067)123/45/67
    r"\+?\(?[0-9]{1,4}(?:(?:\)|\)?[/ -])[0-9]{3})?(?:/[0-9]{2,3}){2,}"
)


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

    A number with a country prefix, + or 00, keeps that country. Text with anything else in it is left to
    the rules of the schema. Only lengths are checked, because countries open new ranges all the time.
    """
    if not isinstance(value, str) or not value.strip():
        return value
    plain = plain_phone(value)
    if not _NUMBER.fullmatch(plain) or is_ambiguous(plain):  # the library finds digits in any text
        return value
    import phonenumbers

    if "/" in plain and not _GROUPS.fullmatch(plain):
        first, _, second = plain.rpartition("/")
        if is_ambiguous(f"{_international(first, region)}/{second}"):
            return value
    try:
        number = phonenumbers.parse(re.sub("^00", "+", plain), region)
    except phonenumbers.NumberParseException:
        return value
    length = phonenumbers.is_possible_number_with_reason(number)
    # Italy dials the zero of (0) from abroad too, other countries do not.
    keeps_zero = number.italian_leading_zero and TRUNK_ZERO.search(plain)
    if keeps_zero or number.extension or length != phonenumbers.ValidationResult.IS_POSSIBLE:
        return value  # also one without its area code
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _international(phone: str, region: str) -> str:
    """Return a number, or the first digits of one, with its country prefix."""
    import phonenumbers

    try:
        number = phonenumbers.parse(re.sub("^00", "+", phone), region)
    except phonenumbers.NumberParseException:
        return phone
    country = phonenumbers.region_code_for_country_code(number.country_code or 0)
    if number.italian_leading_zero and phonenumbers.ndd_prefix_for_region(country, True) == "0":
        # The library keeps the zero that is dialled at home of what is too short for a number.
        number.italian_leading_zero = False
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def phone_rules_version(region: str | None) -> str | None:
    """Return the version of the library, whose rules change; None if it is not used."""
    if not region:
        return None
    import phonenumbers

    return phonenumbers.__version__
