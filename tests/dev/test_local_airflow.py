"""The code that starts an Airflow for demo, playground and system tests, tested without Airflow."""

import signal
import socket
import subprocess
import sys

import psutil
import pytest

from dev import local_airflow
from dev.local_airflow import PIDS, Airflow, Failed, end_leftovers, free_port

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def airflow(tmp_path, monkeypatch, eventually):
    """An Airflow whose only process, and its child, ignore Ctrl-C."""
    monkeypatch.setattr(local_airflow, "STOP_SECONDS", 0.2)
    popen = subprocess.Popen

    def stubborn(command, **options):
        return popen([sys.executable, "-c", STUBBORN], **options)

    airflow = Airflow(tmp_path, free_port(), {})
    monkeypatch.setattr(local_airflow.subprocess, "Popen", stubborn)
    airflow.start("standalone")
    monkeypatch.undo()
    monkeypatch.setattr(local_airflow, "STOP_SECONDS", 0.2)
    eventually(lambda: "ready" in (tmp_path / "standalone.log").read_text())
    yield airflow
    airflow.stop()


def family(airflow):
    root = psutil.Process(airflow.processes["standalone"].pid)
    return [root, *root.children(recursive=True)]


def are_gone(processes):
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def test_the_users_own_airflow_settings_are_left_out(tmp_path, monkeypatch):
    names = ["AIRFLOW_CONN_MEDIQUO_DEFAULT", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    names += ["AIRFLOW__SECRETS__BACKEND", "AIRFLOW_CONFIG", "_AIRFLOW_PROCESS_CONTEXT"]
    for name in [*names, "MEDIQUO_REJECTS"]:
        monkeypatch.setenv(name, "theirs")
    env = Airflow(tmp_path, 1, {"MEDIQUO_REJECTS": "ours"}).env
    assert "theirs" not in env.values()
    assert env["MEDIQUO_REJECTS"] == "ours"


def test_a_process_that_ignores_ctrl_c_is_killed_with_its_children(airflow, eventually):
    processes = family(airflow)
    assert len(processes) == 2
    airflow.stop()
    assert eventually(lambda: are_gone(processes))


def test_the_children_of_a_process_that_died_are_killed(airflow, eventually):
    processes = family(airflow)
    with pytest.raises(Failed):
        # Waiting for something notices it.
        airflow.wait_for("the process to end", lambda: processes[0].kill())
    airflow.stop()
    assert eventually(lambda: are_gone(processes))


def test_processes_that_a_killed_airflow_left_behind_are_killed_and_no_others(
    airflow, tmp_path, eventually
):
    stranger = subprocess.Popen([sys.executable, "-c", STUBBORN], cwd=tmp_path)
    try:
        processes = family(airflow)
        with (tmp_path / PIDS).open("a") as pids:
            print(stranger.pid, 1.5, file=pids)
        end_leftovers(tmp_path)
        assert eventually(lambda: are_gone(processes))
        assert stranger.poll() is None
    finally:
        for process in psutil.Process(stranger.pid).children():
            process.kill()
        stranger.send_signal(signal.SIGKILL)
        stranger.wait()


def test_ctrl_c_while_a_process_starts_comes_when_it_is_known(tmp_path, monkeypatch):
    airflow, popen = Airflow(tmp_path, free_port(), {}), subprocess.Popen

    def interrupted(command, **options):
        started = popen([sys.executable, "-c", STUBBORN], **options)
        signal.raise_signal(signal.SIGINT)
        return started

    monkeypatch.setattr(local_airflow.subprocess, "Popen", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # xdist ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            airflow.start("standalone")
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.undo()
    monkeypatch.setattr(local_airflow, "STOP_SECONDS", 0.2)
    left = family(airflow)
    assert (tmp_path / PIDS).read_text().startswith(f"{left[0].pid} ")
    airflow.stop()
    assert are_gone(left)


def test_a_port_is_the_preferred_one_or_one_that_no_system_gives_away():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        other = free_port(taken.getsockname()[1])
    assert 10_000 <= other < 30_000
    assert free_port(other) == other


def test_the_error_names_a_port_that_another_program_has_taken(airflow):
    with (
        socket.create_server(("127.0.0.1", airflow.port)),
        pytest.raises(Failed, match=f"has taken port {airflow.port}"),
    ):
        airflow.wait_until_ready()
