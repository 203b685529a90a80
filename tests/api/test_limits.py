"""Records from an attacker, or from a program with a bug."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_mediquo.api.patients.endpoints import encode_patient
from airflow_provider_mediquo.api.patients.limits import MAX_CODE, MAX_RECORD_BYTES
from airflow_provider_mediquo.api.patients.rules import RULES
from airflow_provider_mediquo.api.patients.schema import PATIENT_FIELDS, check_patient
from airflow_provider_mediquo.api.text import escaped, listed, shown

LEAST = {"code": "m-1", "first_name": "Ada", "plan": "basic"}
VALID = LEAST | {"code": "m-valid"}
QUICK = settings(deadline=None, database=None, derandomize=True, max_examples=200)


def problems(**fields: Any) -> dict[str, str]:
    return check_patient(LEAST | fields)[1]


def written(run: Any) -> list[tuple[Any, Any]]:
    """Return code and problems of each record in the reject report."""
    return [(line["code"], line["problems"]) for line in run.lines]


# --- size -----------------------------------------------------------------------------------------


def of_size(size: int) -> dict[str, Any]:
    """Return a record of this size in bytes as JSON."""
    record = LEAST | {"last_name": "", "tax_id": "x" * 1000}
    room = size - len(encode_patient(record))
    return record | {"last_name": "é" * (room // 2) + "x" * (room % 2)}


def test_a_record_of_64_kib_is_sent_and_one_byte_more_is_rejected(box, client, upload):
    most, more = of_size(MAX_RECORD_BYTES), of_size(MAX_RECORD_BYTES + 1) | {"code": "m-2"}
    run = upload(client, [most, more, VALID], max_rejects=1)
    assert box.patients.keys() == {"m-1", "m-valid"}
    assert written(run) == [("m-2", {"record": "size"})]


@pytest.mark.no_cover
@pytest.mark.parametrize("name", [name for name in PATIENT_FIELDS if name not in ("code", "meta")])
def test_only_the_record_with_a_huge_text_is_rejected(box, client, upload, name):
    run = upload(client, [LEAST | {name: "+1" * (5 << 20)}, VALID], max_rejects=1)
    assert box.patients.keys() == {"m-valid"}
    rule = "date" if name == "birth_date" else "size"
    assert written(run) == [("m-1", {name: rule})]


def test_no_pattern_is_applied_to_a_text_that_is_too_long():
    assert problems(phone="+1 " + "2 " * MAX_RECORD_BYTES) == {"phone": "size"}
    assert problems(phone="1" + " 1" * (MAX_RECORD_BYTES // 2 - 2) + "x") == {"phone": "phone"}


@pytest.mark.parametrize("code", ["x" * MAX_CODE, "\u6771" * MAX_CODE, f" {'x' * MAX_CODE} "])
def test_a_code_may_have_255_characters(code):
    assert problems(code=code) == {}


@pytest.mark.parametrize(
    "code", ["x" * (MAX_CODE + 1), "\u0301" * (MAX_CODE + 1), "x" * MAX_RECORD_BYTES]
)
def test_a_longer_code_is_rejected_and_not_reported(box, client, upload, code):
    run = upload(client, [LEAST | {"code": code}, VALID], max_rejects=1)
    assert written(run) == [(None, {"code": "code"})]
    assert box.patients.keys() == {"m-valid"}


def test_at_most_30_unknown_fields_are_reported(upload, client):
    many = {f"field_{number}": 1 for number in range(10_000)}
    (line,) = upload(client, [LEAST | many, VALID], max_rejects=1).lines
    assert set(line["problems"].values()) == {"unknown"}
    assert len(line["problems"]) == 31, "30 of them, and one for the rest"
    assert "?" in line["problems"]


@pytest.mark.parametrize(
    "number", [10**1_000_000, -(10**1_000_000), Decimal("1E+999999999")], ids=range(3)
)
@pytest.mark.parametrize("name", ["code", "phone", "birth_date", "meta"])
def test_a_number_of_a_million_digits_is_not_converted(name, number):
    assert problems(**{name: number}).keys() == {name}
    assert problems(meta={"n": number}) == {"meta": "object"}


# --- text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["first_name", "last_name", "tax_id", "plan", "code", "email"])
def test_nul_is_rejected(name):
    assert problems(**{name: "A\0da"}) == {name: "text"}


ODD = [
    "\u202eadA",  # bidirectional override
    "A\u200bda\ufeff",  # invisible
    "A" + "\u0301\u0489" * 5000,  # combining
    "Ada\u2028Bo",
    "Ada\x1b[31m\x07",
    "\U000e0041\uffff\ufdd0",  # tags, noncharacters
    "{{ conn.mediquo_default.password }}",
    "=cmd|' /C calc'!A0",
]


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_any_other_text_is_sent_unchanged(serve, answer, connect, upload, text):
    wire = serve(answer())
    upload(connect(wire), [LEAST | {"last_name": text, "meta": {text: text}}])
    (patient,) = json.loads(wire.requests[0].body)["patients"]
    assert patient == LEAST | {"last_name": text.strip(), "meta": {text: text}}


def test_codes_that_differ_in_case_or_unicode_form_are_different(box, client, upload):
    codes = ["\u00e9", "e\u0301", "m-1", "M-1", "m-1\u200b"]
    run = upload(client, [LEAST | {"code": code} for code in codes])
    assert [*box.patients] == codes
    assert run.report.duplicate == 0


# --- objects that lie -----------------------------------------------------------------------------


def raising(*args: object, **kwargs: object) -> Any:
    raise RuntimeError("canaryinamine")


def lying(base: type, **methods: Any) -> Any:
    return type("Lying", (base,), methods)


def inside(value: str) -> Any:
    """Return a string whose methods lie about its content."""
    said = {"__str__": lambda self: "canaryinamine", "__eq__": lambda self, other: True}
    said |= {"__repr__": raising, "__format__": raising, "__hash__": lambda self: 1}
    said |= {name: lambda self, *a: True for name in ("isspace", "isascii", "isprintable")}
    said |= {"strip": lambda self: "canaryinamine", "encode": raising, "__len__": lambda self: 0}
    return lying(str, **said)(value)


def test_the_content_of_a_text_counts_whatever_its_methods_say(box, client, upload):
    upload(client, [LEAST | {"first_name": inside("Ada"), "plan": inside("basic")}])
    assert box.patients["m-1"]["first_name"] == "Ada"
    assert box.patients["m-1"]["plan"] == "basic"
    assert problems(last_name=inside("A\0")) == {"last_name": "text"}
    assert problems(code=inside("..")) == {"code": "code"}


@pytest.mark.parametrize("text", ["canaryinamine", "../x", "7\n"])
def test_the_value_of_a_number_counts_whatever_its_methods_say(text):
    number = lying(int, __str__=lambda self: text, __repr__=lambda self: text)
    assert check_patient(LEAST | {"code": number(7)})[0]["code"] == "7"
    assert encode_patient(check_patient(LEAST | {"meta": {"n": number(7)}})[0]).endswith(b":7}}")


class Changing(dict[str, Any]):
    """Returns another value each time."""

    def __init__(self, *answers: Any) -> None:
        super().__init__(a=1)
        self._answers = list(answers)

    def items(self) -> Any:
        return {"a": self._answers.pop(0) if self._answers else object()}.items()


@pytest.mark.parametrize("then", [float("nan"), object(), "\ud800", b"x"], ids=range(4))
def test_only_the_record_whose_object_changes_is_rejected(box, client, upload, then):
    run = upload(client, [LEAST | {"meta": Changing(then)}, VALID], max_rejects=1)
    assert box.patients.keys() == {"m-valid"}
    assert written(run) == [(None, {"record": "record"})]


class Mappingish(Mapping[Any, Any]):
    """A mapping with any keys, also repeated ones."""

    def __init__(self, *names: Any) -> None:
        self._names = names

    def __getitem__(self, name: Any) -> Any:
        return "canaryinamine"

    def __iter__(self) -> Any:
        return iter(self._names)

    def __len__(self) -> int:
        return -1  # noqa: PLE0303  # it lies

    def items(self) -> Any:
        return [(name, "canaryinamine") for name in self._names]


@pytest.mark.parametrize(
    "names",
    [
        ("canaryinamine", "canaryinamine"),
        (b"canaryinamine", b"canaryinamine"),
        (1, 1),
        ("code", "code", "first_name"),
    ],
)
@pytest.mark.parametrize("columns", [None, {"x": "plan"}])
def test_only_the_record_with_a_repeated_name_is_rejected(box, client, upload, names, columns):
    run = upload(client, [Mappingish(*names), VALID], max_rejects=1, columns=columns)
    assert "m-valid" in box.patients
    assert "canaryinamine" not in json.dumps([line["problems"] for line in run.lines])


@pytest.mark.parametrize("method", ["__iter__", "__getitem__", "__len__", "keys", "get", "items"])
def test_only_the_record_whose_mapping_fails_is_rejected(box, client, upload, method):
    broken = lying(Mappingish, **{method: raising})("code", "first_name")
    run = upload(client, [broken, VALID], max_rejects=1, columns={"x": None})
    assert "m-valid" in box.patients
    assert "canaryinamine" not in json.dumps([line["problems"] for line in run.lines])


def test_the_content_of_a_name_counts_whatever_its_methods_say(client, upload):
    (line,) = upload(client, [LEAST | {inside("member_id"): 1}, VALID], max_rejects=1).lines
    assert line["problems"] == {"member_id": "unknown"}


# --- display of names -----------------------------------------------------------------------------


@QUICK
@given(st.text())
@example("\x1b]0;x\x07")
@example("\u202e\u2066\u200b\ufeff\u00ad\U000e0041")
@example("a\r\nb\x85\u2028\u2029")
@example("a\ud800")
def test_a_displayed_text_is_one_printable_line(text):
    assert escaped(text).isprintable()
    assert escaped(text) == text or json.loads(f'"{escaped(text)}"') == text
    assert len(shown(text * 1000)) <= 6 * 2 * 201


def test_printable_text_is_displayed_unchanged():
    assert shown('Zoë "東京" a\\b') == 'Zoë "東京" a\\b'


def test_at_most_20_names_are_listed():
    assert listed(["a", "", "b\n"]) == "a, (no name), b\\n"
    assert listed([str(n) for n in range(22)]).endswith("18, 19 and 2 more")
    assert len(listed(["x" * 1_000_000] * 1_000)) < 5_000


def test_the_texts_of_rules_are_printable():
    assert all(text.isprintable() for text in RULES.values())
