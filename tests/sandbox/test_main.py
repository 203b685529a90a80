import json
import os
import re
import shlex
import signal
import subprocess
import sys

import pytest
import requests

from airflow_provider_mediquo.sandbox import Settings
from airflow_provider_mediquo.sandbox.__main__ import build_parser, main
from tests.support.processes import running

COMMAND = [sys.executable, "-W", "error", "-m", "airflow_provider_mediquo.sandbox"]


def start(*flags):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return running([*COMMAND, *flags], env=environment, text=True, **pipes)


def read_until_ready(process):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("Ctrl-C"):
            break
    return "".join(lines)


@pytest.mark.parametrize(
    "stop", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.no_cover)]
)
def test_it_prints_its_address_responds_and_stops_cleanly(stop):
    with start("--port", "0", "--api-key", "it's", "--lag", "0", "--no-quote-values") as process:
        printed = read_until_ready(process)
        home = re.search(r"http://127\.0\.0\.1:\d+", printed)[0]
        settings = requests.get(f"{home}/sandbox/settings", timeout=10).json()
        process.send_signal(stop)
        rest, errors = process.communicate(timeout=60)
    assert (settings["lag"], settings["quote_values"]) == (0, False)
    assert f"{home}/docs" in printed
    (assignment,) = shlex.split(next(line for line in printed.splitlines() if "AIRFLOW_" in line))
    name, _, value = assignment.partition("=")
    assert (name, json.loads(value)) == (
        "AIRFLOW_CONN_MEDIQUO_DEFAULT",
        {
            "conn_type": "mediquo",
            "login": "it's",
            "password": "sandbox-secret-key",
            "host": f"{home}/v1",
        },
    )
    assert (process.returncode, rest, errors) == (0, "", "")


def test_a_port_in_use_is_reported_in_one_line(client):
    port = client.box.home.rpartition(":")[2]
    with start("--port", port) as process:
        printed, errors = process.communicate(timeout=60)
    assert (process.returncode, printed) == (1, "")
    assert re.fullmatch(r"Cannot listen: .*in use.* Choose another --port or --host\.\n", errors)


def test_an_invalid_value_names_its_flag(capsys, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        main(["--error-rate", "2"])
    assert ended.value.code == 2
    assert "--error-rate: Input should be less than or equal to 1" in capsys.readouterr().err


def test_every_setting_has_a_flag_with_its_meaning_and_default():
    text = " ".join(build_parser().format_help().split())
    for name, field in Settings.model_fields.items():
        assert "--" + name.replace("_", "-") in text
        assert f"{field.description} ({field.default!r})" in text.replace("- ", "-")


def test_missing_flags_leave_the_defaults():
    assert vars(build_parser().parse_args([])) == {"host": "127.0.0.1", "port": 8484}


def test_a_status_is_read_as_a_number():
    arguments = build_parser().parse_args(["--unknown-patient-status", "401"])
    assert Settings(unknown_patient_status=arguments.unknown_patient_status)
