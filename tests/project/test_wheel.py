"""The built package: `make versions` and `make matrix` install it, and run all tests on it."""

import os
import sys
import tarfile
import tomllib
import zipfile
from configparser import ConfigParser
from email import message_from_bytes
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import airflow_provider_mediquo

PROJECT = Path(__file__).parents[2]
PACKAGE = "airflow_provider_mediquo"
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
VERSION = airflow_provider_mediquo.__version__
INFO = f"{PACKAGE}-{VERSION}.dist-info"

pytestmark = pytest.mark.skipif(
    "MEDIQUO_TEST_DIST" not in os.environ, reason="`make versions` builds it and runs this"
)


@pytest.fixture
def dist() -> Path:
    """A folder with the sdist, the wheel, and in `from_sdist` the wheel that was built from it."""
    return Path(os.environ["MEDIQUO_TEST_DIST"])


def files_of(folder: Path) -> dict[str, bytes]:
    """What is in the wheel in a folder."""
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


def test_what_the_tests_import_is_installed_from_the_wheel():
    site_packages = Path(airflow_provider_mediquo.__file__).parents[1]
    assert site_packages.is_relative_to(sys.prefix)
    assert [path for path in sys.path if Path(path, PACKAGE).exists()] == [str(site_packages)]
    assert not (PROJECT / PACKAGE).exists()
    assert '"archive_info"' in (
        distribution("airflow-provider-mediquo").read_text("direct_url.json") or ""
    )


def test_it_has_the_package_and_nothing_else(dist):
    names = set(files_of(dist))
    described = {f"{INFO}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")}
    licence = f"{INFO}/licenses/LICENSE"
    assert {name.split("/")[0] for name in names} == {PACKAGE, INFO}
    assert described | {licence, f"{PACKAGE}/py.typed"} <= names
    others = {
        n for n in names if n.startswith(f"{PACKAGE}/") and not n.endswith((".py", "py.typed"))
    }
    scripts = (
        "api",
        "charts",
        "dom",
        "ledger",
        "links",
        "overview",
        "page",
        "run",
        "task",
        "words",
    )
    page = {"index.html", "page.css", "icon.svg", *(f"{name}.js" for name in scripts)}
    assert others == {
        *(f"{PACKAGE}/plugins/static/{name}" for name in page),
        *(f"{PACKAGE}/sandbox/web/assets/{name}" for name in ("sandbox.css", "sandbox.js")),
    }
    assert files_of(dist)[licence] == (PROJECT / "LICENSE").read_bytes()


def test_every_file_of_it_is_installed(dist):
    installed = Path(airflow_provider_mediquo.__file__).parents[1]
    for name, content in files_of(dist).items():
        if name.startswith(f"{PACKAGE}/"):
            assert (installed / name).read_bytes() == content, name


def test_it_runs_on_any_platform(dist):
    assert b"\nRoot-Is-Purelib: true\n" in files_of(dist)[f"{INFO}/WHEEL"]
    assert b"\nTag: py3-none-any\n" in files_of(dist)[f"{INFO}/WHEEL"]


def test_what_it_says_of_itself(dist):
    project = PYPROJECT["project"]
    metadata = message_from_bytes(files_of(dist)[f"{INFO}/METADATA"])
    assert metadata["Name"] == "airflow-provider-mediquo"
    assert metadata["Version"] == VERSION
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata["Requires-Python"].split(",")) == {">=3.11", "<3.14"}
    assert metadata["Provides-Extra"] == "parquet"
    assert metadata["Description-Content-Type"] == "text/markdown"
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert metadata.get_payload(decode=True).decode().strip() == readme.strip()
    required = [item for item in metadata.get_all("Requires-Dist") if "extra ==" not in item]
    assert set(map(Requirement, required)) == set(map(Requirement, project["dependencies"]))


def test_its_entry_points_are_those_that_airflow_reads(dist):
    told = ConfigParser()
    told.read_string(files_of(dist)[f"{INFO}/entry_points.txt"].decode())
    assert {name: dict(told[name]) for name in told.sections()} == {
        "airflow.plugins": {"mediquo": f"{PACKAGE}.plugins.mediquo_page:MediquoPagePlugin"},
        "apache_airflow_provider": {
            "provider_info": f"{PACKAGE}.get_provider_info:get_provider_info"
        },
    }


def test_the_sdist_builds_the_same_wheel(dist):
    assert files_of(dist / "from_sdist") == files_of(dist)


def test_the_sdist_has_the_tests_and_the_examples_too(dist):
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    wanted = {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "tests/conftest.py"}
    assert wanted | {"example_dags/mediquo_nightly.py"} <= names
    assert not [name for name in names if name.startswith(("benchmarks", ".ci", ".venv"))]
