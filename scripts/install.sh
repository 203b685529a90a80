#!/bin/sh
# Install packages into a virtual environment, which is made if it is not there: with uv where
# there is one, else with venv and pip.
# Usage: install.sh PYTHON VENV PACKAGE...
set -eu
python=$1 venv=$2
shift 2
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || {
    echo "This needs Python 3.11, 3.12 or 3.13; '$python' is $("$python" --version 2>&1)." >&2
    echo "Name another one: make PYTHON=python3.12 ..." >&2
    exit 1
}
echo "Installing into $venv ..."
if command -v uv > /dev/null; then
    [ -d "$venv" ] || uv venv --quiet --python "$python" "$venv"
    uv pip install --quiet --python "$venv/bin/python" "$@"
else
    [ -d "$venv" ] || "$python" -m venv "$venv"
    # Dependency groups came with pip 25.1.
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check 'pip>=25.1'
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check "$@"
fi
