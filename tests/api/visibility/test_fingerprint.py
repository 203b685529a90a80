import base64
import hashlib
import hmac
import unicodedata
from typing import Any

import pendulum
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mediquo.api.errors import ConnectionSettingsError
from airflow_provider_mediquo.api.patients.schema import PATIENT_FIELDS, check_patient
from airflow_provider_mediquo.api.visibility import fingerprint
from airflow_provider_mediquo.api.visibility.fingerprint import check_proof, differences, make_proof

KEY = "sandbox-secret-key"
NOW = 1_700_000_000
PATIENT: dict[str, Any] = {
    "code": "m-1",
    "first_name": "Jose\u0301",
    "last_name": "Lovelace",
    "gender": "female",
    "birth_date": "1980-01-01",
    "tax_id": "123456789",
    "email": "Ada@Example.com",
    "plan": "premium",
    "phone": "+1 202-555-0123",
    "locale": "en",
    "meta": {"card_id": "1234", "n": [1]},
}
BEFORE = {"updated_at": pendulum.from_timestamp(NOW - 1)}


def shown(patient: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the answer of a GET that was last changed before the write."""
    return patient | BEFORE | changes


def differ(patient: dict[str, Any], read: dict[str, Any], sent_at: int | None = NOW) -> list[str]:
    return differences(make_proof(patient, KEY, sent_at), read, KEY)


def test_a_patient_that_reads_back_the_same_is_visible():
    assert differ(PATIENT, shown(PATIENT)) == []


@pytest.mark.parametrize("name", [name for name in PATIENT_FIELDS if name != "code"])
def test_a_field_that_reads_back_differently_is_named(name):
    other = {"meta": {"card_id": "1235", "n": [1]}, "phone": "+1 202-555-0124"}
    assert differ(PATIENT, shown(PATIENT, **{name: other.get(name, "other")})) == [name]
    assert differ(PATIENT, shown(PATIENT, **{name: None})) == [name]


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("first_name", unicodedata.normalize("NFC", PATIENT["first_name"])),
        ("last_name", " Lovelace "),
        ("phone", "+12025550123"),
        ("phone", "0012025550123"),
        ("phone", "12025550123"),
        ("email", "ada@example.com"),
        ("meta", {"n": [1], "card_id": "1234"}),
    ],
)
def test_mediquo_may_tidy_a_value_up(name, stored):
    assert differ(PATIENT, shown(PATIENT, **{name: stored})) == []


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("last_name", "lovelace"),
        ("tax_id", "12345678"),
        ("tax_id", "12345678\u2079"),
        ("locale", "EN"),
    ],
)
def test_mediquo_may_not_change_the_meaning_of_a_value(name, stored):
    assert differ(PATIENT, shown(PATIENT, **{name: stored})) == [name]


@pytest.mark.parametrize("empty", [None, "", " "])
def test_a_null_matches_any_blank(empty):
    patient = PATIENT | {"email": None, "meta": {}}
    assert differ(patient, shown(patient, email=empty, meta=[])) == []
    assert differ(patient, shown(patient, email="ada@example.com", meta={"a": 1})) == [
        "email",
        "meta",
    ]


def test_a_null_locale_matches_any():
    assert differ(PATIENT | {"locale": None}, shown(PATIENT, locale="es")) == []


def test_a_field_that_was_not_sent_matches_any_value_but_a_plan_must_be_gone():
    least = {"code": "m-1", "first_name": "Ada"}
    assert differ(least, shown(PATIENT, first_name="Ada", plan=None)) == []
    assert differ(least, shown(PATIENT, first_name="Ada", plan="")) == []
    assert differ(least, shown(PATIENT, first_name="Ada", plan="premium")) == ["plan"]


def test_a_patient_that_was_updated_since_is_visible():
    rewritten = PATIENT | {"first_name": "rewritten"}
    assert differ(PATIENT, rewritten | {"updated_at": pendulum.from_timestamp(NOW)}) == []
    assert differ(PATIENT, rewritten | {"updated_at": pendulum.from_timestamp(NOW - 1)}) != []
    assert differ(PATIENT, rewritten | {"updated_at": None}) == ["first_name"]
    assert differ(PATIENT, rewritten) == ["first_name"]


def test_without_the_servers_time_only_values_count():
    rewritten = PATIENT | {"first_name": "x", "updated_at": pendulum.from_timestamp(NOW)}
    assert differ(PATIENT, rewritten, sent_at=None) == ["first_name"]


def test_a_proof_of_another_secret_key_says_to_run_the_upsert_again():
    proof = make_proof(PATIENT, "another-key", NOW)
    for judge in (lambda: differences(proof, PATIENT, KEY), lambda: check_proof(proof, KEY)):
        with pytest.raises(ConnectionSettingsError, match="Run the upsert again"):
            judge()


@pytest.mark.parametrize(
    "garbage",
    ["", "x", "x" * 43, "!" * 80, "\u00e9" * 60, "A" * 60, None, 7, b"bytes", ["a"], {"a": 1}],
)
def test_anything_else_is_not_a_proof(garbage):
    with pytest.raises(ValueError, match="upsert") as caught:
        check_proof(garbage, KEY)
    assert not isinstance(caught.value, ConnectionSettingsError)


@settings(deadline=None, database=None, derandomize=True, max_examples=300)
@given(st.text() | st.binary().map(lambda b: base64.urlsafe_b64encode(b).decode()))
def test_random_text_is_not_a_proof(text):
    with pytest.raises(ValueError, match="upsert") as caught:
        differences(text, PATIENT, KEY)
    assert not isinstance(caught.value, ConnectionSettingsError)


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 8, 40])
def test_an_incomplete_proof_is_invalid(cut):
    with pytest.raises(ValueError, match=r"of another version|must be the ledger") as caught:
        check_proof(make_proof(PATIENT, KEY, NOW)[:-cut], KEY)
    assert not isinstance(caught.value, ConnectionSettingsError)


def test_a_tampered_proof_never_proves_the_values():
    raw = bytearray(base64.urlsafe_b64decode(pad(make_proof(PATIENT, KEY, NOW))))
    raw[-1] ^= 1
    tampered = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    assert differences(tampered, shown(PATIENT), KEY) == ["meta"]


def pad(proof: str) -> str:
    return proof + "=" * (-len(proof) % 4)


def test_the_same_patient_has_another_proof_each_time():
    assert len({make_proof(PATIENT, KEY, NOW) for _ in range(20)}) == 20


def test_equal_values_have_different_macs_in_two_proofs():
    one, two = (base64.urlsafe_b64decode(pad(make_proof(PATIENT, KEY, NOW))) for _ in "12")
    pieces = [{raw[at : at + 6] for at in range(len(raw) - 66, len(raw), 6)} for raw in (one, two)]
    assert len(pieces[0]) == len(PATIENT)
    assert not pieces[0] & pieces[1]


def test_equal_values_have_different_macs_in_two_fields():
    raw = base64.urlsafe_b64decode(pad(make_proof(dict.fromkeys(PATIENT_FIELDS, "Ada"), KEY, NOW)))
    pieces = [raw[at : at + 6] for at in range(len(raw) - 66, len(raw), 6)]
    assert len({*pieces}) == len(PATIENT_FIELDS)


def test_without_the_key_a_guess_cannot_be_checked(monkeypatch):
    """With salt and field known, only the key is left to guess."""
    monkeypatch.setattr(fingerprint.secrets, "token_bytes", lambda count: b"s" * count)
    raws = [base64.urlsafe_b64decode(pad(make_proof(PATIENT, key, NOW))) for key in (KEY, "other")]
    assert raws[0][-66:] != raws[1][-66:]
    for name, value in PATIENT.items():
        for guess in (str(value), f'["{name}", "{value}"]', f'["{name}", "{str(value).lower()}"]'):
            for text in (guess.encode(), b"s" * 16 + guess.encode()):
                for kind in (hashlib.sha256, hashlib.sha1, hashlib.md5):
                    assert kind(text).digest()[:6] not in raws[0]
                for key in (b"", b"s" * 16, KEY.encode()):
                    assert hmac.digest(key, text, hashlib.sha256)[:6] not in raws[0]


def test_neither_value_nor_key_is_in_a_proof():
    proof = make_proof(PATIENT, KEY, NOW)
    raw = base64.urlsafe_b64decode(pad(proof))
    # Shorter text occurs in random text by chance.
    for value in (text for text in (*map(str, PATIENT.values()), KEY) if len(text) > 7):
        assert value not in proof
        assert value.encode() not in raw


def test_a_proof_is_short():
    assert len(make_proof(PATIENT, KEY, NOW)) < 200


@settings(deadline=None, database=None, derandomize=True, max_examples=100)
@given(
    st.fixed_dictionaries(
        {"code": st.text(), "first_name": st.text()},
        optional={
            "last_name": st.text(),
            "plan": st.text(),
            "meta": st.dictionaries(st.text(), st.text() | st.none() | st.integers()),
        },
    )
)
def test_any_patient_that_reads_back_is_visible(record):
    patient, problems = check_patient(record)
    if not problems:
        assert differ(patient, shown(patient, plan=patient.get("plan"))) == []


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ({"score": 1.0}, {"score": 1}),
        ({"score": -0.0}, {"score": 0}),
        ({"n": 12345678901234567890}, {"n": 1.2345678901234567e19}),
        ({"prefs": {}}, {"prefs": []}),
        ({"a": [{"b": {}}, 2.0]}, {"a": [{"b": []}, 2]}),
        ({"0": "a", "1": "b"}, ["a", "b"]),
        ({"x": {"0": 1.0}}, {"x": [1]}),
        ({"name": "Jose\u0301"}, {"name": "Jos\u00e9"}),
        ({"cafe\u0301": 1}, {"caf\u00e9": 1}),
        ({"note": " x "}, {"note": "x"}),
        ({"note": " "}, {"note": None}),
    ],
)
def test_meta_that_php_has_stored_is_the_same(sent, stored):
    patient = PATIENT | {"meta": sent}
    assert differ(patient, shown(patient, meta=stored)) == []


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ({"score": 1.5}, {"score": 1}),
        ({"score": 1}, {"score": True}),
        ({"score": 1}, {"score": "1"}),
        ({"score": 0}, {"score": None}),
        ({"prefs": {}}, {"prefs": None}),
        ({"prefs": {}}, {"prefs": [0]}),
        ({"1": "a"}, ["a"]),
        ({"a": "x"}, {"a": "X"}),
        ({"n": 1}, {"n": float("inf")}),
        ({"n": 1}, {"n": 10**400}),
    ],
)
def test_meta_of_another_meaning_differs(sent, stored):
    patient = PATIENT | {"meta": sent}
    assert differ(patient, shown(patient, meta=stored)) == ["meta"]
