# `make demo` and `make test` set up what they need, in $(VENV), and need Python 3.11 or later and git.
# Another Python: `make test PYTHON=python3.13`.

# The chapters on training need PyTorch; a CPU build will do: see CONTRIBUTING.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
NOTEBOOKS ?= nbs
BIN = $(abspath $(VENV))/bin
READY = $(VENV)/.ready
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest
# One more than there are processors: tests of kernels, browsers and servers wait a lot.
WORKERS = $(shell $(PYTHON) -c 'import os; print(os.cpu_count() + 1)')

# What is imported is compiled, once, and nothing else is: see `--no-compile`.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test slow lint bench docs clean

demo: $(READY)  ## a first project, from nothing to a proven wheel
	@PATH="$(BIN):$$PATH" sh tests/demo.sh

test: lint  ## everything that CI asks for
	$(BIN)/litml export --check
	$(BIN)/litml clean --check
	$(PYTEST) -n $(WORKERS) || { test $$? -eq 1 && echo "what failed, once more and alone:" && $(PYTEST) --lf --lfnf none -x; }

slow: $(READY)  ## the tests that take minutes
	$(BIN)/python -m pytest -n auto -m slow

lint: $(READY)  ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(READY)  ## litml beside other tools; prints ratios; better with a folder of NOTEBOOKS
	@for script in tests/bench/*/bench_*.py; do \
		case "$$script" in */clean/*|*/git/*) folder="$(NOTEBOOKS)";; *) folder=;; esac; \
		$(BIN)/python "$$script" $$folder || exit 1; \
	done

docs: $(READY)  ## the documentation, in _site
	$(BIN)/litml docs

clean:  ## remove the environment and every cache
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis dist

# The one place that sets up. Made again when the dependencies change.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "litml needs Python 3.11 or later: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "setting up $(VENV) (once; a minute or two)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check '$(TORCH)'
	@$(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check --editable '.[dev,gallery,train]'
	@touch $@
