"""What a program can put into `meta` that no JSON can say."""

from typing import Any

import pytest
from marshmallow import ValidationError

from airflow_provider_mediquo.api.patients.limits import MAX_RECORD_BYTES
from airflow_provider_mediquo.api.patients.meta import MAX_VALUES, read_meta


def rule(value: Any) -> str | None:
    try:
        read_meta(value)
    except ValidationError as error:
        return str(error.messages[0])
    return None


def in_ten_places(times: int) -> dict[str, Any]:
    """Ten lists that are one list of ten lists that are one, and so on: it takes no memory."""
    value: list[Any] = []
    for _ in range(times):
        value = [value] * 10
    return {"a": value}


def test_values_are_counted_where_they_stand():
    assert rule(in_ten_places(3)) is None
    assert rule(in_ten_places(30)) == "size", "written down it would have 10^30 lists"


def test_a_value_more_than_a_record_can_hold_is_too_many():
    # The list itself and the object are two of them.
    assert rule({"a": [0] * (MAX_VALUES - 2)}) is None
    assert rule({"a": [0] * (MAX_VALUES - 1)}) == "size"


def test_json_as_text_is_not_even_parsed_where_it_is_too_long(monkeypatch):
    at_most = '{"a": "' + "x" * (MAX_RECORD_BYTES - 9) + '"}'
    assert len(at_most) == MAX_RECORD_BYTES
    assert rule(at_most) is None
    monkeypatch.setattr("airflow_provider_mediquo.api.patients.meta.json.loads", None)
    assert rule(at_most + " ") == "size"


@pytest.mark.parametrize(
    "meta", [{"a\0": 1}, {"a": "\0"}, {"a": [{"b": "x\0"}]}, '{"a": "\\u0000"}']
)
def test_nul_is_what_some_databases_cannot_hold(meta):
    assert rule(meta) == "object"


@pytest.mark.parametrize(
    "text", ["\u202egnitirw", "\u200b", "e" + "\u0301" * 1000, "\x1b[31m", "\n"], ids=range(5)
)
def test_other_odd_text_is_text(text):
    assert rule({text: text}) is None
