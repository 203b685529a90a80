#!/bin/sh
# Try the provider on the older versions of Airflow that it supports, each in a virtual environment
# of its own: import everything, compare the connection form, run an upsert and a deferred sensor.
# Usage: versions.sh PYTHON
set -eu
python=$1

# What was newest when an Airflow came out is what it was tested with: today's pydantic breaks 3.1
# and 3.2. A date does what Airflow's constraint files do, and needs no other host than PyPI.
try() {
    version=$1 date=$2 venv=.venv-airflow-$1
    echo "Airflow $version, with the packages of $date, into $venv ..."
    [ -d "$venv" ] || "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check uv
    "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --exclude-newer "$date" \
        "apache-airflow==$version.*" -e . --group test
    "$venv/bin/python" -m pytest -q --noconftest tests/test_versions.py
}
try 3.1 2026-03-20
try 3.2 2026-06-10
