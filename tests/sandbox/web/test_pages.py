"""The sandbox's own pages, over a socket, as they come without a script."""

import html
import re
import shlex
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from airflow_provider_mediquo.sandbox.model.faults import ENDPOINTS, OUTCOMES
from airflow_provider_mediquo.sandbox.web import pages
from airflow_provider_mediquo.sandbox.web.charts import Line, line_chart
from airflow_provider_mediquo.sandbox.web.dashboard import MAX_REQUESTS, SWITCHES

PAGES = ("/", "/docs")
STYLE = (pages.ASSETS / "sandbox.css").read_text(encoding="utf-8")


class Elements(HTMLParser):
    """All elements of a page, each as a dictionary of its attributes."""

    def __init__(self, text):
        super().__init__()
        self.all = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.all.append({"tag": tag, **dict(attrs)})

    def named(self, **wanted):
        return [each for each in self.all if wanted.items() <= each.items()]


@pytest.fixture
def elements(client):
    return lambda path="/": Elements(client.control("GET", path).text)


# --- both pages -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, "/assets/sandbox.css", "/assets/sandbox.js"])
def test_nothing_from_elsewhere_and_nothing_inline_may_run(client, path):
    answer = client.control("GET", path)
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", PAGES)
def test_they_need_no_network_and_nothing_inline(elements, path):
    found = elements(path)
    for element in found.all:
        where = element.get("src") or element.get("href") or "/"
        assert where.startswith(("/", "data:,")), element
        assert not where.startswith("//")
        assert not [name for name in element if name == "style" or name.startswith("on")], element
    assert all("src" in script for script in found.named(tag="script"))
    assert not found.named(tag="style")
    assert not re.search(r"@import|url\(", STYLE)


@pytest.mark.parametrize("path", PAGES)
def test_what_refers_to_another_element_finds_it(elements, path):
    found = elements(path)
    known = [element["id"] for element in found.all if "id" in element]
    assert len(known) == len({*known})
    for element in found.all:
        for name in ("aria-labelledby", "aria-describedby"):
            assert {*element.get(name, "").split()} <= {*known}


def test_an_unknown_asset_is_not_found_nor_a_file_outside(client):
    for name in ("other.css", "../pages.py", "%2e%2e/pages.py"):
        assert client.control("GET", f"/assets/{name}").status_code == 404


def test_the_assets_are_part_of_the_package():
    assert {path.name for path in pages.ASSETS.iterdir()} == {*pages.MEDIA_TYPES}


# --- the dashboard ----------------------------------------------------------------------------------


def tables(page):
    """Caption -> its rows, each a list of cells."""
    found = {}
    for caption, body in re.findall(
        r"<caption>(.*?)</caption>.*?<tbody.*?>(.*?)</tbody>", page, re.DOTALL
    ):
        lines = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
        found[caption] = [re.findall(r"<td>(.*?)</td>", line) for line in lines]
    return found


def test_it_shows_the_base_url_counters_requests_and_settings(client, patient):
    client.put(patient)
    client.box.script("get", "503")
    client.get()
    client.get()
    page = client.control("GET", "/").text
    shown = tables(page)
    assert client.box.url in page
    assert ["requests upsert 200", "1"] in shown["Counters"]
    assert [row[1:4] for row in shown["Upserts"]] == [["PUT", "/v1/patients", "200"]]
    assert [row[3] for row in shown["Reads and logins"]] == ["200", "503"], "latest first"
    assert ["lag", "0.0"] in [row[:2] for row in shown["Settings"]]


def test_many_reads_hide_no_upsert(client, patient):
    client.put(patient)
    for _ in range(MAX_REQUESTS + 10):
        client.get()
    shown = tables(client.control("GET", "/").text)
    assert len(shown["Upserts"]) == 1
    assert len(shown["Reads and logins"]) == MAX_REQUESTS


def test_no_page_has_patient_data(client, patient):
    client.put(
        {
            **patient,
            "code": "zebracrossing-7",
            "first_name": "Adaaugustalovelace",
            "plan": "zirconbracelet",
        }
    )
    client.get("zebracrossing-7")
    client.authenticate("zebracrossing-7")
    for path in PAGES:
        page = client.control("GET", path).text
        assert not re.search("zebracrossing|Adaaugustalovelace|zirconbracelet", page)


def test_it_escapes_what_it_shows(client):
    client.box.settings.refuse_tax_id = '<script>&"1"</script>'
    for path in PAGES:
        page = client.control("GET", path, headers={"Host": "a&b'c"}).text
        assert "http://a&amp;b" in page
    page = client.control("GET", "/").text
    assert "<td>&lt;script&gt;&amp;&quot;1&quot;&lt;/script&gt;</td>" in page


def lines_of(page):
    """Class of a line -> the heights of its points; 0 is at the bottom."""
    found = re.findall(r'<polyline class="line (\w+)" points="([^"]*)"', page)
    return {
        name: [round(192 - float(point.split(",")[1]), 1) for point in points.split()]
        for name, points in found
    }


def wait_for_lines(client, condition):
    deadline = time.monotonic() + 20
    while not condition(lines := lines_of(client.control("GET", "/").text)):
        assert time.monotonic() < deadline, lines
        time.sleep(0.1)
    return lines


def test_requests_are_a_line_for_each_kind_next_to_the_limit(connect, patient):
    client = connect(requests_per_minute=3)
    for _ in range(5):
        client.put(patient)
    client.get()
    # In the second after that: the one that goes on is not shown.
    lines = wait_for_lines(client, lambda lines: {"upsert", "get", "refused"} <= {*lines})
    assert len({*lines["limit"]}) == 1
    assert sum(lines["upsert"]) / sum(lines["refused"]) == pytest.approx(5 / 2, rel=0.02)
    numbers = tables(client.control("GET", "/").text)["In 10 seconds"]
    assert [sum(int(row[column]) for row in numbers) for column in (1, 2, 4)] == [5, 1, 2]
    spoken = re.findall(r"<desc[^>]*>(.*?)</desc>", client.control("GET", "/").text)
    assert "the limit is 0.05" in spoken[0]


def test_patients_that_are_accepted_and_not_yet_visible_are_two_lines(connect, people):
    client = connect(lag=3600)
    client.put(*people(40))
    lines = wait_for_lines(client, lambda lines: lines.get("accepted", [0])[-1])
    assert "visible" not in lines, "none is"
    client.box.settings.lag = 0
    client.box.restart()
    client.put(*people(10))
    lines = wait_for_lines(client, lambda lines: lines.get("visible", [0])[-1])
    assert lines["accepted"][-1] / lines["visible"][-1] == pytest.approx(50 / 10, rel=0.02)


def test_a_limit_far_above_all_requests_does_not_flatten_them():
    lines = [Line("get", "reads", [0, 8, 4])]
    assert "limit" not in lines_of(line_chart("a", "Reads", lines, 10_000))
    assert "limit: 10,000" in line_chart("a", "Reads", lines, 10_000)
    near = lines_of(line_chart("a", "Reads", lines, 10))
    assert near["limit"][0] > near["get"][1] == 2 * near["get"][2] > near["get"][0] == 0


@pytest.mark.parametrize("most", [0, 1, 4, 5, 11, 39, 41, 99, 12_345, 2_000_000])
def test_no_line_leaves_its_chart(most):
    (heights,) = lines_of(line_chart("a", "Reads", [Line("get", "", [1, most])])).values()
    assert all(0 <= height <= 180 for height in heights)


def test_each_switch_says_whether_its_fault_is_on(client, elements):
    switches = elements().named(role="switch")
    assert [switch["id"] for switch in switches] == [*SWITCHES]
    assert {switch["aria-checked"] for switch in switches} == {"false"}
    changes = {"lost_after_rate": float(switches[0]["data-on"])}
    assert client.control("PATCH", "/sandbox/settings", json=changes).status_code == 200
    (switched,) = elements().named(role="switch", **{"aria-checked": "true"})
    assert switched["id"] == "lost_after_rate"


def test_each_scripted_outcome_that_it_offers_exists(client):
    page = client.control("GET", "/").text
    offered = re.findall(r"<option>(.*?)</option>", page)
    assert {*offered} >= {*ENDPOINTS, *OUTCOMES} - {"ok"}
    outcomes = [outcome for outcome in offered if outcome not in ENDPOINTS]
    script = {"endpoint": "get", "outcomes": outcomes}
    assert client.control("POST", "/sandbox/script", json=script).status_code == 200
    assert "Scheduled faults: get: lost_before, lost_after" in client.control("GET", "/").text


# --- the API docs -----------------------------------------------------------------------------------


def test_the_docs_have_each_endpoint_setting_outcome_and_header(client):
    described = client.control("GET", "/openapi.json").json()
    page = client.control("GET", "/docs").text
    for path, methods in described["paths"].items():
        for method in methods:
            assert f"<code>{method.upper()} {path}</code>" in page
    for name in described["components"]["schemas"]["Settings"]["properties"]:
        assert f"<td>{name}</td>" in page
    assert all(f"<code>{name}</code>" in page for name in OUTCOMES)
    statuses = {row[0] for row in tables(page)["Errors of mediQuo&#x27;s endpoints"]}
    assert {"400", "401", "404", "422", "429"} < statuses


def test_each_example_of_the_docs_works(client):
    page = client.control("GET", "/docs").text
    keys = {"$API_KEY": client.box.api_key, "$SECRET_KEY": client.box.secret_key}
    commands = re.findall(r"<pre[^>]*><code>(.*?)</code>", page, re.DOTALL)
    assert len(commands) > 5
    for command in commands:
        program, _, method, url, *options = shlex.split(html.unescape(command).replace("\\\n", ""))
        given = list(zip(options[::2], options[1::2], strict=True))
        headers = dict(text.split(": ") for option, text in given if option == "-H")
        headers = {name: keys.get(value, value) for name, value in headers.items()}
        body = next((text for option, text in given if option == "-d"), None)
        answer = client.session.request(method, url, headers=headers, data=body, timeout=10)
        assert (program, answer.status_code) == ("curl", 200), command


# --- colors -----------------------------------------------------------------------------------------


def colors(text):
    return dict(re.findall(r"--(\w+): (#\w{6});", text))


def luminance(color):
    parts = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_colors_have_enough_contrast(scheme):
    light, _, dark = STYLE.partition("@media (prefers-color-scheme: dark)")
    found = colors(light) | (colors(dark) if scheme == "dark" else {})
    for ground in ("page", "card"):
        for name in {*found} - {"page", "card", "grid"}:
            # WCAG 2.2, AA: 4.5 for text, 3 for borders.
            enough = 3 if name == "border" else 4.5
            assert contrast(found[name], found[ground]) >= enough, (name, ground)


def test_every_color_has_a_light_and_a_dark_value():
    light, _, dark = STYLE.partition("@media (prefers-color-scheme: dark)")
    assert colors(light).keys() == colors(dark).keys()
    used = {*re.findall(r"var\(--(\w+)\)", STYLE)}
    assert used == colors(light).keys()
    assert Path(pages.__file__).with_name("assets").is_dir()
