import itertools
from array import array
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_mediquo.api.patients.endpoints import encode_patient
from airflow_provider_mediquo.api.patients.schema import check_patient
from airflow_provider_mediquo.api.sync.fingerprints import Fingerprints

KEY = "a secret key"
ADA: dict[Any, Any] = {"code": "7", "first_name": "Ada", "plan": "premium"}


def of_patient(record, key=KEY):
    patient, broken = check_patient(record)
    assert not broken
    return Fingerprints(key, None).of_patient(patient, encode_patient(patient))


def sent(record):
    """What goes out, with the order in `meta` put aside; None for a record that does not."""
    patient, broken = check_patient(record)
    if broken:
        return None
    of = Fingerprints(KEY, None).of_patient(patient, encode_patient(patient))
    return of, encode_patient({name: patient[name] for name in sorted(patient) if name != "meta"})


# --- of what is sent ------------------------------------------------------------------------------


def test_it_is_a_signed_number_of_64_bits():
    found = {of_patient({**ADA, "code": str(n)}) for n in range(500)}
    assert len(found) == 500
    assert min(found) < 0 < max(found)
    assert all(-(2**63) <= number < 2**63 for number in found)


def test_it_depends_on_the_key():
    assert of_patient(ADA) == of_patient(ADA)
    assert of_patient(ADA) != of_patient(ADA, "another secret key")


def test_it_does_not_depend_on_how_the_source_is_read():
    patient, _ = check_patient(ADA)
    encoded = encode_patient(patient)
    one, other = Fingerprints(KEY, "a"), Fingerprints(KEY, "b", {"x"})
    assert one.of_patient(patient, encoded) == other.of_patient(patient, encoded)
    assert one.of_source(ADA) != other.of_source(ADA)


def test_the_key_is_not_shown():
    fingerprints = Fingerprints(KEY, None)
    shown = repr(vars(fingerprints)) + repr(fingerprints)
    assert KEY not in shown
    assert "blake2" not in shown


@pytest.mark.parametrize(
    "spelling",
    [
        {"plan": "premium", "first_name": "Ada", "code": "7"},
        {**ADA, "code": 7},
        {**ADA, "code": Decimal(7)},
        {**ADA, "first_name": "\tAda "},
    ],
)
def test_another_spelling_is_the_same(spelling):
    assert of_patient(spelling) == of_patient(ADA)


def test_the_order_in_meta_is_no_difference_at_any_depth():
    one = {"b": [{"y": 1, "x": 2}], "a": {"d": 1, "c": {"f": 1, "e": 2}}}
    other = {"a": {"c": {"e": 2, "f": 1}, "d": 1}, "b": [{"x": 2, "y": 1}]}
    assert of_patient({**ADA, "meta": one}) == of_patient({**ADA, "meta": other})
    assert of_patient({**ADA, "meta": {"a": [1, 2]}}) != of_patient({**ADA, "meta": {"a": [2, 1]}})


@pytest.mark.parametrize("pair", [*itertools.combinations([1, True, 1.0, "1", None, [1]], 2)])
def test_values_that_python_takes_for_equal_are_not(pair):
    one, other = ({**ADA, "meta": {"a": value}} for value in pair)
    assert of_patient(one) != of_patient(other)
    fingerprints = Fingerprints(KEY, None)
    assert fingerprints.of_source(one) != fingerprints.of_source(other)
    one, other = ({**ADA, "note": value} for value in pair)
    assert fingerprints.of_source(one) != fingerprints.of_source(other)


# --- of the record as it comes --------------------------------------------------------------------


def test_equal_records_have_the_same_in_each_run():
    record = {**ADA, "birth_date": date(1980, 2, 3), "meta": {"a": [1, None, {"b": 2.5}]}}
    copy = {**ADA, "birth_date": date(1980, 2, 3), "meta": {"a": [1, None, {"b": 2.5}]}}
    first = Fingerprints(KEY, ("same",)).of_source(record)
    assert first is not None
    assert Fingerprints(KEY, ("same",)).of_source(copy) == first
    assert Fingerprints("another", ("same",)).of_source(copy) != first
    assert Fingerprints(KEY, ("other",)).of_source(copy) != first


def test_it_does_not_depend_on_the_record_before():
    fingerprints, records = Fingerprints(KEY, None), [ADA, {**ADA, "phone": None}, ADA]
    alone = [Fingerprints(KEY, None).of_source(record) for record in records]
    assert [fingerprints.of_source(record) for record in records] == alone


def test_names_are_part_of_it():
    fingerprints = Fingerprints(KEY, None)
    names = [("a", "b"), ("b", "a"), ("ab", ""), ("", "ab"), ("a", "b", "c")]
    found = {fingerprints.of_source(dict.fromkeys(each, "x")) for each in names}
    assert len(found) == len(names)


def test_a_dropped_column_is_no_part_of_it():
    fingerprints = Fingerprints(KEY, None, {"note"})
    one = fingerprints.of_source({**ADA, "note": 1})
    assert one == fingerprints.of_source({"note": object(), **ADA})
    assert one == fingerprints.of_source(ADA)
    assert one != fingerprints.of_source({**ADA, "note2": 1})


class Text(str):
    """A str of the source's own."""


class Table(dict):
    """A dict of the source's own."""


@pytest.mark.parametrize(
    "record",
    [
        Table(ADA),
        list(ADA.items()),
        None,
        {},
        {"code": "7"},
        ADA | {1: "a number"},
        {**ADA, Text("last_name"): "a"},
        {**ADA, "last_name": Text("a")},
        {**ADA, "code": UUID(int=7)},
        {**ADA, "last_name": object()},
        {**ADA, "last_name": b"bytes"},
        {**ADA, "last_name": ("date", 723_213)},
        {**ADA, "meta": {"a": Text("a")}},
        {**ADA, "meta": {Text("a"): 1}},
        {**ADA, "meta": {"a": [date(1980, 2, 3), object()]}},
        {**ADA, "meta": Table(a=1)},
    ],
)
def test_what_python_may_take_for_something_else_has_none(record):
    assert Fingerprints(KEY, None).of_source(record) is None


def test_what_has_its_bytes_alone_has_none():
    """As numpy's values: as bytes 1.0 and 4607182418800017408 are the same."""
    fingerprints = Fingerprints(KEY, None)
    values = array("d", [1.0]), array("q", [4_607_182_418_800_017_408]), bytearray(b"a")
    assert bytes(values[0]) == bytes(values[1])
    for value in (*values, memoryview(b"a")):
        assert fingerprints.of_source({**ADA, "note": value}) is None
        assert fingerprints.of_source({**ADA, "meta": {"a": value}}) is None


def test_an_endless_record_has_none():
    record = {**ADA, "meta": {}}
    record["meta"]["a"] = record["meta"]
    deep = {**ADA, "meta": {}}
    inner = deep["meta"]
    for _ in range(100_000):
        inner["a"] = {}
        inner = inner["a"]
    assert Fingerprints(KEY, None).of_source(record) is None
    assert Fingerprints(KEY, None).of_source(deep) is None


# What may be taken for something else: by Python's `==`, as text, or as bytes.
MADRID = timezone(timedelta(hours=1))
LOOK_ALIKES = [
    None,
    "",
    " ",
    "None",
    0,
    False,
    0.0,
    -0.0,
    "0",
    1,
    True,
    1.0,
    "1",
    Decimal(1),
    Decimal("1.0"),
    "a",
    "A",
    "a ",
    ["a"],
    ("a",),
    b"a",
    "é",
    "e\u0301",
    "1980-02-03",
    date(1980, 2, 3),
    datetime(1980, 2, 3),
    datetime(1980, 2, 3, tzinfo=UTC),
    datetime(1980, 2, 3, tzinfo=MADRID),
    datetime(1980, 2, 3, 0, 0, 1),
    ("date", date(1980, 2, 3).toordinal()),
    ["date", date(1980, 2, 3).toordinal()],
    ("datetime", repr(datetime(1980, 2, 3))),
    repr(date(1980, 2, 3)),
    {},
    {"a": 1},
    {"a": True},
    {"a": 1.0},
    {"a": "1"},
    '{"a": 1}',
    {"a": [1, {"b": 2}]},
    {"a": (1, {"b": 2})},
    float("nan"),
    "+44 7700 900123",
    "+44 7700900123",
    "male",
    "Male",
    "es",
    "es_ES",
    "ada@example.com",
]
FIELDS = ["first_name", "last_name", "gender", "birth_date", "tax_id", "email", "plan", "phone"]
FIELDS += ["locale", "meta", "birthdate", "note"]


@pytest.mark.parametrize("field", FIELDS)
def test_nothing_that_is_sent_otherwise_looks_the_same(field):
    """Each value against each other one in each field: also where one of them is invalid."""
    by_source: dict[int, Any] = {}
    for value in LOOK_ALIKES:
        record = {**ADA, field: value}
        source = Fingerprints(KEY, None).of_source(record)
        if source is not None:
            assert by_source.setdefault(source, sent(record)) == sent(record), value
    assert len(by_source) > 20


values = st.sampled_from(LOOK_ALIKES) | st.text(max_size=3) | st.integers() | st.floats()
records = st.dictionaries(st.sampled_from(FIELDS), values, max_size=4).map(lambda more: ADA | more)


def changed(record, changes, order):
    names = [*(record | changes)]
    return {name: (record | changes)[name] for name in sorted(names, key=lambda n: order.index(n))}


@settings(max_examples=400)
@given(
    records,
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=2),
    st.permutations(["code", *FIELDS]),
)
@example(
    ADA | {"birth_date": date(1980, 2, 3)}, {"birth_date": ("date", 722_847)}, ["code", *FIELDS]
)
def test_a_record_that_looks_the_same_is_sent_the_same(record, changes, order):
    other = changed(record, changes, order)
    fingerprints = Fingerprints(KEY, None)
    source = fingerprints.of_source(record)
    assert source is None or source == Fingerprints(KEY, None).of_source({**record})
    if source is not None and source == fingerprints.of_source(other):
        assert sent(record) == sent(other)
