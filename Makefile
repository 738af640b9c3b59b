# `make demo`: from photographs and tags to a served model, on the embedded data set. `make test`: the tests.
# `make reproduce`: every table and figure of the paper on that data set, up to two hours. `make benchmark`: what costs what.
# All make a virtual environment first and install what requirements.txt pins.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test reproduce benchmark lint setup clean

demo: setup
	$(BIN)/python -m tools.run_pipeline --dataset=shapes --preset=tiny --output_dir=runs/demo

test: setup lint
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

REPRODUCE := $(BIN)/python -m tools.reproduce --dataset=shapes --preset=tiny --output_dir=runs/reproduce --map_images=100

reproduce: setup
	$(REPRODUCE) --table=4,5,6,7 --figure=1,3,5 --study=rescale,convergence --seeds=3
	$(REPRODUCE) --table=1,3 --figure=4,6 --study=uncertainty --seeds=2
	$(REPRODUCE) --table=2 --systems=deterministic,ficklenet --seeds=2

benchmark: setup
	$(BIN)/python -m tools.benchmark all

lint: setup
	$(BIN)/ruff check .

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.txt requirements-test.txt requirements-nodeps.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)))' || \
		{ echo "error: Python 3.11 to 3.13 is needed (TensorFlow 2.21), found $$($(PYTHON) --version); try make PYTHON=python3.11"; exit 1; }
	@command -v g++ > /dev/null || \
		{ echo "error: g++ is needed to build pydensecrf; Debian and Ubuntu: apt-get install g++ python3-dev, macOS: xcode-select --install"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2> /dev/null || \
		{ echo "error: Python's venv module is needed; Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned packages (some minutes: TensorFlow is large, pydensecrf is compiled)"
	$(BIN)/pip install --quiet -r requirements.txt -r requirements-test.txt -c constraints.txt
	$(BIN)/pip install --quiet --no-deps -r requirements-nodeps.txt
	touch $@

clean:
	rm -rf $(VENV) runs
