"""Values of JSON columns."""

import pytest

from airflow_provider_mediquo.api.records import Unreadable
from airflow_provider_mediquo.sources.json_objects import read_json


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        (b'{"a": "\xc3\xa9"}', {"a": "é"}),
        (' \n{"a": {"b": [1]}}\t ', {"a": {"b": [1]}}),
        ("null", None),
        ('"text"', "text"),
    ],
)
def test_a_value_is_read(given, value):
    assert read_json(given) == value


def test_a_key_twice_is_no_value_of_any_field():
    assert isinstance(read_json('{"a": 1, "a": 2}'), Unreadable)
    assert isinstance(read_json('{"a": {"b": 1, "b": 1}}')["a"], Unreadable)


@pytest.mark.parametrize("given", ["{} {}", "", "{", "{}x"])
def test_what_is_not_one_value_is_an_error(given):
    with pytest.raises(ValueError, match="line 1 column"):
        read_json(given)
