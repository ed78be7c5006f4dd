# Everything sets itself up: a .venv with pinned versions, once.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PYTEST := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: run test test-slow lint serve docs clean

run: $(STAMP)
	@$(BIN)/python assets/collect_python_reference.py
	@$(BIN)/rootstock run runs/quickstart.yaml

# a file per core, each with a thread: more would wait for each other
test: $(STAMP) lint
	@$(PYTEST) -m "not slow"

# real kills, servers, schedules and whole runs
test-slow: $(STAMP)
	@$(PYTEST) -m slow

lint: $(STAMP)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

serve: $(STAMP)
	@$(BIN)/python assets/collect_python_reference.py
	@$(BIN)/rootstock serve

docs: $(STAMP)
	@$(BIN)/python -m docs.generate

clean:
	rm -rf .rootstock .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# torch first and alone: whatever else wants it would bring another build
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || command -v $(PYTHON) > /dev/null || { echo "$(PYTHON) is not there: install Python 3.11 or newer, or name one: make PYTHON=python3.11" >&2; exit 1; }
	@python=$(PYTHON); test ! -x $(BIN)/python || python=$(BIN)/python; \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $$python is $$($$python -V 2>&1): name one: make PYTHON=python3.11 (remove .venv if it is older)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { echo "$(PYTHON) comes without venv or ensurepip: install them (Debian, Ubuntu: apt install python3-venv), or name another: make PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing (once, a few minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,dask]"
	@touch $(STAMP)
