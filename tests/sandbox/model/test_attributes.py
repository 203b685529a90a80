import pytest


@pytest.mark.parametrize(
    ("field", "given", "shown"),
    [
        ("first_name", "  Ada\n", "Ada"),
        ("first_name", "Zoe\u0308", "Zo\u00eb"),
        ("last_name", "Nun\u0303ez", "Nu\u00f1ez"),
        ("last_name", "  ", None),
        ("tax_id", " 123 456 ", "123 456"),
        ("email", " Ada@Example.COM ", "ada@example.com"),
        ("phone", "+1 (202) 555-01.23", "+12025550123"),
        ("phone", "-", "-"),
        ("birth_date", " 1980-01-31 ", "1980-01-31"),
        ("locale", None, "es"),
        ("locale", "en", "en"),
        ("meta", {"card_id": " 1 "}, {"card_id": " 1 "}),
        ("plan", " premium ", "premium"),
    ],
)
def test_get_returns_the_stored_form_of_a_value(client, patient, field, given, shown):
    client.put({**patient, field: given})
    assert client.get().json()[field] == shown


def test_a_code_is_trimmed(client, patient):
    client.put({**patient, "code": " m-1 "})
    assert list(client.box.patients) == ["m-1"]


def test_a_response_escapes_non_ascii_characters(client, patient):
    client.put({**patient, "first_name": "Zoë"})
    assert rb'"Zo\u00eb"' in client.get().content
