# make train   set up, train a recipe, replay it, say where the report is
# make test    set up, run the tests
# make studies set up, train for every claim with several seeds: up to three hours; see docs/results.md
PYTHON ?= python3
RECIPE ?= digits-cnn
ARGS ?=
TORCH_INDEX ?=

BIN := .venv/bin
READY := .venv/.ready

# A study is a script that runs one.
STUDIES = $(filter-out studies/study.py,$(shell grep -l run_study studies/*.py))

.PHONY: setup train check format test test-long studies clean

setup: $(READY)

# One environment from pyproject.toml and the exact versions in constraints.txt, made once.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v >= (3, 11) or sys.exit("glassrun needs Python 3.11 or newer, and %s is %d.%d: make setup PYTHON=python3.12" % (sys.executable, *v))'
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "$(PYTHON) has no venv module; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--no-deps --index-url $(TORCH_INDEX)) -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,lightning,hub,onnx,notebook,dev]'
	@touch $@

train: $(READY)
	@scripts/train "$(RECIPE)" $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_links.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not long"

test-long: $(READY)
	$(BIN)/python -m pytest -m long

studies: $(READY)
	for study in $(STUDIES); do $(BIN)/python $$study $(ARGS) || exit 1; done
	$(BIN)/python studies/results.py

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
