# Every target sets itself up: all that has to be there is make and Python 3.11 to 3.13.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The newest Airflow that is supported; `make versions` goes through the older ones.
AIRFLOW := apache-airflow==3.3.*

# dlt apart from Airflow: where the two meet, dlt asks Airflow's variables for each of its settings.
BENCH := .venv-bench
BENCH_DLT := .venv-bench-dlt
BENCHMARKS := bench-check bench-memory bench-peers bench-limit bench-workers

.PHONY: help demo test services lint versions bench $(BENCHMARKS) clean
help:
	@echo "make demo      the nightly example in a real Airflow, against a mediQuo on this machine"
	@echo "make test      all tests that can run here"
	@echo "make services  what the rest of them needs: PostgreSQL, MariaDB (with apt, as root)"
	@echo "make lint      ruff, ruff format and mypy"
	@echo "make versions  the provider on Airflow 3.1 and 3.2"
	@echo "make bench     all benchmarks, an hour and a half on a machine that does nothing else; one by one:"
	@echo "               $(BENCHMARKS) [ARGS=--help]"
	@echo "make clean     remove what the others made"

demo: $(VENV)/installed
	@$(BIN)/python scripts/demo.py

test: $(VENV)/installed-test
	$(BIN)/python -m pytest

services: $(VENV)/installed-test
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/services.sh $(PYTHON) $(VENV) "$(AIRFLOW)" -e . --group test --group mysql

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

versions:
	@sh scripts/versions.sh $(PYTHON)

bench: $(BENCHMARKS)

$(BENCHMARKS): bench-%: $(BENCH)/installed $(BENCH_DLT)/installed
	@$(BENCH)/bin/python benchmarks/$*.py $(ARGS)

clean:
	rm -rf .venv .venv-* .demo dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/installed: pyproject.toml
	@sh scripts/install.sh $(PYTHON) $(VENV) "$(AIRFLOW)" -e .
	@touch $@

# With uv, wherever it comes from: pip takes longer than ten minutes over the AWS packages.
$(VENV)/installed-test: pyproject.toml
	@sh scripts/install.sh $(PYTHON) $(VENV) uv
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/install.sh $(PYTHON) $(VENV) "$(AIRFLOW)" -e . --group test --group lint
	@touch $@ $(VENV)/installed

$(BENCH)/installed: pyproject.toml
	@sh scripts/install.sh $(PYTHON) $(BENCH) "$(AIRFLOW)" -e . --group bench
	@touch $@

$(BENCH_DLT)/installed: pyproject.toml
	@sh scripts/install.sh $(PYTHON) $(BENCH_DLT) --group bench-dlt
	@touch $@
