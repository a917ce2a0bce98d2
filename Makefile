# `make demo`, `make test`, `make check` and `make bench` make .venv first; it is made again only when
# pyproject.toml or constraints.txt change.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
STAMP := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test check bench clean

demo: $(STAMP)
	$(VENV)/bin/imm demo

test: $(STAMP)
	$(VENV)/bin/python -m pytest -n 2 -q $(PYTEST_ARGS)

check: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy infinity_mm pipelines trainers

bench: $(STAMP)
	@for file in benchmarks/*.py; do \
		[ -e "$$file" ] || { echo "no benchmarks yet"; break; }; \
		echo "== $$file"; $(VENV)/bin/python "$$file" || exit 1; \
	done

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@[ -n "$(PYTHON)" ] || { echo "error: no python3 found: install Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: $(PYTHON) is older than Python 3.11: make PYTHON=/path/to/python3.11"; exit 1; }
	@[ -x $(VENV)/bin/python ] || $(PYTHON) -m venv $(VENV) || { \
		echo "error: no virtual environment could be made: install Python's venv module" \
			"(Debian: apt-get install python3-venv)"; rm -rf $(VENV); exit 1; }
	$(VENV)/bin/python -m pip install -q -c constraints.txt -e '.[dev,models]'
	@touch $@
