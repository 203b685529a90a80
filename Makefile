# Every target sets itself up: all that has to be there is make and Python 3.11 to 3.13.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The newest Airflow that is supported; `make versions` goes through the older ones.
AIRFLOW := apache-airflow==3.3.*

.PHONY: help demo test lint versions clean
help:
	@echo "make demo      the nightly example in a real Airflow, against a mediQuo on this machine"
	@echo "make test      all tests"
	@echo "make lint      ruff, ruff format and mypy"
	@echo "make versions  the provider on Airflow 3.1 and 3.2"
	@echo "make clean     remove what the others made"

demo: $(VENV)/installed
	@$(BIN)/python scripts/demo.py

test: $(VENV)/installed-test
	$(BIN)/python -m pytest

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

versions:
	@sh scripts/versions.sh $(PYTHON)

clean:
	rm -rf .venv .venv-* .demo dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/installed: pyproject.toml
	@sh scripts/install.sh $(PYTHON) $(VENV) "$(AIRFLOW)" -e .
	@touch $@

$(VENV)/installed-test: pyproject.toml
	@sh scripts/install.sh $(PYTHON) $(VENV) "$(AIRFLOW)" -e . --group test --group lint
	@touch $@ $(VENV)/installed
