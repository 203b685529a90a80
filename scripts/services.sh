#!/bin/sh
# Install the servers and programs that the tests start, with apt, and then Python packages. It
# starts no server: each test run starts and stops its own.
# Usage: services.sh "NAME ..." PYTHON VENV OPTION-OF-UV-SYNC...
# The names: chromium, mariadb (with what its Python driver, which is compiled, needs), postgresql,
# redis; the rest goes to install.sh.
set -eu
names=$1
shift
venv=$2
PATH=$PATH:/usr/sbin

packages=""
need() { packages="$packages $*"; }
has() { command -v "$1" > /dev/null; }

for name in $names; do
    case $name in
    chromium)
        has chromium-headless-shell || has chromium || has chromium-browser ||
            need chromium-headless-shell fonts-liberation
        ;;
    postgresql)
        has initdb || ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || need postgresql
        ;;
    redis) has redis-server || need redis-server ;;
    mariadb)
        # The programs alone, without the service that comes with mariadb-server. mariadb-install-db
        # runs my_print_defaults, which is in the second package. Both are named whichever is missing:
        # a my_print_defaults that is here may be MySQL's, which apt removes for MariaDB's server.
        has mariadbd && has mariadb-install-db && has my_print_defaults ||
            need mariadb-server-core mariadb-client-core
        if ! "$venv/bin/python" -c "import MySQLdb" 2> /dev/null; then
            has cc || need gcc libc6-dev
            has pkg-config || need pkg-config
            has mariadb_config || need libmariadb-dev
            headers=$("$venv/bin/python" -c "import sysconfig; print(sysconfig.get_path('include'))")
            [ -e "$headers/Python.h" ] || need "$(basename "$headers")-dev" # such as python3.11-dev
        fi
        ;;
    *)
        echo "services.sh does not know '$name'." >&2
        exit 2
        ;;
    esac
done

if [ -n "$packages" ]; then
    install="apt-get install --yes --no-install-recommends$packages"
    as_root=""
    if ! has apt-get; then
        echo "There is no apt-get here. Install what Debian calls:$packages" >&2
        exit 1
    elif [ "$(id -u)" != 0 ]; then
        as_root=sudo
        # Without a terminal nobody can enter the password.
        if ! has sudo || ! { sudo -n true 2> /dev/null || [ -t 0 ]; }; then
            echo "This needs root. Let root run: apt-get update && $install" >&2
            echo "Then run make again." >&2
            exit 1
        fi
    fi
    echo "Installing$packages ..."
    # Keeps Debian from creating a PostgreSQL cluster, and from starting PostgreSQL and Redis.
    settings=/etc/postgresql-common/createcluster.d
    policy=/usr/sbin/policy-rc.d
    made=$settings/mediquo.conf
    $as_root mkdir -p "$settings"
    echo "create_main_cluster = false" | $as_root tee "$made" > /dev/null
    if [ ! -e "$policy" ]; then
        made="$made $policy"
        printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" > /dev/null
        $as_root chmod +x "$policy"
    fi
    trap '$as_root rm -f $made' EXIT
    # A signal alone would skip the EXIT trap.
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    $as_root apt-get update -qq
    $as_root env DEBIAN_FRONTEND=noninteractive $install -qq > /dev/null
fi

sh "$(dirname "$0")/install.sh" "$@"
