"""The sandbox's own page in a browser: its lines move, its switches work, also with the keyboard.

`SCREENSHOTS=folder` keeps the picture that it takes: `make screenshots`.
"""

import os
import time
from pathlib import Path

import pytest
import requests
from playwright.sync_api import expect

from airflow_provider_mediquo.sandbox import Sandbox
from tests.system.conftest import PAGE_TIMEOUT


@pytest.fixture
def box():
    with Sandbox(latency=0, lag=3) as box:
        yield box


@pytest.fixture
def visit(browser, box):
    """Open a page of the sandbox; fail if it asks anybody else, or the browser forbids it something."""
    contexts, problems, asked = [], [], set()

    def visit(path="/", **options):
        context = browser.new_context(viewport={"width": 1000, "height": 900}, **options)
        contexts.append(context)
        context.set_default_timeout(PAGE_TIMEOUT)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: asked.add(request.url.partition("/assets")[0]))
        page.goto(f"{box.home}{path}")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert problems == []
    assert all(url.startswith((f"{box.home}/", box.home, "data:")) for url in asked)


def send(box, number):
    """Upsert 30 patients, and read one; return the status of the upsert, None without an answer."""
    patients = [
        {
            "code": f"zebracrossing-{number}-{one}",
            "first_name": "Zenobiapalmyra",
            "plan": "zirconbracelet",
        }
        for one in range(30)
    ]
    try:
        requests.get(f"{box.url}/patients/zebracrossing-0-0", headers=box.headers, timeout=30)
        answer = requests.put(
            f"{box.url}/patients", json={"patients": patients}, headers=box.headers, timeout=30
        )
    except requests.ConnectionError:
        return None
    return answer.status_code


def test_a_switch_is_turned_on_and_off_by_mouse_and_by_keyboard(visit, box):
    page = visit()
    switch = page.get_by_role("switch", name="Server errors")
    expect(switch).not_to_be_checked()
    switch.click()
    expect(switch).to_be_checked()
    expect(page.get_by_role("status")).to_contain_text("Server errors (5xx): on")
    assert box.settings.error_rate == 0.2
    statuses = {send(box, number) for number in range(60)}
    assert statuses & {500, 502, 503, 504}
    upserts = page.get_by_role("region", name="Upserts", exact=True)
    expect(upserts.get_by_role("cell", name="PUT").first).to_be_visible()
    counters = page.get_by_role("region", name="Counters", exact=True)
    expect(counters).to_contain_text("faults 50")

    page.locator("body").press("Tab")
    other = page.get_by_role("switch", name="Answers lost")
    for _ in range(30):
        if page.evaluate("document.activeElement.id") == "lost_after_rate":
            break
        page.keyboard.press("Tab")
    expect(other).to_be_focused()
    page.keyboard.press("Space")
    expect(other).to_be_checked()
    assert box.settings.lost_after_rate == 0.2
    # The page has been fetched again meanwhile, and the focus stayed.
    page.keyboard.press("Enter")
    expect(other).not_to_be_checked()
    assert box.settings.lost_after_rate == 0
    switch.press("Enter")
    expect(switch).not_to_be_checked()
    assert box.settings.error_rate == 0


def test_a_switch_follows_what_others_set(visit, box):
    page = visit()
    box.settings.lost_before_rate = 1.0
    expect(page.get_by_role("switch", name="Connections cut")).to_be_checked()
    assert send(box, 1) is None


def test_a_fault_is_added_for_the_next_request_and_all_is_cleared(visit, box):
    page = visit()
    page.get_by_label("ends with").select_option("503")
    page.get_by_role("button", name="Add").click()
    expect(page.locator("#scripted")).to_have_text("Scheduled faults: upsert: 503.")
    assert [send(box, number) for number in range(2)] == [503, 200]
    expect(page.locator("#scripted")).to_have_text("No fault is scheduled.")
    page.get_by_role("button", name="Reset").click()
    expect(page.get_by_role("status")).to_have_text("Reset: done")
    assert (box.counters.total, len(box.patients)) == (0, 0)


def test_its_lines_move_and_pause_and_no_patient_is_on_it(visit, box):
    page = visit()
    for number in range(4):
        send(box, number)
        time.sleep(1)  # a line of several points
    accepted = page.get_by_role("listitem").filter(has_text="accepted")
    expect(accepted).to_have_text("accepted: 120")
    expect(page.locator("#writes .line.visible").first).to_be_attached()
    chart = page.get_by_role("img", name="Patients in accepted writes")
    expect(chart).to_have_accessible_description(
        "accepted: now 120, at most 120; visible: now 120, at most 120."
    )
    page.get_by_text("Both charts as a table").click()
    numbers = page.get_by_role("region", name="In 10 seconds")
    expect(numbers).to_contain_text("120")
    text = page.content()
    assert "zebracrossing" not in text
    assert "Zenobiapalmyra" not in text
    assert "zirconbracelet" not in text

    page.get_by_role("button", name="Pause").click()
    send(box, 5)
    time.sleep(2)
    expect(accepted).to_have_text("accepted: 120")
    page.get_by_role("button", name="Continue").click()
    expect(accepted).to_have_text("accepted: 150")
    expect(numbers).to_be_visible()  # what was opened stays open


def test_it_says_so_when_the_sandbox_is_gone(browser):
    box = Sandbox().start()
    page = browser.new_page()
    page.goto(f"{box.home}/")
    box.stop()
    expect(page.get_by_role("status")).to_contain_text("did not answer")
    page.close()


def test_without_a_script_it_shows_what_there_is(visit, box):
    send(box, 0)
    page = visit(java_script_enabled=False)
    expect(page.get_by_role("region", name="Upserts")).to_contain_text("200")
    expect(page.get_by_role("img", name="Requests a second")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_docs_work_without_a_network(visit, scheme):
    page = visit("/docs", color_scheme=scheme)
    expect(page.get_by_role("heading", name="PUT /v1/patients", exact=True)).to_be_visible()
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 28)"}[scheme]


def test_a_picture_of_it(visit, box, tmp_path):
    box.settings.requests_per_minute = 240
    page = visit(color_scheme="light")
    page.get_by_role("switch", name="Server errors").click()
    for number in range(70):
        send(box, number)
        time.sleep(0.25 if number % 20 < 12 else 0.1)
    page.set_viewport_size({"width": 1000, "height": 1080})
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(
        path=Path(os.environ.get("SCREENSHOTS", tmp_path)) / "sandbox.png", animations="disabled"
    )
