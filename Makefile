# Each target sets up its own environment: you only need make and Python 3.11 to 3.13.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What all that is installed is named in, one by one and with hashes: the newest Airflow that is
# supported, for one. `make matrix` goes through all, and takes the newest of what goes with them.
LOCK := pyproject.toml uv.lock

# dlt apart from Airflow: where the two meet, dlt asks Airflow's variables for each of its settings.
BENCH := .venv-bench
BENCH_DLT := .venv-bench-dlt
BENCH_DRT := .venv-bench-drt
DOCS := .venv-docs
AUDIT := .venv-audit
RELEASE := .venv-release
UV := .venv-uv/bin
BENCHMARKS := bench-check bench-memory bench-sync bench-peers bench-limit bench-workers bench-soak

# More processes than the two cores of a small machine: the tests wait more than they work. A file
# stays in one process, for what its tests share; conftest.py says which files begin.
PARALLEL := -n 4 --dist loadfile --no-loadscope-reorder

# Percent of the code and its branches that the tests have to run; .ci/run, with all servers, asks for
# more.
COVERED := 95

# Many container images set it: each process would compile again all that it imports of Airflow, which
# is half of its start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo playground test test-system screenshots services compiled lint lock audit versions matrix bench $(BENCHMARKS) docs dist clean uv
help:
	@echo "make demo      run the example mediquo_warehouse three times, as three nights, in a real Airflow"
	@echo "make playground  start Airflow's UI with the example DAGs and the sandbox, until Ctrl-C"
	@echo "make test      run all tests that can run here, and show how much of the code they run"
	@echo "make test-system  test whole Airflow deployments: the UI in a browser, Celery, kills (apt, as root)"
	@echo "make services  install PostgreSQL and MariaDB for the tests (apt, as root)"
	@echo "make lint      run ruff, ruff format, mypy and deptry"
	@echo "make versions  test with the oldest supported Airflow, Python and marshmallow"
	@echo "make matrix    test all combinations, for some hours; or ARGS='3.1/3.11/3', --quick, --help"
	@echo "make bench     run all benchmarks, on a machine that does nothing else; one by one:"
	@echo "               $(BENCHMARKS) [ARGS=--help]"
	@echo "make docs      build the docs: docs/_build/html/index.html"
	@echo "make dist      build the sdist and the wheel into dist/, and check them for PyPI"
	@echo "make lock      update all versions in uv.lock"
	@echo "make audit     ask PyPI about known vulnerabilities in uv.lock"
	@echo "make clean     remove what the other targets created"

demo: $(VENV)/installed-playground
	@$(BIN)/python -m scripts.demo

playground: $(VENV)/installed-playground
	@$(BIN)/python -m scripts.playground

test: $(VENV)/installed-test
	@$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PARALLEL) --ignore=tests/system $(ARGS)
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=$(COVERED)

test-system: $(VENV)/installed-system
	MEDIQUO_TEST_REQUIRE_SERVICES=1 $(BIN)/python -m pytest tests/system $(ARGS)

# The pictures in the docs.
screenshots: $(VENV)/installed-system
	SCREENSHOTS=docs/images $(BIN)/python -m pytest $(addprefix tests/system/test_,connections_page.py mediquo_page.py sandbox_page.py)

# Compile once what all test processes import. If it fails, `make test` says why.
compiled: $(VENV)/installed-test
	@$(BIN)/python -m pytest --collect-only -qq --ignore=tests/system > /dev/null || true

services: $(VENV)/installed-test
	@sh scripts/services.sh "postgresql mariadb" $(PYTHON) $(VENV) --group test --group mysql

lint: $(VENV)/installed-test
	$(UV)/uv lock --check --quiet
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/deptry airflow_provider_mediquo

versions: uv
	@$(UV)/python scripts/matrix.py --oldest --quick $(ARGS)

matrix: uv
	@$(UV)/python scripts/matrix.py $(ARGS)

lock: uv
	@$(UV)/uv lock --upgrade

# Strict: what could not be looked up is a failure, too.
audit: $(AUDIT)/installed
	@$(UV)/uv export --quiet --frozen --all-groups --all-extras --no-emit-project --output-file $(AUDIT)/locked.txt
	@$(AUDIT)/bin/pip-audit --strict --disable-pip --no-deps --progress-spinner off --requirement $(AUDIT)/locked.txt

bench: $(BENCHMARKS)

bench-sync: $(BENCH_DRT)/installed

$(BENCHMARKS): bench-%: $(BENCH)/installed $(BENCH_DLT)/installed
	@$(BENCH)/bin/python benchmarks/$*.py $(ARGS)

# -E: build everything again, so that a warning stays until it is fixed.
docs: $(DOCS)/installed
	@$(DOCS)/bin/python -m sphinx -W --keep-going -n -E -q docs docs/_build/html
	@echo "docs/_build/html/index.html"

# The release workflow publishes what this builds.
dist: $(RELEASE)/installed
	rm -rf dist
	$(UV)/uv build --quiet
	$(RELEASE)/bin/twine check --strict dist/*

clean:
	rm -rf .coverage* docs/_build .venv .venv-* .demo .playground dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/installed: $(LOCK)
	@sh scripts/install.sh $(PYTHON) $(VENV)
	@touch $@

$(VENV)/installed-test: $(LOCK)
	@sh scripts/install.sh $(PYTHON) $(VENV) --group test --group lint
	@touch $@ $(VENV)/installed

$(VENV)/installed-playground: $(VENV)/installed
	@sh scripts/install.sh $(PYTHON) $(VENV) --group playground
	@touch $@

$(VENV)/installed-system: $(VENV)/installed-test
	@sh scripts/services.sh "chromium postgresql redis" $(PYTHON) $(VENV) --group test --group system
	@touch $@

$(BENCH)/installed: $(LOCK)
	@sh scripts/install.sh $(PYTHON) $(BENCH) --group bench
	@touch $@

$(BENCH_DLT)/installed: $(LOCK)
	@sh scripts/install.sh $(PYTHON) $(BENCH_DLT) --only-group bench-dlt
	@touch $@

$(BENCH_DRT)/installed: $(LOCK)
	@sh scripts/install.sh $(PYTHON) $(BENCH_DRT) --only-group bench-drt
	@touch $@

$(DOCS)/installed: $(LOCK)
	@sh scripts/install.sh $(PYTHON) $(DOCS) --only-group docs
	@touch $@

$(AUDIT)/installed: $(LOCK)
	@sh scripts/install.sh $(PYTHON) $(AUDIT) --only-group audit
	@touch $@

$(RELEASE)/installed: $(LOCK)
	@sh scripts/install.sh $(PYTHON) $(RELEASE) --only-group release
	@touch $@

uv:
	@sh scripts/install.sh $(PYTHON)
