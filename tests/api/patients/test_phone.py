"""Phone numbers, in the ways that people write them."""

import pytest


@pytest.mark.parametrize(
    "phone",
    [
        "+1 123345678",
        "+1 202-555-0123",
        "+12025550123",
        "0012025550123",
        "00 1 202 555 0123",
        "+1 (202) 555.0123",
        "+44 20 7946 0123",
        "+44/20/79460123",
        "+33/6/39/98/12/34",
        "+43 662 8044/1234",
        "+420 777 123/456",
        "+49 711 1234/56",
        "+33 6.39.98.12.34",
        "+33 6.39.98.12.00",
        "(+44) 7700 900123",
        "+(44) 7700 900123",
        "(0044) 7700 900123",
        "+ 44 7700 900123",
    ],
)
def test_a_number_is_sent_as_it_was_written(sent, phone):
    assert sent("phone", f" {phone} ") == phone


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("\u202a+44 7700 900123\u202c", "+44 7700 900123"),
        ("\ufeff+44\u200b 7700 900123\u200e", "+44 7700 900123"),
        ("+44\u00a07700\u202f900123", "+44 7700 900123"),
        ("+44\t7700 900123", "+44 7700 900123"),
        ("+44 7700\u2013900123", "+44 7700-900123"),
        ("+44\u20117700\u2212900123", "+44-7700-900123"),
        ("\uff0b44 7700 900123", "+44 7700 900123"),
        ("tel:+44-7700-900123", "+44-7700-900123"),
        ("TEL: +44 7700 900123", "+44 7700 900123"),
        ("\u202atel:+44 7700\u2013900123\u202c", "+44 7700-900123"),
    ],
)
def test_invisible_characters_and_odd_spaces_and_hyphens_are_made_plain(sent, written, expected):
    assert sent("phone", written) == expected


@pytest.mark.parametrize(
    "phone",
    ["202-555-0123", "020 7946 0123", "(07700) 900123", "07700\u00a0900123", "tel:07700900123"],
)
def test_a_number_without_its_country_needs_a_prefix(rule, phone):
    assert rule("phone", phone) == "prefix"


@pytest.mark.parametrize(
    "phone",
    [
        "+1 202",
        "+0 202 555 0123",
        "000 202 555 0123",
        "+1 202-555-0123 ext. 4",
        "call +1 202-555-0123",
        "+\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668",
        "++12025550123",
        "+44 7700 900123\n+44 7700 900124",
        "tel:",
    ],
)
def test_anything_else_is_no_number(rule, phone):
    assert rule("phone", phone) == "phone"


@pytest.mark.parametrize(
    "phone", ["+44 (0)7700 900123", "+44(0) 7700 900123", "0044 ( 0 ) 7700900123"]
)
def test_a_zero_that_is_dialled_at_home_only_is_refused(rule, phone):
    assert rule("phone", phone) == "phone"


@pytest.mark.parametrize("phone", ["+44 7700 900123.0", "+447700900123.00", "+33 6.39.98.12.3"])
def test_a_number_that_was_a_float_is_refused(rule, phone):
    assert rule("phone", phone) == "phone"


@pytest.mark.parametrize(
    "phone",
    ["+44 7700 900123/24", "+44 7700 900123/ 4", "+44 7700 900123/0124", "+376 800 123/124"]
    + [
        "+44 7700 900123/24)",
        "+298 212345/6",
        "00299 21 23 45/46",
        "+49 30 12345-0 / -19",
        "+687 212345/46",
    ],
)
def test_two_numbers_in_one_are_refused(rule, phone):
    assert rule("phone", phone) == "phone"


@pytest.mark.parametrize("write", ["+{}", "00{}", "+{} ", "+{}.", "(+{})"])
def test_a_number_has_7_to_15_digits_with_its_prefix(rule, write):
    digits = "447700900123456"
    found = {count: rule("phone", write.format((digits * 2)[:count])) for count in range(1, 20)}
    assert found == {count: None if 7 <= count <= 15 else "phone" for count in found}
