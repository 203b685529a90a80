"""The docs say what the code does: what is named in one is in the other."""

import ast
import csv
import dataclasses
import json
import re
import shlex
import textwrap
from contextlib import closing
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, get_args, get_origin

import pytest
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.schema import CreateTable

import airflow_provider_mediquo
from airflow_provider_mediquo.api import errors, text
from airflow_provider_mediquo.api.client import http, request, retry, settings, transport
from airflow_provider_mediquo.api.client.client import MediquoClient
from airflow_provider_mediquo.api.patients import fields, limits, meta, schema
from airflow_provider_mediquo.api.patients.rules import RULES
from airflow_provider_mediquo.api.patients.schema import PATIENT_FIELDS
from airflow_provider_mediquo.api.report import Receipt, UploadReport
from airflow_provider_mediquo.api.sync.audit import AuditReport
from airflow_provider_mediquo.api.sync.tables import (
    MEMBER,
    RECEIPT,
    STATE,
    SYNC,
    VERSION,
    metadata,
)
from airflow_provider_mediquo.api.upload import circuit_breaker, reject_files, reject_log
from airflow_provider_mediquo.api.upload.options import RECEIPTS_FOR, RESEND_AFTER, UploadOptions
from airflow_provider_mediquo.api.upload.outcome import _SUMMARIES
from airflow_provider_mediquo.api.upload.reject_log import RejectLog
from airflow_provider_mediquo.api.upload.runner import Upload
from airflow_provider_mediquo.get_provider_info import CONNECTION_TYPE
from airflow_provider_mediquo.hooks import connection
from airflow_provider_mediquo.sandbox import Sandbox, Settings
from airflow_provider_mediquo.sandbox.__main__ import READY
from airflow_provider_mediquo.sandbox.model.faults import OUTCOMES
from airflow_provider_mediquo.sources import sql
from airflow_provider_mediquo.sources.files import (
    bounded_gzip,
    bounded_lines,
    csv_quoted,
    parquet_reader,
)

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
SOURCE = Path(airflow_provider_mediquo.__file__).parent
TABLES = (STATE, SYNC, MEMBER, RECEIPT)
EXAMPLES = sorted((PROJECT / "example_dags").glob("*.py"))
PAGES = sorted([*PROJECT.glob("*.md"), *DOCS.glob("*.md")])
ERRORS = [
    error
    for error in vars(errors).values()
    if isinstance(error, type)
    and issubclass(error, errors.MediquoError)
    and error is not errors.MediquoError
]

# --- helpers --------------------------------------------------------------------------------------


def read(name):
    return (DOCS / name).read_text(encoding="utf-8")


def without_code(page):
    return re.sub(r"^( *)(```+).*?^\1\2 *$", "", page, flags=re.MULTILINE | re.DOTALL)


def section(text, heading):
    """The text below a heading, up to the next of its level or above."""
    level, _, _ = heading.partition(" ")
    _, found, below = text.partition(f"\n{heading}\n")
    assert found, heading
    return re.split(rf"^#{{1,{len(level)}}} ", below, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text):
    """The tables' rows: each name in code in a first cell -> the other cells; the first counts."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        first, *others = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1] or [""])
        found = dict.fromkeys(re.findall(r"(?<!`)`([^`]+)`(?!`)", first), others) | found
    return found


def anchors(page):
    """The anchors of its headings, as GitHub and Sphinx make them."""
    headings = re.findall(
        r"^#+ (.+)$", without_code(page.read_text(encoding="utf-8")), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page):
    found = re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text(encoding="utf-8")))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def template(node):
    """A text of the source in one line, with … for what is put in; None where there is no text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%[rs]", "…", node.value).replace("\n", " ")
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) or "…" for part in node.values)
    return None


@cache
def trees():
    paths = [
        path for path in SOURCE.rglob("*.py") if "sandbox" not in path.relative_to(SOURCE).parts
    ]
    return [ast.parse(path.read_text(encoding="utf-8")) for path in paths]


@cache
def texts():
    """Every text in the package."""
    return {text for tree in trees() for node in ast.walk(tree) if (text := template(node))}


SPEAKERS = {error.__name__ for error in ERRORS} | {
    "MediquoError",
    "ValueError",
    "AirflowFailException",
    "AirflowNotFoundException",
    "_require",
    "_no_records",
    "_too_many",
}


def raised():
    """The texts of errors, except those that only join others."""
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in SPEAKERS:
                every = [text for arg in node.args if (text := template(arg))]
                yield from (text for text in every if re.search(r"[\w' ]{8}", text))


def quoted():
    """The messages of ours that troubleshooting quotes: those between two backticks or more."""
    ours, _, _ = read("troubleshooting.md").partition("\n## What Airflow says\n")
    return [text.strip() for _, text in re.findall(r"(?<!`)(``+)(?!`)(.+?)(?<!`)\1(?!`)", ours)]


def pieces(message):
    return [piece.strip() for piece in message.split("…")]


# --- links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_to_a_file_and_a_heading(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_no_page_is_orphaned():
    listed = re.findall(r"```\{toctree\}\n(.*?)```", read("index.md"), re.DOTALL)
    names = {f"{name}.md" for block in listed for name in block.split()}
    assert {page.name for page in DOCS.glob("*.md")} - names == {"index.md"}


# --- examples -------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_is_quoted_as_a_whole(example):
    (part,) = re.findall(r"# \[START (\w+)\]", example.read_text(encoding="utf-8"))
    assert (
        f"```{{literalinclude}} ../example_dags/{example.name}\n:language: python\n"
        f':start-after: "[START {part}]"\n:end-before: "[END {part}]"\n'
    ) in read("examples.md")


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_what_is_quoted_in_part_is_there(page):
    quotes = re.findall(
        r"```\{literalinclude\} (\S+)\n(.*?)```", page.read_text("utf-8"), re.DOTALL
    )
    for path, options in quotes:
        text = (DOCS / path).read_text(encoding="utf-8")
        for mark in re.findall(r':(?:start|end)-\w+: "(.+)"', options):
            assert mark in text, f"{path}: {mark}"


# --- what has a place on a page -------------------------------------------------------------------


@pytest.mark.parametrize(
    "option", dataclasses.fields(UploadOptions), ids=lambda option: option.name
)
def test_an_option_is_told_with_its_default(option):
    *_, default = rows(section(read("operators.md"), "## Upsert options"))[option.name]
    shown = {None: "none", RESEND_AFTER: "30 days", RECEIPTS_FOR: "400 days"}.get(
        option.default, str(option.default)
    )
    assert default.startswith(shown)


def test_the_rules_are_told():
    assert set(rows(section(read("operators.md"), "### Rules"))) == {*RULES}


def test_the_ledger_is_told():
    receipt = Receipt("https://sdk.mediquo.com/v1", "1.0", "0a1b2c3d")
    ledger = UploadReport(sync={"name": "members"}, is_dry_run=True, receipt=receipt).as_dict()
    assert set(rows(section(read("operators.md"), "## The ledger"))) == {*ledger}


def test_the_report_of_an_audit_is_told():
    report = AuditReport(known=1, checked=1, differ=0, not_found=0).as_dict()
    told = [*rows(section(read("sync.md"), "## Audits"))]
    assert set(told) == {*report, "state_conn_id", "sample_size", "max_wrong"}


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=str)
def test_the_columns_of_the_state_are_told(table):
    part = section(read("sync.md"), "## What is in the state").partition(f"\n| `{table}` |")[2]
    if table.name == "mediquo_state":
        assert f"version of the tables, {VERSION}." in read("sync.md")
    else:
        assert set(rows(part.partition("\n\n")[0])) == {*table.columns.keys()}


@pytest.mark.parametrize(
    ("database", "dialect"),
    [
        ("PostgreSQL", postgresql.dialect()),
        ("MySQL and MariaDB", mysql.dialect()),
        ("SQLite", sqlite.dialect()),
    ],
)
def test_the_tables_of_the_state_can_be_created_as_the_docs_show(database, dialect):
    _, _, below = read("sync.md").partition(f"\n{database}:\n\n```sql\n")
    shown = re.sub(r"\s+", " ", below.partition("\n```")[0]).strip()
    statements = [str(CreateTable(table).compile(dialect=dialect)) for table in TABLES]
    assert shown == " ".join(re.sub(r"\s+", " ", text).strip() + ";" for text in statements)


def test_the_fields_of_a_patient_are_told():
    assert set(rows(section(read("operators.md"), "## Patient fields"))) == {*PATIENT_FIELDS}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_an_error_is_told(error):
    also, _, can_retry = rows(section(read("hook.md"), "## Errors"))[error.__name__]
    assert can_retry == ("yes" if error.can_retry else "no")
    other = [base.__name__ for base in error.__bases__ if base is not errors.MediquoError]
    assert also == "".join(f"`{name}`" for name in other)
    assert f"`{error.__name__}`" in read("troubleshooting.md")


@pytest.mark.parametrize("name", CONNECTION_TYPE["conn-fields"])
def test_an_extra_of_the_connection_is_told_with_its_default(name):
    default = settings.Settings.__dataclass_fields__[name].default
    default = f"{default:g}" if isinstance(default, float) else default
    assert rows(read("connection.md"))[name][-1] == f"`{str(default).lower()}`"


@pytest.mark.parametrize("label", CONNECTION_TYPE["ui-field-behaviour"]["relabeling"].values())
def test_a_field_of_the_connection_is_told(label):
    assert f"| {label} (" in read("connection.md")


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_of_the_sandbox_is_told_with_its_default(name):
    field = Settings.model_fields[name]
    meaning, default = rows(section(read("sandbox.md"), "## Settings"))[name]
    assert default == (f"`{field.default}`" if field.default != "" else "empty")
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    told = " / ".join(f"`{choice}`" for choice in choices)
    assert meaning.removesuffix(told).strip().replace("`", "") == field.description


def test_the_outcomes_of_the_sandbox_are_told():
    told = rows(section(read("sandbox.md"), "### Outcomes"))
    meanings = {
        name: re.split("[.;] ", told[name][0].lower().replace("`", "")) for name in OUTCOMES
    }
    assert meanings == {name: text.lower().split("; ") for name, text in OUTCOMES.items()}


def test_the_quickstart_shows_what_the_sandbox_prints():
    home = "http://127.0.0.1:8484"
    connection = Sandbox(port=8484).connection
    lines = READY.format(
        sandbox=SimpleNamespace(home=home, url=f"{home}/v1"),
        connection=shlex.quote(json.dumps(connection)),
    )
    assert textwrap.indent(lines, "   ") in read("index.md")


def test_the_quickstart_fails_as_it_says():
    patients = [
        {"code": "M-1", "first_name": "Ada", "phone": "+44 7700 900123", "plan": "premium"},
        {"code": "M-2", "first_name": "Bruno", "phone": "07700 900123", "plan": "basic"},
    ]
    with (
        Sandbox() as box,
        closing(MediquoClient(settings.Settings(box.api_key, box.secret_key, box.url))) as client,
        pytest.raises(errors.TooManyRejectsError) as caught,
    ):
        Upload(client, UploadOptions(), RejectLog()).run(patients)
    first_line, *_ = str(caught.value).splitlines()
    assert f"``{first_line}``" in read("index.md")


# --- limits ---------------------------------------------------------------------------------------

LIMITS = {
    "a record as JSON": limits.MAX_RECORD_BYTES,
    "a text value": limits.MAX_RECORD_BYTES,
    "a code": limits.MAX_CODE,
    "an e-mail address": fields.MAX_EMAIL,
    "nesting levels of `meta`": meta._LEVELS,
    "values in `meta`": meta.MAX_VALUES,
    "unknown fields named per record": schema.MAX_PROBLEMS,
    "unknown columns named per source": text.MAX_NAMES,
    "characters shown of a name": text.MAX_SHOWN,
    "invalid records in a row": circuit_breaker.MAX_INVALID,
    "a line of CSV, an object of JSON Lines": bounded_lines.MAX_LINE,
    "a CSV row, including all its lines": csv_quoted.MAX_LINE,
    "lines of CSV that may be rows or lines of one cell": csv_quoted.MAX_DOUBT,
    "decompressed gzip data that is always read": bounded_gzip.FREE,
    "decompressed gzip data, as a multiple of the compressed size": bounded_gzip.MOST,
    "a quoted CSV cell (a limit of Python's `csv`)": csv.field_size_limit(),
    "Parquet columns that together exceed 64 KiB per row, decompressed": parquet_reader.MAX_UNPACKED_BYTES,
    "Parquet columns that together exceed 500 times their compressed size, decompressed": (
        bounded_gzip.FREE
    ),
    "list values in a Parquet row group, beyond one per row": parquet_reader.MAX_LIST_VALUES,
    "a batch of Parquet rows, if every text were as long as the longest in the row group": (
        parquet_reader.MAX_UNPACKED_BYTES
    ),
    "rows in the first fetch": sql._FIRST_BATCH,
    "rows per fetch": sql._MAX_BATCH,
    "size of a fetch, if every row were as long as the longest recent one": (sql.MAX_BATCH_BYTES),
    "seconds to connect, and again for the TLS handshake": retry.DEFAULT_RETRY.connect_timeout,
    "seconds to send a request": settings.DEFAULT_TIMEOUT,
    "seconds for a response, from sending the request to the last byte": settings.DEFAULT_TIMEOUT,
    "seconds that `timeout` may be set to": settings.MAX_TIMEOUT,
    "a response body": http.MAX_BODY_BYTES,
    "a response, including everything around its body": transport.MAX_RESPONSE_BYTES,
    "nesting levels of the response's JSON": request.MAX_LEVELS,
    "seconds that a 429 may ask to pause": request.MAX_PAUSE,
    "a key": settings.MAX_KEY,
    "the Base URL": settings.MAX_URL,
    "the extra": connection.MAX_EXTRA,
    "requests per minute": settings.MAX_REQUESTS_PER_MINUTE,
    "kinds of problems counted in the error message": reject_log.MAX_KINDS,
    "bytes of each name in `<dag>/<run>/<task>`": reject_files.MAX_NAME_BYTES,
}


def test_the_limits_are_told():
    told = {}
    for line in read("limits.md").splitlines():
        if line.startswith("| ") and not line.startswith("| what | how much |"):
            what, how_much, beyond = (cell.strip() for cell in line.strip("|").split("|"))
            assert beyond
            number, unit = re.fullmatch(
                r"([0-9,]+)(?: (KiB|MiB))?(?: characters)?", how_much
            ).groups()
            told[what] = int(number.replace(",", "")) << {"KiB": 10, "MiB": 20}.get(unit, 0)
    assert told == LIMITS


# --- troubleshooting ------------------------------------------------------------------------------


@pytest.mark.parametrize("message", quoted())
def test_a_message_that_is_quoted_is_one_of_ours(message):
    every = texts()
    for piece in pieces(message):
        assert any(piece in text for text in every), piece


def test_a_message_of_ours_is_quoted():
    told = [piece for message in quoted() for piece in pieces(message) if len(piece) >= 8]
    assert [text for text in raised() if not any(piece in text for piece in told)] == []


@pytest.mark.parametrize("summary", [summary for _, summary, _ in _SUMMARIES])
def test_a_first_line_of_a_run_that_stopped_is_told(summary):
    table = section(read("troubleshooting.md"), "## The first line of a failed upsert")
    assert f"`Stopped: {summary} …`" in table
