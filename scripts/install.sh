#!/bin/sh
# Install the packages in uv.lock into a virtual environment, which is created if missing. uv itself
# gets a separate one.
# Usage: install.sh PYTHON [VENV [OPTION-OF-UV-SYNC...]]
set -eu
UV_VERSION=0.13.9
python=$1
shift
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || {
    echo "This needs Python 3.11, 3.12 or 3.13; '$python' is $("$python" --version 2>&1)." >&2
    echo "Name another one: make PYTHON=python3.12 ..." >&2
    exit 1
}
tools=.venv-uv/bin
if [ "$("$tools/uv" --version 2> /dev/null | cut -d' ' -f2)" != "$UV_VERSION" ]; then
    "$python" -m venv --clear .venv-uv
    "$tools/python" -m pip install -qq --disable-pip-version-check "uv==$UV_VERSION"
fi
[ $# -gt 0 ] || exit 0
venv=$1
shift
echo "Installing into $venv ..."
# --frozen: regardless of the user's uv settings. --inexact: keeps packages that other targets have
# installed. The full path, because uv may pick another interpreter of the same name.
path=$("$python" -c 'import sys; print(sys.executable)')
UV_PROJECT_ENVIRONMENT=$venv "$tools/uv" sync --quiet --frozen --inexact --python "$path" "$@"
