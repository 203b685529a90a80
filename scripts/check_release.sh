#!/bin/sh
# Check that a release tag matches the version of the package and has a dated entry in the changelog.
# Usage: check_release.sh TAG
set -eu
cd "$(dirname "$0")/.."
tag=$1
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' airflow_provider_mediquo/__init__.py)
if [ "$tag" != "v$version" ]; then
    echo "The tag is $tag, but __version__ is $version. Tag the commit v$version, or set __version__." >&2
    exit 1
fi
pattern=$(printf '%s' "$version" | sed 's/\./\\./g')
grep -Eq "^## $pattern - [0-9]{4}-[0-9]{2}-[0-9]{2}\$" CHANGELOG.md || {
    echo "CHANGELOG.md has no '## $version - YYYY-MM-DD'. Rename Unreleased and date it." >&2
    exit 1
}
