"""The page's files as Airflow serves them; what its script does is tested in a browser, in tests/system."""

import re

import pytest
from airflow import plugins_manager
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from airflow_provider_mediquo.plugins import mediquo_page
from airflow_provider_mediquo.plugins.mediquo_page import FOLDER, MediquoPagePlugin

FILES = sorted(path.name for path in FOLDER.iterdir())
SCRIPTS = [name for name in FILES if name.endswith(".js")]
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@pytest.fixture
def server():
    """An API server: the app where Airflow mounts it, before a route for everything else."""
    app = FastAPI()
    for each in MediquoPagePlugin.fastapi_apps:
        app.mount(each["url_prefix"], each["app"])
    app.add_api_route("/{path:path}", lambda path: {"airflow": path})
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def read(name):
    return (FOLDER / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_with_its_type(server, name):
    answer = server.get(f"/mediquo/{name}")
    assert answer.status_code == 200
    assert answer.text == read(name)
    kind = answer.headers["content-type"].partition(";")[0]
    assert kind.replace("application/javascript", "text/javascript") == KINDS[name.split(".")[-1]]


def test_the_page_is_at_its_folder(server):
    assert server.get("/mediquo/").text == read("index.html")


@pytest.mark.parametrize("path", ["", "page.js", "none.js"])
def test_each_answer_lets_the_browser_use_nothing_but_these_files(server, path):
    headers = server.get(f"/mediquo/{path}").headers
    policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert policy.pop("frame-ancestors") == "'self'"
    assert policy.pop("require-trusted-types-for") == "'script'"
    assert {
        name for name, value in policy.items() if value != "'none'" and value != "'self'"
    } == set()
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-cache"


def test_a_file_that_has_not_changed_is_not_sent_again(server):
    tag = server.get("/mediquo/page.js").headers["etag"]
    assert server.get("/mediquo/page.js", headers={"if-none-match": tag}).status_code == 304


@pytest.mark.parametrize("path", ["none.js", "%2e%2e/mediquo_page.py", "..%2f__init__.py"])
def test_there_is_nothing_else(server, path):
    assert server.get(f"/mediquo/{path}").status_code == 404
    assert server.post("/mediquo/").status_code == 405


def test_a_websocket_is_refused(server):
    with pytest.raises(WebSocketDisconnect), server.websocket_connect("/mediquo/"):
        pass


def test_if_its_files_are_missing_the_page_fails_and_airflow_does_not(
    server, monkeypatch, tmp_path
):
    mediquo_page._files.cache_clear()
    monkeypatch.setattr(mediquo_page, "FOLDER", tmp_path / "none")
    assert server.get("/mediquo/").status_code == 500
    assert server.get("/dags").json() == {"airflow": "dags"}


def test_what_the_page_names_is_there():
    named = re.findall(r'(?:href|src)="([^"#]+)"', read("index.html"))
    imported = re.findall(r'from "\./([^"]+)"', "".join(map(read, SCRIPTS)))
    assert {"page.js", "page.css", "icon.svg"} == set(named)
    assert {*named, *imported, "index.html"} == set(FILES)


def test_nothing_is_inline_and_nothing_comes_from_elsewhere():
    page = read("index.html")
    assert "<style" not in page
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=", page)
    everything = "".join(map(read, FILES)).replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//cdn|@import|url\(", everything)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_puts_in_text_and_never_markup(name):
    markup = r"innerHTML|outerHTML|insertAdjacent|document\.write|DOMParser|\beval\b|Function\("
    assert not re.search(markup, read(name))


def test_the_list_of_tasks_asks_for_all_upserts():
    sources = [path.read_text(encoding="utf-8") for path in FOLDER.parents[1].rglob("*.py")]
    upserts = re.findall(r"class (\w+)\(.*\bMediquoUpsertBaseOperator\)", "".join(sources))
    named = re.search(r"UPSERTS = \[(.*?)\]", read("api.js"), re.DOTALL)
    assert sorted(re.findall(r'"(\w+)"', named[1])) == sorted(upserts) != []


def test_airflow_finds_it():
    if hasattr(plugins_manager, "get_fastapi_plugins"):
        apps, _ = plugins_manager.get_fastapi_plugins()
    else:  # Airflow 3.1
        plugins_manager.initialize_fastapi_plugins()
        apps = plugins_manager.fastapi_apps
    assert [each for each in apps if each["url_prefix"] == "/mediquo"]
    (plugin,) = [p for p in plugins_manager.get_plugin_info() if p["name"] == "mediquo"]
    assert plugin["external_views"] == MediquoPagePlugin.external_views
