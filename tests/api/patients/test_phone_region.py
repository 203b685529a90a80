"""Phone numbers as people of a country write them."""

import pytest

from airflow_provider_mediquo.api.patients import phone_region
from airflow_provider_mediquo.api.patients.phone_region import (
    check_region,
    phone_rules_version,
    to_e164,
)


@pytest.mark.parametrize(
    ("region", "written", "sent"),
    [
        ("ES", "600123456", "+34600123456"),
        ("ES", " 600 12 34 56 ", "+34600123456"),
        ("ES", "600.123.456", "+34600123456"),
        ("ES", "tel:600123456", "+34600123456"),
        ("DE", "030/123456", "+4930123456"),
        ("DE", "030 / 123456", "+4930123456"),
        ("FR", "06/12/34/56/78", "+33612345678"),
        ("BE", "0475/12/34/56", "+32475123456"),
        ("BE", "0475 12 34/56", "+32475123456"),
        ("CH", "044 123/45/67", "+41441234567"),
        ("TR", "0532/123/45/67", "+905321234567"),
        ("TR", " 0532/123/45/67 ", "+905321234567"),
        ("TR", "0532-123/45/67", "+905321234567"),
        ("UA", "(067)123/45/67", "+380671234567"),
        ("IT", "0471/12/34/56", "+390471123456"),
        ("AD", "376/800/123", "+376800123"),
        ("AT", "0316 872/4000", "+433168724000"),
        ("AT", "0512 3456/789", "+435123456789"),
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
        ("DE", "030 123456/57"),
        ("DE", "089 / 12 34 56/57"),
        ("DE", "030 12345-0 / -19"),
        ("AT", "01 4000 812/13"),
        ("IT", "02 1234567/8"),
        ("CZ", "777123456/457"),
        ("NL", "020 1234567/68"),
        ("IT", "06 698123/4"),
        ("DE", "030/123456/57"),
        ("BE", "02/123.45.67/8"),
        ("PL", "12/3456789/9"),
        ("SE", "08123456/9/8"),
        ("DE", "030 123456/57 "),
        ("DE", " 030 123456/57)"),
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


@pytest.mark.parametrize("value", [None, 600123456, "", " \t", "+", "- -", "7"])
def test_what_has_no_number_is_left_to_them_too(value):
    assert to_e164(value, "ES") is value


@pytest.mark.parametrize("region", ["es", "34", "+34", "ESP", "XX", ""])
def test_a_region_is_a_country_code(region):
    with pytest.raises(ValueError, match="a country code of two capitals"):
        check_region(region)


def test_the_library_is_asked_for_before_a_number_is_read(monkeypatch):
    monkeypatch.setattr(phone_region, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"airflow-provider-mediquo\[phone\]"):
        check_region("ES")


def test_its_version_counts_only_where_it_is_used():
    assert phone_rules_version("ES")
    assert phone_rules_version(None) is None
