#!/bin/sh
# Try the provider on other versions of Airflow, each in a virtual environment of its own: import
# everything, compare the connection form, run an upsert and a deferred sensor.
# Usage: versions.sh PYTHON VERSION...
set -eu
python=$1
shift
for version in "$@"; do
    venv=.venv-airflow-$version
    sh scripts/install.sh "$python" "$venv" "apache-airflow==$version.*" -e . --group test
    "$venv/bin/python" -c 'import airflow; print("Airflow", airflow.__version__)'
    "$venv/bin/python" -m pytest -q tests/test_versions.py
done
