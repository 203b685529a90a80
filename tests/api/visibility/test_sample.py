"""Which of the accepted records are in the sample."""

from collections import Counter

import pytest

from airflow_provider_mediquo.api.records import ValidRecord
from airflow_provider_mediquo.api.visibility.sample import SIZE, Sample


def sample_of(*codes):
    sample = Sample("secret-key")
    for row, code in enumerate(codes):
        sample.consider(ValidRecord(row, code, True, b'{"code": "x"}'), None)
    return [*sample.as_dict()]


def many(count, name="m-{}"):
    return [name.format(number) for number in range(count)]


def test_a_few_records_are_all_in_the_sample():
    assert sample_of(*many(SIZE)) == many(SIZE)


@pytest.mark.no_cover
def test_of_many_each_has_the_same_chance():
    seen = Counter(code for _ in range(300) for code in sample_of(*many(4 * SIZE)))
    # 75 of 300 expected for each; 30 is 6 standard deviations away.
    assert sum(seen.values()) == 300 * SIZE
    assert {*seen} == {*many(4 * SIZE)}
    assert min(seen.values()) > 30
    assert max(seen.values()) < 120


def test_codes_with_a_slash_are_left_out_if_there_are_others():
    assert sample_of(*many(100, "m/{}"), "m-1", "/", "m-2") == ["m-1", "m-2"]


def test_codes_with_a_slash_are_used_if_there_are_no_others():
    assert sample_of("m/1", "m/2") == ["m/1", "m/2"]
    assert len(sample_of(*many(100, "m/{}"))) == SIZE


def test_codes_that_frameworks_treat_specially_are_left_out():
    assert sample_of("__classname__", "m-1") == ["m-1"]
