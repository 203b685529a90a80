"""Phone numbers as people of a country write them."""

import pytest

from airflow_provider_mediquo.api.patients.phone_region import to_e164


@pytest.mark.parametrize(
    ("region", "written", "sent"),
    [
        ("ES", "600123456", "+34600123456"),
        ("ES", " 600 12 34 56 ", "+34600123456"),
        ("ES", "600.123.456", "+34600123456"),
        ("ES", "tel:600123456", "+34600123456"),
        ("DE", "030/123456", "+4930123456"),
        ("FR", "06.12.34.56.78", "+33612345678"),
        ("US", "(202) 555-0123", "+12025550123"),
        ("ES", "+44 (0) 20 7946 0018", "+442079460018"),
        # The region's own prefix without its + is seen where it leaves no other reading, as the docs say.
        ("ES", "34600123456", "+34600123456"),
        ("DE", "4917012345678", "+494917012345678"),
        ("DE", "34600123456", "+4934600123456"),
        # 00 keeps its country also where people dial another prefix.
        ("SG", "0034 600 123 456", "+34600123456"),
        ("AU", "0034600123456", "+34600123456"),
    ],
)
def test_it_is_read_as_people_there_write_it(region, written, sent):
    assert to_e164(written, region) == sent


@pytest.mark.parametrize(
    ("region", "written"),
    [
        ("ES", "+34 600 123 45"),  # too short, but with a prefix
        ("ES", "447700900123"),
        ("DE", "1701234567.0"),  # a float
        ("DE", "+491701234567.0"),
        ("ES", "6.001234e08"),
        ("DE", "1.701234567E9"),
        ("ES", "+39 (0) 347 1234567"),  # Italy keeps the zero
        ("DE", "030 9001234/24"),  # two numbers
        ("DE", "0171 1234567 (2)"),  # a remark
        ("DE", "0171/1234567 o. 18"),
        ("ES", "6XX XXX 456"),  # masked
        ("ES", "600 12 SOL 6"),
        ("DE", "31/12/1980"),  # a day
        ("DE", "01.02.1980"),
        ("ES", "C/ Mayor 912 345 678"),
        ("ES", "tel:600123456;phone-context=+44"),
    ],
)
def test_what_may_be_something_else_is_left_to_the_rules_of_the_schema(region, written):
    assert to_e164(written, region) == written
