"""Records as people have them: transformed, with phone numbers of a country, without what is invalid."""

import json

import pytest

from airflow_provider_mediquo.api.errors import (
    InvalidPatientsError,
    SourceError,
    TooManyRejectsError,
)
from airflow_provider_mediquo.api.upload.options import UploadOptions


def test_a_transformed_record_is_sent(box, client, upload):
    def transform(row):
        return {"code": row["ID"], "first_name": row["NOMBRE"].title(), "plan": "premium"}

    run = upload(client, [{"ID": 7, "NOMBRE": "ADA"}], transform=transform)
    assert run.error is None
    assert box.patients["7"]["first_name"] == "Ada"


def test_it_comes_before_columns(box, client, upload):
    def transform(row):
        return row | {"name": row["name"].strip("*")}

    columns = {"name": "first_name"}
    upload(client, [{"code": "m-1", "name": "*Ada*"}], transform=transform, columns=columns)
    assert box.patients["m-1"]["first_name"] == "Ada"


def test_none_leaves_a_record_out(box, client, upload, people):
    run = upload(client, people(5), transform=lambda row: None if row["code"] == "m-3" else row)
    assert run.error is None
    assert {*box.patients} == {"m-1", "m-2", "m-4", "m-5"}
    ledger = run.report.as_dict()
    assert (ledger["read"], ledger["upserted"], ledger["skipped"]) == (5, 4, 1)


def test_an_exception_rejects_its_record_alone_and_is_not_shown(
    box, client, upload, people, caplog
):
    def transform(row):
        if row["code"] == "m-2":
            raise ValueError("canaryinamine-of-a-value")
        return row

    run = upload(client, people(3), transform=transform)
    assert isinstance(run.error, TooManyRejectsError)
    (line,) = run.lines
    assert (line["row"], line["problems"]) == (2, {"record": "transform"})
    assert {*box.patients} == {"m-1", "m-3"}
    assert "canaryinamine" not in f"{run.error} {caplog.text} {json.dumps(run.lines)}"


def test_an_invalid_optional_field_is_left_out_on_request(box, client, upload, people):
    records = people(1, email="x", gender="H", phone="+44 7700 900123")
    run = upload(client, records, omit_invalid=True)
    assert run.error is None
    assert "email" not in box.patients["m-1"] or box.patients["m-1"]["email"] is None
    assert "7700" in box.patients["m-1"]["phone"]
    (line,) = run.lines
    assert line["refused_by"] == "omitted"
    assert {*line["problems"]} == {"email", "gender"}
    ledger = run.report.as_dict()
    assert (ledger["upserted"], ledger["omitted"], ledger["rejected"]) == (1, 1, 0)


@pytest.mark.parametrize("fields", [{"plan": 7}, {"first_name": ""}, {"code": "."}, {"x": "y"}])
def test_what_is_required_and_the_plan_are_never_left_out(box, client, upload, people, fields):
    (person,) = people(1)
    run = upload(client, [person | fields, *people(1, start=9)], omit_invalid=True)
    assert isinstance(run.error, TooManyRejectsError)
    assert {*box.patients} == {"m-9"}


def test_an_omitted_duplicate_is_a_duplicate(client, upload, people):
    run = upload(client, people(1) + people(1, email="x"), omit_invalid=True)
    assert (run.report.duplicate, run.report.omitted) == (1, 0)


@pytest.mark.parametrize(
    ("region", "written", "sent"),
    [
        ("GB", "07700 900123", "+447700900123"),
        ("GB", "(020) 7946 0123", "+442079460123"),
        ("GB", "+34 600 123 456", "+34600123456"),
        ("ES", "600123456", "+34600123456"),
        ("ES", "0034 600 123 456", "+34600123456"),
        ("US", "(212) 555-0123", "+12125550123"),
    ],
)
def test_a_phone_number_is_read_as_people_of_its_region_write_it(
    box, client, upload, people, region, written, sent
):
    run = upload(client, people(1, phone=written), phone_region=region)
    assert run.error is None
    assert box.patients["m-1"]["phone"] == sent


@pytest.mark.parametrize("written", ["12345", "not a number", "600123456 ext. 7", "99999999999"])
def test_what_is_no_number_there_is_rejected(client, upload, people, written):
    run = upload(client, people(1, phone=written), phone_region="ES")
    assert {*run.lines[0]["problems"]} == {"phone"}


@pytest.mark.parametrize(("region", "written"), [("US", "555-0123"), ("GB", "7946 0123")])
def test_what_lacks_its_area_code_is_rejected(box, client, upload, people, region, written):
    run = upload(client, people(1, phone=written), phone_region=region)
    assert run.lines[0]["problems"] == {"phone": "prefix"}
    assert not box.patients


@pytest.mark.parametrize("region", ["es", "Spain", "ZZ", ""])
def test_a_region_is_a_country_code(region):
    with pytest.raises(ValueError, match="`phone_region` must be a country code"):
        UploadOptions(phone_region=region)


def test_a_source_of_too_few_records_sends_nothing(box, client, connect, upload, people):
    run = upload(client, people(99), min_records=100)
    assert isinstance(run.error, SourceError)
    assert run.first_line.startswith("Stopped: source missing or incomplete. 0 upserted, ")
    assert "99 records, fewer than `min_records` (100)" in str(run.error)
    assert box.counters.total == 0
    assert upload(connect(box), people(100), min_records=100).error is None


def test_a_larger_one_fails_at_its_end(box, client, upload, people):
    run = upload(client, people(1500), min_records=2000)
    assert isinstance(run.error, SourceError)
    assert len(box.patients) == 1500


def test_an_empty_source_warns(client, upload, caplog):
    assert upload(client, []).error is None
    assert "The source has no records." in caplog.messages


def test_what_is_left_of_a_record_may_be_too_large(box, client, upload, people):
    big = "x" * 40_000
    records = people(1, first_name=big, last_name=big, email="x") + people(1, start=9)
    run = upload(client, records, omit_invalid=True)
    assert run.lines[0]["problems"] == {"record": "size"}
    assert {*box.patients} == {"m-9"}


def test_what_was_omitted_is_no_reject(client, upload, people, caplog):
    run = upload(client, people(1, email="x"), omit_invalid=True)
    assert run.error is None
    assert not [line for line in caplog.messages if "rejected: " in line]


def test_a_function_that_leaves_out_every_record_is_named_in_a_warning(
    client, upload, people, caplog
):
    run = upload(client, people(3), transform=lambda row: None)
    assert run.report.skipped == 3
    assert "`transform` left out every record. Does it return the record?" in caplog.text


def by_name(row):
    return {"code": row["ID"], "first_name": row["NOMBRE"], "plan": "gold"}


@pytest.mark.parametrize("count", [2, 300, 400])
def test_one_that_finds_no_column_for_any_record_says_what_the_records_have(client, upload, count):
    records = [{"ID;NOMBRE": "1;Canaryinamine"}] * count
    run = upload(client, records, transform=by_name, columns={"ID": None, "BAJA": None})
    assert isinstance(run.error, InvalidPatientsError)
    assert run.report.rejected == min(count, 300)
    assert (
        f"`transform` raised KeyError for every record so far ({run.report.read}).\nThe first has 1 column, "
        "and no ID, BAJA. Check its header, and for a file `delimiter` and `encoding`."
    ) in str(run.error)
    assert "Canaryinamine" not in str(run.error)
    assert "NOMBRE" not in str(run.error), "a name is only known to be one where `columns` has it"


def test_it_is_a_warning_where_the_rejects_are_allowed(client, upload, caplog):
    run = upload(client, [{"x": "1", "y": "2"}] * 2, transform=by_name, max_rejects=5)
    assert run.error is None
    assert (
        "`transform` raised KeyError for every record so far (2). The first has 2 columns. "
        in caplog.text
    )


def test_and_nothing_of_the_kind_where_one_record_was_understood(client, upload, people, caplog):
    records = [{"x": 1}, {"ID": "1", "NOMBRE": "Ada"}, {"x": 1}]
    run = upload(client, records, transform=by_name)
    assert isinstance(run.error, TooManyRejectsError)
    assert "for every record" not in caplog.text


def test_one_that_fails_otherwise_for_every_record_is_named_with_its_error(client, upload, people):
    def transform(row):
        raise AttributeError("Canaryinamine")

    run = upload(client, people(300), transform=transform)
    assert "`transform` raised AttributeError for every record so far (300).\nTest the func" in str(
        run.error
    )
    assert "Canaryinamine" not in str(run.error)


def test_text_that_was_read_in_another_encoding_is_sent_with_one_warning(
    box, client, upload, people, caplog
):
    records = [
        *people(3, first_name="I\u00c3\u00b1igo"),
        *people(1, start=9, last_name="Mu\ufffdoz"),
    ]
    run = upload(client, [*records, *people(1, start=20, first_name="ÃO")])
    assert run.report.upserted == 5
    assert [line for line in caplog.messages if "Text such as `Ã±` or U+FFFD in 4 records" in line]
    caplog.clear()
    upload(client, people(1, first_name="São João Ñuñez"))
    assert "another encoding" not in caplog.text
