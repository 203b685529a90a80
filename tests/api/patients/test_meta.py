"""Values that a program can put into `meta` and that JSON cannot express."""

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
    """A list that occurs ten times in a list that occurs ten times, and so on: it takes no memory."""
    value: list[Any] = []
    for _ in range(times):
        value = [value] * 10
    return {"a": value}


def test_a_value_counts_each_time_it_occurs():
    assert rule(in_ten_places(3)) is None
    assert rule(in_ten_places(30)) == "size", "as JSON it would have 10^30 lists"


def test_one_value_more_than_a_record_can_hold_is_too_many():
    # The list itself and the object are two of them.
    assert rule({"a": [0] * (MAX_VALUES - 2)}) is None
    assert rule({"a": [0] * (MAX_VALUES - 1)}) == "size"


def test_json_text_that_is_too_long_is_not_parsed(monkeypatch):
    at_most = '{"a": "' + "x" * (MAX_RECORD_BYTES - 9) + '"}'
    assert len(at_most) == MAX_RECORD_BYTES
    assert rule(at_most) is None
    monkeypatch.setattr("airflow_provider_mediquo.api.patients.meta.json.loads", None)
    assert rule(at_most + " ") == "size"


@pytest.mark.parametrize(
    "meta", [{"a\0": 1}, {"a": "\0"}, {"a": [{"b": "x\0"}]}, '{"a": "\\u0000"}']
)
def test_nul_is_rejected(meta):
    assert rule(meta) == "object"


@pytest.mark.parametrize(
    "text", ["\u202egnitirw", "\u200b", "e" + "\u0301" * 1000, "\x1b[31m", "\n"], ids=range(5)
)
def test_other_odd_text_is_accepted(text):
    assert rule({text: text}) is None


@pytest.mark.parametrize(
    "meta", ['{"a": 1, "a": 2}', '{"a": {"b": 1, "b": 1}}', '{"a": [{"": 1, "": null}]}']
)
def test_a_key_that_is_given_twice_is_rejected(meta):
    """Only its last value would be sent."""
    assert rule(meta) == "object"
