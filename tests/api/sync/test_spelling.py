import unicodedata

import pytest

from airflow_provider_mediquo.api.sync.spelling import key_of


@pytest.mark.parametrize(
    "other",
    [
        "m-6",
        " M-6 ",
        "M-6\u200b",  # zero-width space
        "\ufeffM-6",  # byte order mark
        "M\u00ad-6",  # soft hyphen
        "\u202eM-6",  # right-to-left override
        "M-6\ufe0f",  # variation selector
        "M-6\u3164",  # Hangul filler, a letter
        "M-6\u0301",
        "\uff2d-\uff16",  # full width
        "M-\u2076",  # superscript
        "M-6\u00a0",  # no-break space
    ],
)
def test_these_may_be_the_same(other):
    assert key_of(other) == key_of("M-6")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("JOS\u00c9", "jose"),
        ("JOS\u00c9", unicodedata.normalize("NFD", "JOS\u00c9")),
        ("stra\u00dfe", "STRASSE"),
        ("\u0130", "i"),  # capital I with a dot: lower case has two letters
        ("\u2122", "tm"),  # the trade mark sign decomposes to capitals
        ("\u03c3", "\u03c2"),  # the two small sigmas
        ("\u1e9e", "ss"),
        ("\u0141\u00d3D\u0179", "lodz"),  # these have no decomposition: the stroke of the L,
        ("CO\u013fLEGA", "collega"),
        ("K\u00d8GE", "koge"),  # of the O (also with an accent),
        ("\u01fe", "o"),
        ("\u0110URI\u0106", "duric"),  # of the D,
        ("\u00d0", "d"),  # eth,
        ("\u0126", "h"),
        ("\u0131", "I"),  # the small i without a dot,
        ("\u00c6", "AE"),  # and the ligatures
        ("\u01fc", "ae"),
        ("\u0152", "oe"),
    ],
)
def test_so_may_these(one, other):
    assert key_of(one) == key_of(other)


@pytest.mark.parametrize(
    "other",
    [
        "6",
        "06",
        "0006",
        "6.0",
        "06.00",
        "6.",
        "6,0",
        " 06 ",
        "\uff10\uff16",
        "+006.",
        "'006",
        "{6}",
    ],
)
def test_a_number_is_the_same_as_a_spreadsheet_writes_it(other):
    assert key_of(other) == key_of("006")


@pytest.mark.parametrize("other", ["1.234.100", "1,234,100", "1 234 100", "+0001234100."])
def test_also_with_separators(other):
    assert key_of(other) == key_of("1234100")


@pytest.mark.parametrize("other", ["'AB-1", "{ab-1}"])
def test_any_code_is_the_same_in_braces_or_with_an_apostrophe(other):
    assert key_of(other) == key_of("ab-1")


@pytest.mark.parametrize("other", ["3.45E4", "34.5e+3", "3,450E4", "34500E0", "345e2", "34500.0"])
def test_also_with_an_exponent(other):
    assert key_of(other) == key_of("034500")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("m-6", "m-7"),
        ("m-6", "m6"),
        ("m 6", "m6"),
        ("m-6", "m-06"),
        ("6", "60"),
        ("6000", "6.000"),
        ("ab", "ab+"),
        ("ab", "+ab"),
        ("ab", "{ab"),
        ("ab", "ab'"),
        ("1234", "1.234"),
        ("12345678", "1.234,5678"),
        ("6", "6.1"),
        ("6.10", "6.1"),
        ("6.15E1", "6.2E1"),
        ("6E1", "6"),
        ("0", ""),
        ("\u0416", "\u0417"),
    ],
)
def test_these_are_different(one, other):
    assert key_of(one) != key_of(other)
