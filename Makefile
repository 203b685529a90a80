# Every target sets itself up: all that has to be there is make and Python 3.11 to 3.13.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The newest Airflow that is supported; `make matrix` goes through all.
AIRFLOW := apache-airflow==3.3.*

MATRIX := .venv-matrix
# dlt apart from Airflow: where the two meet, dlt asks Airflow's variables for each of its settings.
BENCH := .venv-bench
BENCH_DLT := .venv-bench-dlt
DOCS := .venv-docs
BENCHMARKS := bench-check bench-memory bench-peers bench-limit bench-workers

.PHONY: help demo playground test test-system screenshots services lint versions matrix bench $(BENCHMARKS) docs clean
help:
	@echo "make demo      the nightly example in a real Airflow, against a mediQuo on this machine"
	@echo "make playground  Airflow's UI, the example DAGs and a mediQuo on this machine, until Ctrl-C"
	@echo "make test      all tests that can run here"
	@echo "make test-system  whole Airflows: its UI in a browser, Celery, parts that are killed (apt, as root)"
	@echo "make services  what the rest of them needs: PostgreSQL, MariaDB (with apt, as root)"
	@echo "make lint      ruff, ruff format and mypy"
	@echo "make versions  the oldest and the newest Airflow, Python and marshmallow together"
	@echo "make matrix    all combinations, for some hours; or ARGS='3.1/3.11/3', --quick, --help"
	@echo "make bench     all benchmarks, an hour and a half on a machine that does nothing else; one by one:"
	@echo "               $(BENCHMARKS) [ARGS=--help]"
	@echo "make docs      these pages as a site: docs/_build/html/index.html"
	@echo "make clean     remove what the others made"

demo: $(VENV)/installed
	@$(BIN)/python -m scripts.demo

playground: $(VENV)/installed-playground
	@$(BIN)/python -m scripts.playground

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist loadscope --ignore=tests/system

test-system: $(VENV)/installed-system
	MEDIQUO_TEST_REQUIRE_SERVICES=1 $(BIN)/python -m pytest tests/system $(ARGS)

# The pictures in the docs.
screenshots: $(VENV)/installed-system
	SCREENSHOTS=docs/images $(BIN)/python -m pytest tests/system/test_connections_page.py

services: $(VENV)/installed-test
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/services.sh "postgresql mariadb" $(PYTHON) $(VENV) "$(AIRFLOW)" -e . --group test --group mysql

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

versions: $(MATRIX)/uv/installed
	@$(MATRIX)/uv/bin/python scripts/matrix.py --corners --quick $(ARGS)

matrix: $(MATRIX)/uv/installed
	@$(MATRIX)/uv/bin/python scripts/matrix.py $(ARGS)

bench: $(BENCHMARKS)

$(BENCHMARKS): bench-%: $(BENCH)/installed $(BENCH_DLT)/installed
	@$(BENCH)/bin/python benchmarks/$*.py $(ARGS)

# -E: all anew, so that a warning stays one until it is mended.
docs: $(DOCS)/installed
	@$(DOCS)/bin/python -m sphinx -W --keep-going -n -E -q docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:
	rm -rf docs/_build .venv .venv-* .demo .playground dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/installed: pyproject.toml
	@sh scripts/install.sh $(PYTHON) $(VENV) "$(AIRFLOW)" -e .
	@touch $@

# With uv, wherever it comes from: pip takes longer than ten minutes over the AWS packages.
$(VENV)/installed-test: pyproject.toml
	@sh scripts/install.sh $(PYTHON) $(VENV) uv
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/install.sh $(PYTHON) $(VENV) "$(AIRFLOW)" -e . --group test --group lint
	@touch $@ $(VENV)/installed

$(VENV)/installed-playground: $(VENV)/installed
	@sh scripts/install.sh $(PYTHON) $(VENV) "$(AIRFLOW)" -e . --group playground
	@touch $@

$(VENV)/installed-system: $(VENV)/installed-test
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/services.sh "chromium postgresql redis" $(PYTHON) $(VENV) "$(AIRFLOW)" -e . --group test --group system
	@touch $@

$(MATRIX)/uv/installed:
	@sh scripts/install.sh $(PYTHON) $(@D) uv
	@touch $@

$(BENCH)/installed: pyproject.toml
	@sh scripts/install.sh $(PYTHON) $(BENCH) "$(AIRFLOW)" -e . --group bench
	@touch $@

$(BENCH_DLT)/installed: pyproject.toml
	@sh scripts/install.sh $(PYTHON) $(BENCH_DLT) --group bench-dlt
	@touch $@

$(DOCS)/installed: pyproject.toml
	@sh scripts/install.sh $(PYTHON) $(DOCS) --group docs
	@touch $@
