"""Airflow's own web UI in a browser: the connection's form, its Test button, and a finished run.

`SCREENSHOTS=folder` keeps the pictures that it takes on its way: `make screenshots`.
"""

import base64
import csv
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from airflow_provider_mediquo.get_provider_info import CONNECTION_TYPE
from airflow_provider_mediquo.sandbox import Sandbox
from dev.local_airflow import EXAMPLES, Airflow, free_port, running_standalone
from tests.system.conftest import PAGE_TIMEOUT
from tests.system.deployment import at_start

NAME = "mediquo_default"
NIGHTLY = "mediquo_nightly"
BEHAVIOUR = CONNECTION_TYPE["ui-field-behaviour"]
OPTIONS = CONNECTION_TYPE["conn-fields"]
LABEL = {
    name: BEHAVIOUR["relabeling"].get(name, name.title()) for name in BEHAVIOUR["placeholders"]
}


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(port=free_port(8484)) as box:
        yield box


@pytest.fixture(scope="module")
def airflow(tmp_path_factory, say, nothing_left) -> Iterator[Airflow]:
    home = tmp_path_factory.mktemp("airflow")
    # What Airflow does not mask of itself, and can be told to in its audit log.
    settings = {"AIRFLOW__CORE__SENSITIVE_VAR_CONN_NAMES": "login"}
    at_start(home)
    say("Starting Airflow")
    with running_standalone(home, settings) as airflow:
        airflow.wait_until_ready(NIGHTLY)
        yield airflow
        say("Stopping Airflow")
    nothing_left(home)


@pytest.fixture
def visit(browser: Browser, airflow: Airflow, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Open a page of Airflow in a window of its own; `answers_to` tells what that was sent."""
    contexts = []

    def visit(path: str, scale: float = 1) -> Page:
        context = browser.new_context(
            viewport={"width": 1280, "height": 900},
            device_scale_factor=scale,
            color_scheme="light",
            record_har_path=tmp_path / "answers.har",
            record_har_content="embed",
            record_har_url_filter=re.compile("/(api/v2|ui)/"),
        )
        contexts.append(context)
        context.set_default_timeout(PAGE_TIMEOUT)
        page = context.new_page()
        page.goto(f"{airflow.page}{path}")
        return page

    yield visit
    for context in contexts:
        context.close()
    for connection in airflow.ask("connections")["connections"]:
        airflow.ask(f"connections/{connection['connection_id']}", method="DELETE")


@pytest.fixture
def answers_to(tmp_path: Path) -> Callable[[Page], str]:
    """Close a window, and return all that Airflow has answered to it."""

    def answers_to(page: Page) -> str:
        page.context.close()
        entries = json.loads((tmp_path / "answers.har").read_text())["log"]["entries"]
        contents = [entry["response"]["content"] for entry in entries]
        answers = "".join(
            base64.b64decode(content["text"]).decode()
            if content.get("encoding") == "base64"
            else content["text"]
            for content in contents
            if "text" in content
        )
        assert "airflow" in answers.lower()
        return answers

    return answers_to


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where screenshots go."""
    return Path(os.environ.get("SCREENSHOTS", tmp_path))


def test_the_form_shows_what_was_declared(visit, box, pictures, say):
    page = visit("/connections", scale=10 / 7)  # the form fills 1,280 of a picture's dots
    page.set_viewport_size({"width": 1280, "height": 1100})  # with all that is in it
    add(page)
    form = page.get_by_role("dialog")
    say("Looking at the standard fields")
    for name, placeholder in BEHAVIOUR["placeholders"].items():
        expect(field(form, LABEL[name])).to_have_attribute("placeholder", placeholder)
        expect(field(form, LABEL[name])).to_have_value("")
    expect(field(form, LABEL["password"])).to_have_attribute("type", "password")
    for name in BEHAVIOUR["hidden-fields"]:
        expect(form.locator(f"[name={name}]")).to_have_count(0)
    fill(form, {"Description": "The mediQuo on this machine", **keys_of(box)})
    form.screenshot(path=pictures / "connection-form.png")

    say("Looking at the options")
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    for option in OPTIONS.values():
        shown, default = field(form, option["label"]), option["schema"]["default"]
        expect(shown).to_be_visible()
        expect(shown).to_have_accessible_description(option["description"])
        if isinstance(default, bool):
            expect(shown).to_be_checked(checked=default)
        else:
            expect(shown).to_have_value("" if default is None else str(default))
    form.screenshot(path=pictures / "connection-options.png")


def test_a_saved_secret_key_never_comes_back_and_outlives_an_edit(
    visit, airflow, box, say, answers_to
):
    page = visit("/connections")
    form = add(page, keys_of(box))
    save(form)
    say("Opening the saved connection, which hides the secret key")
    edit(page)
    expect(field(form, LABEL["host"])).to_have_value(box.url)
    secret = field(form, LABEL["password"])
    expect(secret).to_have_value("***")
    expect(secret).to_have_attribute("type", "password")
    form.get_by_role("button", name="Show value").click()
    expect(secret).to_have_attribute("type", "text")
    expect(secret).to_have_value("***")

    say("Changing every option")
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    fill(form, {OPTIONS[name]["label"]: value for name, value in CHANGED.items()})
    values = page.locator("input, textarea").evaluate_all("fields => fields.map(f => f.value)")
    assert "300" in values
    assert box.secret_key not in [*values, page.content()]
    save(form)
    assert json.loads(airflow.ask(f"connections/{NAME}")["extra"]) == CHANGED

    say("Opening it once more, and testing it with the keys that were kept")
    edit(page)
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    expect(field(form, OPTIONS["timeout"]["label"])).to_have_value("10")
    expect(field(form, OPTIONS["allow_http"]["label"])).to_be_checked()
    form.get_by_role("button", name="Close").click()
    press_test(page, "accepts the keys")

    say("Reading all that the browser was sent")
    page.goto(f"{airflow.page}/events")
    expect(page.get_by_text("patch_connection").first).to_be_visible()
    assert box.secret_key not in answers_to(page)


def test_an_api_key_is_shown_as_every_login_is_but_not_in_an_audit_log_told_to_mask_it(
    visit, airflow, box, answers_to
):
    page = visit("/connections")
    form = add(page, keys_of(box))
    save(form)
    edit(page)
    expect(field(form, LABEL["login"])).to_have_value(box.api_key)
    assert box.api_key in answers_to(page)
    page = visit("/events")
    expect(page.get_by_text("post_connection").first).to_be_visible()
    assert box.api_key not in answers_to(page)


def test_its_test_button_tells_right_keys_wrong_keys_and_a_silent_host_apart(
    visit, box, pictures, say
):
    page = visit("/connections")
    form = add(page, keys_of(box))
    save(form)
    page.set_viewport_size({"width": 1280, "height": 480})
    page.reload()  # without the message that it was saved
    press_test(page, "Success", box.url, "accepts the keys")
    page.screenshot(path=pictures / "connection-test.png", animations="disabled")

    say("Testing with a wrong key")
    edit(page)
    fill(form, {LABEL["password"]: "not-the-secret-key"})
    save(form)
    press_test(page, "Failed", "401", f"{LABEL['login']} (Login)", f"{LABEL['password']} (Pass")

    say("Testing with a host that does not answer")
    port = free_port()
    edit(page)
    fill(form, {LABEL["host"]: f"http://127.0.0.1:{port}/v1", LABEL["port"]: str(port)})
    save(form)
    press_test(page, "Failed", "No answer from 127.0.0.1", "Check the host")


def test_a_finished_run_shows_counts_and_no_patient(visit, airflow, box, pictures, say, answers_to):
    page = visit("/connections")
    save(add(page, keys_of(box)))
    page.goto("about:blank")  # a page of Airflow's takes CPU as long as it is open
    say(f"Running {NIGHTLY} with the connection that was saved in the form")
    with TemporaryDirectory(prefix="mediquo-") as rejects:
        run = airflow.trigger(NIGHTLY, rejects=rejects)
        assert run.follow(say=say) == "success"

    page.goto(run.page)
    for task in ("upsert", "wait_until_visible"):
        row = page.get_by_role("row").filter(has=page.get_by_role("link", name=task, exact=True))
        expect(row).to_contain_text("Success")

    say("Reading the log and the XCom of the upsert")
    table = page.get_by_role("table")
    table.get_by_role("link", name="upsert", exact=True).click()
    ledger = page.locator("code, pre").filter(has_text="Ledger").first
    expect(ledger).to_contain_text(
        re.compile(r"read\s+300\s+upserted\s+292\s+skipped\s+0\s+rejected\s+8")
    )
    # All of the log, and not the list of levels next to it.
    expect(ledger).to_contain_text("Post Execute")
    expect(ledger).not_to_contain_text("CRITICAL")
    page.set_viewport_size({"width": 1280, "height": 680})
    page.screenshot(path=pictures / "finished-run.png")
    page.get_by_role("link", name="Storage").click()
    page.get_by_role("link", name="XCom", exact=True).click()
    page.get_by_role("button", name="Expand all extra JSON").click()
    expect(table).to_contain_text(re.compile(r'"upserted":\s*292'))
    for tab in ("Rendered Templates", "Audit Log", "Details"):
        page.get_by_role("link", name=tab, exact=True).click()
        page.wait_for_load_state("networkidle")

    shown = answers_to(page)
    assert '"upserted"' in shown
    assert "Ledger" in shown
    assert [value for value in personal_values() if value in shown] == []


CHANGED = {"requests_per_minute": 300, "timeout": 10, "verify": "false", "allow_http": True}


def keys_of(box: Sandbox) -> dict[str, str]:
    """What is to be typed, by label; without a port, Test answers 400 on Airflow 3.3.2."""
    port = box.home.rpartition(":")[2]
    typed = {"login": box.api_key, "password": box.secret_key, "host": box.url, "port": port}
    return {LABEL[name]: value for name, value in typed.items()}


def personal_values() -> list[str]:
    """What only a member would be known by, and is nowhere else by chance."""
    with (EXAMPLES / "data" / "members.csv").open(newline="", encoding="utf-8") as file:
        values = [
            row[name] for row in csv.DictReader(file) for name in ("email", "phone", "birth_date")
        ]
    return [value for value in values if len(value) > 5]


def add(page: Page, values: dict[str, str] | None = None) -> Locator:
    """Open the form and choose the type, as it is offered to whoever types its name."""
    page.get_by_role("button", name="Add Connection").click()
    form = page.get_by_role("dialog")
    field(form, "Connection ID").fill(NAME)
    form.get_by_role("combobox").fill("mediq")
    form.get_by_role("option", name=CONNECTION_TYPE["hook-name"], exact=True).click()
    fill(form, values or {})
    return form


def edit(page: Page) -> None:
    page.reload()  # without the messages of what was before: they cover buttons for some seconds
    row(page).get_by_role("button", name="Edit Connection").click()
    expect(field(page.get_by_role("dialog"), "Connection ID")).to_have_value(NAME)


def fill(form: Locator, values: dict[str, object]) -> None:
    for label, value in values.items():
        if isinstance(value, bool):
            form.locator("label[data-scope=switch]").click()
        else:
            field(form, label).fill(str(value))


def save(form: Locator) -> None:
    form.get_by_role("button", name="Save").click()
    expect(form).to_be_hidden()


def press_test(page: Page, *texts: str) -> None:
    """Press the Test button and read the message that is shown for five seconds."""
    row(page).get_by_role("button", name="Test Connection").click()
    message = page.get_by_role("status").filter(has_text="Test Connection")
    pattern = ".*".join(re.escape(text) for text in texts)
    expect(message).to_contain_text(re.compile(pattern, re.DOTALL))


def row(page: Page) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("cell", name=NAME, exact=True))


def field(form: Locator, label: str) -> Locator:
    """Find a field by its label, as one sees it: not every label of Airflow's names its field."""
    name = form.page.locator("label").filter(has_text=re.compile(rf"^{re.escape(label)}\s*\*?\s*$"))
    group = form.locator("[data-scope=field][data-part=root]").filter(has=name)
    return group.locator("input, textarea").first
