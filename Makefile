# `make demo` and `make test` need Python 3.10 or newer and make: they make their own environment.
PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
BIN = $(VENV)/bin

.PHONY: demo test slow lint clean

# One BLAS thread a test worker, as many workers as cores: faster than the reverse.
test: $(VENV)/installed
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto -m "not slow" $(PYTEST_ARGS)

slow: $(VENV)/installed
	$(BIN)/python -m pytest -q -m slow $(PYTEST_ARGS)

demo: $(VENV)/installed
	$(BIN)/python -m dsiam_net.demo --out demo_output

lint: $(VENV)/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

$(VENV)/installed: setup.py pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10) and 'Python 3.10 or newer is needed')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) demo_output build *.egg-info
