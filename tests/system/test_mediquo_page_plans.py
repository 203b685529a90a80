"""Who lost a plan, on the page *Browse -> mediQuo*: its own files in a browser, in front of answers like Airflow's."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from airflow_provider_mediquo.plugins.mediquo_page import FOLDER

SITE = "http://airflow.test"
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
NIGHT = "2026-11-28T02:00:00Z"
QUIET = {
    "read": 10,
    "upserted": 0,
    "new": 0,
    "changed": 0,
    "resent": 0,
    "unchanged": 10,
    "withheld": 0,
    "skipped": 0,
    "rejected": 0,
    "unsettled": 0,
    "without_plan": 0,
    "would_unsubscribe": 0,
    "unsubscribed": 0,
    "missing": 0,
    "missing_unsubscribed": 0,
    "missing_had_plan": 0,
    "missing_withheld": 0,
    "missing_unsettled": 0,
    "requests": 0,
    "retries": 0,
    "seconds": 1.0,
    "sync": {"name": "members"},
}
LEFT = {
    "would_unsubscribe": 287,
    "unsubscribed": 287,
    "missing": 287,
    "missing_unsubscribed": 287,
    "missing_had_plan": 287,
}
WITHHELD = {"would_unsubscribe": 287, "missing": 287, "missing_withheld": 287}
BOTH = {
    "without_plan": 3,
    "would_unsubscribe": 3,
    "unsubscribed": 3,
    "missing": 4,
    "missing_unsubscribed": 4,
    "missing_had_plan": 2,
}
WITHOUT_STATE = {
    "read": 10,
    "upserted": 9,
    "rejected": 1,
    "unsettled": 0,
    "without_plan": 2,
    "requests": 1,
    "retries": 0,
    "seconds": 1.0,
}


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open the page where one task has left one ledger: `visit(ledger, "?dag=d&task=t", state="failed")`."""
    contexts = []

    def visit(
        ledger: dict[str, Any],
        query: str = "",
        state: str = "success",
        map: int = -1,
        troubled: Sequence[dict[str, Any]] = (),
        first_patch: bool = False,
    ) -> Page:
        def answer(route: Route) -> None:
            path, asked = urlsplit(route.request.url).path, urlsplit(route.request.url).query
            if "mediquo_audit" in asked:
                route.fulfill(json={"xcom_entries": [], "total_entries": 0})
            elif path.startswith("/mediquo/"):
                name = path.removeprefix("/mediquo/") or "index.html"
                body = (FOLDER / name).read_text(encoding="utf-8")
                route.fulfill(body=body, content_type=KINDS[name.split(".")[-1]])
            elif path == "/api/v2/dags/~/dagRuns/~/taskInstances":
                route.fulfill(json={"task_instances": [*troubled], "total_entries": len(troubled)})
            elif found := answer_of(path.removeprefix("/api/v2/dags/"), ledger, state, map):
                for entry in found.get("xcom_entries", ()) if first_patch else ():
                    del entry["run_after"]
                route.fulfill(json=found)
            else:
                route.fulfill(status=404)

        contexts.append(browser.new_context())
        page = contexts[-1].new_page()
        page.route(f"{SITE}/**", answer)
        page.goto(f"{SITE}/mediquo/{query}")
        return page

    yield visit
    for context in contexts:
        context.close()


def answer_of(path: str, ledger: dict[str, Any], state: str, map: int) -> Any:
    """What Airflow's REST API answers."""
    entry = {"dag_id": "d", "task_id": "t", "map_index": map, "run_after": NIGHT}
    xcom = {**entry, "run_id": "r", "timestamp": "2026-11-27T12:00:00Z"}
    instance = {**entry, "dag_run_id": "r", "state": state, "try_number": 1}
    shard = f"/{map}" if map >= 0 else ""
    return {
        "~/dagRuns/~/taskInstances/~/xcomEntries": one("xcom_entries", {**xcom}),
        "d/dagRuns/~/taskInstances/t/xcomEntries": one("xcom_entries", {**xcom}),
        "d/dagRuns/r/taskInstances/t/xcomEntries/mediquo_ledger": {"value": json.dumps(ledger)},
        f"d/dagRuns/r/taskInstances/t{shard}": instance,
        "d/dagRuns/r/taskInstances": one("task_instances", instance),
        "d/dagRuns/~/taskInstances": one("task_instances", instance),
    }.get(path)


def one(name: str, item: dict[str, Any]) -> dict[str, Any]:
    return {name: [item], "total_entries": 1}


RUN = "?dag=d&task=t&run=r"
TASK = "?dag=d&task=t"


@pytest.mark.parametrize(
    ("ledger", "told"),
    [
        pytest.param(
            LEFT,
            "10 records read: 10 unchanged. 287 members lost their plan: "
            "0 by a record without one, 287 because they left the source.",
            id="left",
        ),
        pytest.param(
            BOTH,
            "3 members lost their plan: 1 by a record without one, 2 because they left the source.",
            id="both",
        ),
        pytest.param({}, "Nobody lost their plan.", id="nobody"),
        pytest.param(
            {"missing": 5, "missing_withheld": 5},  # a code could not be read
            "Nobody lost their plan. 5 members left the source, and kept their plan.",
            id="unreadable",
        ),
        pytest.param(
            {"withheld": 1, **LEFT},  # its code comes again with a plan
            "because they left the source. 1 record without a plan withheld: "
            "these members kept their plan.",
            id="contradicted",
        ),
        pytest.param(
            WITHHELD,
            "287 members would have lost their plan: more than max_unsubscribed allows. "
            "Nobody lost it. 287 members left the source, and kept their plan.",
            id="guard",
        ),
        pytest.param(
            {"missing": 2, "missing_unsettled": 2, "would_unsubscribe": 2},
            "2 members left the source, without a final answer: the next run tries again.",
            id="unsettled",
        ),
        pytest.param(
            {"is_dry_run": True, **LEFT},
            "287 members would lose their plan: 0 by a record without one, 287 because",
            id="dry run",
        ),
        pytest.param(
            {"is_dry_run": True, **WITHHELD},
            "287 members would lose their plan: more than max_unsubscribed allows. "
            "Nobody would lose it. 287 members left the source, and would keep their plan.",
            id="dry run, guard",
        ),
        pytest.param(
            {"unsubscribed_path": "/rejects/r.unsubscribed.jsonl", **LEFT},
            "The list of the unsubscribed, below, has their codes.",
            id="list",
        ),
    ],
)
def test_a_run_says_first_who_lost_a_plan(visit, ledger, told):
    page = visit({**QUIET, **ledger}, RUN)
    expect(page.get_by_role("heading", name="What it did")).to_be_visible()
    said = " ".join(page.get_by_role("main").locator("section p").all_text_contents())
    assert told in said


def test_without_a_state_it_says_who_was_sent_without_a_plan(visit):
    page = visit(WITHOUT_STATE, RUN)
    main = page.get_by_role("main")
    expect(main).to_contain_text("2 patients sent without a plan, which unsubscribes them.")
    assert "lost" not in " ".join(main.locator("section p").all_text_contents())


def test_without_a_state_a_dry_run_says_what_would_be(visit):
    page = visit({**WITHOUT_STATE, "is_dry_run": True}, RUN)
    told = "2 patients would be sent without a plan, which unsubscribes them."
    expect(page.get_by_role("main")).to_contain_text(told)


@pytest.mark.parametrize(
    ("ledger", "told"),
    [
        (LEFT, "10 unchanged, 287 lost their plan"),
        ({"is_dry_run": True, **LEFT}, "dry run: 10 unchanged, 287 would lose their plan"),
        ({"is_dry_run": True, **WITHHELD}, "287 would lose their plan, 287 left, and kept"),
        (WITHHELD, "10 unchanged, 287 left, and kept their plan"),
        ({}, "10 unchanged"),
    ],
)
def test_the_list_of_tasks_says_how_many_lost_a_plan(visit, ledger, told):
    page = visit({**QUIET, **ledger})
    cells = page.get_by_role("row").filter(has_text="d: t").get_by_role("cell")
    expect(cells.nth(1)).to_contain_text(told)
    if not ledger:
        expect(cells.nth(1)).to_have_text(told)


def test_where_airflow_does_not_say_when_a_run_was_it_is_when_its_ledger_was_pushed(visit):
    page = visit(QUIET, first_patch=True)
    expect(page.get_by_role("row").filter(has_text="d: t")).to_contain_text("27 Nov 2026")
    page = visit(QUIET, TASK, first_patch=True)
    expect(page.get_by_role("row").nth(1)).to_contain_text("28 Nov 2026")  # of the task instance


@pytest.mark.parametrize("state", ["failed", "up_for_retry"])
@pytest.mark.parametrize("map_index", [-1, 3])
def test_the_list_of_tasks_says_which_failed(visit, map_index, state):
    ledger = {**WITHOUT_STATE, "read": 2, "upserted": 1, "without_plan": 0}
    page = visit(ledger, state=state, map=map_index)
    row = page.get_by_role("row").filter(has_text="d: t")
    expect(row).to_contain_text(f"{state}: 1 sent, 1 rejected")


def test_it_follows_the_theme_that_another_page_of_airflow_sets(visit):
    page = visit(QUIET)
    other = page.context.new_page()
    other.route(f"{SITE}/**", lambda route: route.fulfill(body=""))
    other.goto(SITE)
    body, light, dark = page.locator("body"), "rgb(255, 255, 255)", "rgb(21, 25, 28)"
    for theme, colour in {"dark": dark, "light": light, "system": light}.items():
        other.evaluate("theme => localStorage.setItem('theme', theme)", theme)
        expect(body).to_have_css("background-color", colour)


@pytest.mark.parametrize("query", ["", TASK, RUN], ids=["overview", "task", "run"])
def test_long_texts_do_not_widen_the_page(visit, query):
    word = "x" * 3000
    rejects = {word: {word: 1}}
    paths = {"rejects_path": word, "sync": {"name": word}, "receipt": {"fields": [word]}}
    ledger = {**QUIET, "stopped_because": word, "rejects_by_rule": rejects, **paths}
    page = visit(ledger, query)
    expect(page.get_by_role("table").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_without_a_choice_there_is_no_landmark_for_it(visit):
    page = visit(QUIET, RUN)
    expect(page.get_by_role("heading", name="What it did")).to_be_visible()
    expect(page.get_by_role("navigation")).to_have_count(1)


LATER = {"task_id": "t", "run_after": "2026-11-29T02:00:00Z", "map_index": -1, "state": "failed"}


@pytest.mark.parametrize(
    ("troubled", "told"),
    [
        ({**LATER, "dag_id": "d", "dag_run_id": "killed"}, "2026.*failed: no ledger1$"),
        ({**LATER, "dag_id": "d", "dag_run_id": "now", "state": "running"}, "running: no ledger1$"),
        # One of several shards; its run is the one with the ledger.
        (
            {**LATER, "dag_id": "d", "dag_run_id": "r", "run_after": NIGHT, "map_index": 2},
            r" \[2\]failed: no ledger1$",
        ),
        # It left the ledger.
        (
            {**LATER, "dag_id": "d", "dag_run_id": "r", "run_after": NIGHT},
            "2026.*10 unchanged1$",
        ),
        ({**LATER, "dag_id": "d", "dag_run_id": "old", "run_after": "2026-11-01T02:00:00Z"}, "1$"),
        ({**LATER, "dag_id": "e", "dag_run_id": "killed"}, "10 unchanged1$"),
    ],
    ids=["killed", "running", "shard", "with a ledger", "earlier", "another task"],
)
def test_the_list_of_tasks_has_runs_without_a_ledger(visit, troubled, told):
    page = visit(QUIET, troubled=[troubled])
    row = page.get_by_role("row").filter(has_text="d: t")
    expect(row).to_have_text(re.compile(told))
    known = page.get_by_role("row").filter(has_text="e: t")
    expect(known).to_have_count(1 if troubled["dag_id"] == "e" else 0)
    if troubled["dag_id"] == "e":
        expect(known).to_have_text(re.compile("failed: no ledger0$"))


def test_a_list_is_read_to_its_end_where_airflow_gives_less_at_once(visit):
    """Whoever runs it may have lowered `maximum_page_limit`."""
    entry = {"dag_id": "d", "run_id": "r", "map_index": -1, "run_after": NIGHT}
    entries = [{**entry, "task_id": f"t{number}"} for number in range(5)]

    def answer(route: Route) -> None:
        asked = parse_qs(urlsplit(route.request.url).query)
        if asked["xcom_key"] != ["mediquo_ledger"]:
            return route.fallback()
        start = int(asked["offset"][0])
        answered = {"xcom_entries": entries[start : start + 2], "total_entries": len(entries)}
        return route.fulfill(json=answered)

    page = visit(QUIET)
    page.route(f"{SITE}/api/v2/dags/~/dagRuns/~/taskInstances/~/xcomEntries?*", answer)
    page.reload()
    expect(page.get_by_role("row").filter(has_text="d: t")).to_have_count(len(entries))


def test_of_many_kinds_of_rejects_the_most_frequent_are_shown(visit):
    rare = {f"field {number}": {"text": 1} for number in range(60)}
    page = visit({**QUIET, "rejects_by_rule": {**rare, "phone": {"prefix": 2}}}, RUN)
    rows = page.get_by_role("table", name="Rejected records by field and rule").get_by_role("row")
    expect(rows).to_have_count(51)
    expect(rows.nth(1)).to_have_text("phoneprefix2")


def test_the_rows_of_the_unsubscribed_add_up(visit):
    lost = visit({**QUIET, **BOTH}, RUN).get_by_role("table", name="Patients that lost their plan")
    expect(lost.get_by_role("row")).to_have_count(5)  # waits; what reads the texts does not
    rows = [row.text_content() for row in lost.get_by_role("row").all()[1:]]
    assert rows == [
        "lost their plan, in all3",
        "of these: by a record without one1",
        "of these: left the source2",
        "have none now, and had none before4",
    ]
    lost = visit({**QUIET, **BOTH}, TASK).get_by_role("table", name="Patients that lost their plan")
    expect(lost.get_by_role("row").nth(1)).to_contain_text("3124")
