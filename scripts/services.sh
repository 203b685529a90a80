#!/bin/sh
# Install what the tests with real servers need: PostgreSQL, MariaDB and a Python driver that has to
# be compiled. It starts no server: each test run starts and ends its own.
# Usage: services.sh PYTHON VENV PACKAGE... (those go to install.sh)
set -eu
venv=$2
PATH=$PATH:/usr/sbin

packages=""
need() { packages="$packages $*"; }
has() { command -v "$1" > /dev/null; }

has initdb || ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || need postgresql
# The programs alone, without the service that comes with mariadb-server.
has mariadbd && has mariadb-install-db || need mariadb-server-core
has my_print_defaults || need mariadb-client-core
if ! "$venv/bin/python" -c "import MySQLdb" 2> /dev/null; then
    has cc || need gcc libc6-dev
    has pkg-config || need pkg-config
    has mariadb_config || need libmariadb-dev
    headers=$("$venv/bin/python" -c "import sysconfig; print(sysconfig.get_path('include'))")
    [ -e "$headers/Python.h" ] || need "$(basename "$headers")-dev" # such as python3.11-dev
fi

if [ -n "$packages" ]; then
    install="apt-get install --yes --no-install-recommends$packages"
    as_root=""
    if ! has apt-get; then
        echo "There is no apt-get here. Install what Debian calls:$packages" >&2
        exit 1
    elif [ "$(id -u)" != 0 ]; then
        as_root=sudo
        # Without a terminal nobody could answer its question for a password.
        if ! has sudo || ! { sudo -n true 2> /dev/null || [ -t 0 ]; }; then
            echo "This needs root. Let root run: apt-get update && $install" >&2
            echo "Then run make services again." >&2
            exit 1
        fi
    fi
    echo "Installing$packages ..."
    # Else Debian makes a database of its own with PostgreSQL, and starts it.
    settings=/etc/postgresql-common/createcluster.d
    $as_root mkdir -p "$settings"
    echo "create_main_cluster = false" | $as_root tee "$settings/mediquo.conf" > /dev/null
    trap '$as_root rm -f "$settings/mediquo.conf"' EXIT
    $as_root apt-get update -qq
    $as_root env DEBIAN_FRONTEND=noninteractive $install -qq > /dev/null
fi

sh "$(dirname "$0")/install.sh" "$@"
