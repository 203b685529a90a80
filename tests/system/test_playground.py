"""`make playground`, from its first line to its last."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from airflow_provider_mediquo.sandbox import Sandbox
from dev.local_airflow import EXAMPLES, PIDS, Airflow
from scripts.playground import LEFT_OUT

START = 300  # seconds, at most
STOP = 45  # the 20 that it says, and what a busy machine adds
ROOT = Path(__file__).parents[2]


class Playground:
    """A playground in a session of its own, as in a terminal."""

    def __init__(self, home, output, say):
        self.home = home
        self._output, self._say, self._said = output, say, 0
        with output.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "scripts.playground", str(home)],
                cwd=ROOT,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def output(self):
        """Return all that it has printed, and say what is new of it."""
        text = self._output.read_text()
        for line in text[self._said :].splitlines():
            self._say(line) if line.strip() else None
        self._said = len(text)
        return text

    def wait_for(self, text):
        deadline = time.monotonic() + START
        while text not in self.output():
            assert self.process.poll() is None, "It ended before."
            assert time.monotonic() < deadline, f"It did not say {text!r}."
            time.sleep(0.1)

    def press_ctrl_c(self):
        os.killpg(self.process.pid, signal.SIGINT)

    def ends_cleanly(self):
        assert self.process.wait(STOP) == 0
        assert "Traceback" not in self.output()
        return "Stopped." in self.output()


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """What the user's own Airflow is set up with: a mediQuo and a database."""
    with Sandbox() as box:
        monkeypatch.setenv("AIRFLOW_CONN_MEDIQUO_DEFAULT", json.dumps(box.connection))
        database = tmp_path / "theirs.db"
        monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{database}")
        yield box
        assert box.counters.total == 0
        assert not database.exists()


@pytest.fixture
def playground(tmp_path, say, nothing_left, theirs):
    started = Playground(tmp_path / "home", tmp_path / "output", say)
    yield started
    if started.process.poll() is None:
        started.press_ctrl_c()
        started.process.wait(STOP)
    nothing_left(started.home)


def test_where_it_says_to_click_there_is_something_and_ctrl_c_ends_it_during_a_run(playground, say):
    playground.wait_for("Ctrl-C stops everything")
    urls = re.findall(r"http://\S+", playground.output())
    assert len(urls) >= 5
    for url in urls:
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.status == 200
    airflow = Airflow(
        playground.home, urlsplit(next(url for url in urls if "/dags" in url)).port, {}
    )

    say("Testing the connection, as the button in its row does")
    connection = airflow.ask("connections/mediquo_default")
    tested = airflow.ask("connections/test", {**connection, "schema": ""})
    assert tested["status"], tested["message"]

    offered = {dag["dag_id"] for dag in airflow.ask("dags")["dags"]}
    assert offered == {path.stem for path in EXAMPLES.glob("*.py")} - {LEFT_OUT}
    # The UI answers to any path.
    pages = {urlsplit(url).path for url in urls if f":{airflow.port}/" in url}
    assert pages == {"/dags", "/dags/mediquo_nightly", "/dags/mediquo_warehouse", "/connections"}
    for sent, unchanged in ((2500, 0), (0, 2500)):
        say("Running mediquo_warehouse")
        run = airflow.trigger("mediquo_warehouse")
        assert run.follow(say=say) == "success"
        ledger = run.xcom("upsert")
        assert (ledger["upserted"], ledger["unchanged"]) == (sent, unchanged)

    nightly = airflow.trigger("mediquo_nightly")
    # Between two looks the upsert may be over, and the sensor run.
    is_at_work = ("running", "success")
    airflow.wait_for("its upsert", lambda: nightly.tasks("upsert")[0]["state"] in is_at_work)
    say("Pressing Ctrl-C while mediquo_nightly runs")
    playground.press_ctrl_c()
    assert playground.ends_cleanly()


@pytest.mark.parametrize("moment", ["The sandbox, a local", "Starting Airflow"])
def test_ctrl_c_ends_it_while_it_starts(playground, moment, say):
    playground.wait_for(moment)
    say("Pressing Ctrl-C twice")
    playground.press_ctrl_c()
    playground.wait_for("Stopping")
    playground.press_ctrl_c()
    assert playground.ends_cleanly()


def test_a_second_one_leaves_the_first_alone(playground):
    playground.wait_for("The sandbox, a local")
    second = subprocess.run(
        [sys.executable, "-m", "scripts.playground", str(playground.home)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=STOP,
        check=False,
    )
    assert second.returncode == 1
    assert second.stderr == "A playground is already running in this folder.\n"
    assert playground.process.poll() is None
    assert (playground.home / "dags" / "mediquo_nightly.py").exists()


def test_one_that_was_killed_is_cleared_away_by_the_next(playground, tmp_path, say):
    playground.wait_for("Starting Airflow")
    deadline = time.monotonic() + START
    while not (playground.home / PIDS).exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    playground.process.kill()
    playground.process.wait(STOP)
    pid = int((playground.home / PIDS).read_text().split()[0])
    assert psutil.pid_exists(pid)
    second = Playground(playground.home, tmp_path / "second", say)
    second.wait_for("The sandbox, a local")
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"
    second.press_ctrl_c()
    second.ends_cleanly()
