# `make demo` and `make test` need Python 3.10 or newer and make: they make their own environment.
PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
BIN = $(VENV)/bin

# Weights for the figures of docs/gallery.md; the default is the package's.
GALLERY_WEIGHTS ?= shipped
ANALYSE = $(BIN)/python -m dsiam_net.analyse

.PHONY: demo gallery test slow lint clean

# One BLAS thread a test worker, as many workers as cores: faster than the reverse.
test: $(VENV)/installed
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto -m "not slow" --simulate-gpu $(PYTEST_ARGS)

slow: $(VENV)/installed
	$(BIN)/python -m pytest -q -m slow $(PYTEST_ARGS)

demo: $(VENV)/installed
	$(BIN)/python -m dsiam_net.demo --out demo_output

# Made anew: the ablation would otherwise take up results of an earlier run.
gallery: $(VENV)/installed
	rm -rf gallery_output
	$(BIN)/python -m dsiam_net.build_unrolled --draw docs/images/unrolled.png
	$(ANALYSE) transformations --synthetic 3 --weights $(GALLERY_WEIGHTS) --dpi 80 --out gallery_output/transformations
	$(ANALYSE) responses --synthetic 3 --frames 4 --weights $(GALLERY_WEIGHTS) --dpi 90 --out gallery_output/responses
	$(ANALYSE) ablation --synthetic 4 --length 20 --weights $(GALLERY_WEIGHTS) --out gallery_output/ablation
	$(ANALYSE) challenge --synthetic 0 --weights $(GALLERY_WEIGHTS) --trackers dsiamm,siamfc,opencv-mil --show 15,37,60 --dpi 90 --out gallery_output/challenge
	cp gallery_output/*/*.png docs/images/

lint: $(VENV)/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

$(VENV)/installed: setup.py pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10) and 'Python 3.10 or newer is needed')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,fast]"
	touch $@

clean:
	rm -rf $(VENV) demo_output gallery_output build *.egg-info
