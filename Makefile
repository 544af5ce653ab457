# Two commands on a bare machine with make and Python 3.11 or newer: `make demo` and `make test`.
# `make test` takes 11 to 17 minutes on two cores, `make test-all` 45 to 75: CONTRIBUTING.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Three processes on two cores: some tests wait for one of their own. A file's tests in one process:
# its fixtures are made once. The order is ours.
PARALLEL := --numprocesses 3 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-all mutations benchmark benchmark-heads benchmark-train export-zoo paper \
  test-torch test-runtimes test-arm test-web test-mediapipe test-npu benchmark-npu runtimes lint \
  format readme docs notebooks lock clean

demo: $(VENV)/.installed
	$(BIN)/keras-parc train digit_scenes/small --out report

# All that guards correctness.
test: $(VENV)/.installed lint
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not arm and not web and not mediapipe and not npu"

# That, and the notebooks, the guides, the demonstrations, every model at every size, and JAX.
test-all: $(VENV)/.installed lint
	$(BIN)/python -m pytest $(PARALLEL) -m "not arm and not web and not mediapipe and not npu"
	KERAS_BACKEND=jax $(BIN)/python -m pytest $(PARALLEL) -m any_backend

# Whether the tests notice the deliberate mistakes of tests/mistakes/.
mutations: $(VENV)/.installed
	$(BIN)/python tests/mutations.py

# PyTorch is large and no dependency; this installs it into the same environment.
test-torch: $(VENV)/.installed
	$(BIN)/pip install torch==2.13.0
	KERAS_BACKEND=torch $(BIN)/python -m pytest $(PARALLEL) -m any_backend

# .tflite files on every other runtime; a test says why it skips where one cannot be had.
# .ci/packages.txt has the Debian packages. The four parts: test-arm, test-web, test-mediapipe,
# test-npu.
test-runtimes: $(VENV)/.installed
	$(BIN)/python -m pytest -m "arm or web or mediapipe or npu"

# Emulated ARM and tflite-runtime 2.14; puts foreign packages into .arm/, as a plain user.
test-arm: $(VENV)/.installed
	$(BIN)/python -m pytest -m arm

# Half an hour: exports all models, times them against each other, counts instructions on emulated
# ARM (int8 operations outside XNNPACK round otherwise there, hence --rel). kimm is a rival, not a
# dependency; its int8 file crashes on ARMv7, so status 1, a file that is not ok, is a result too.
# Leave the machine alone meanwhile. MACHINE=_avx2: one without instructions for int8 products.
benchmark: $(VENV)/.installed
	$(BIN)/pip install --quiet --no-deps --target build/kimm --upgrade kimm==0.2.5
	PYTHONPATH=build/kimm $(BIN)/python -m experiments.comparison build/benchmark
	cd build/benchmark && for threads in 1 2; do \
	  $(CURDIR)/$(BIN)/python $(CURDIR)/tflite/benchmark.py *.tflite --threads $$threads \
	    --csv $(CURDIR)/tflite/results/latency_$${threads}$(MACHINE).csv || exit; done
	$(BIN)/python -m experiments.comparison_convnets build/benchmark_convnets
	cd build/benchmark_convnets && $(CURDIR)/$(BIN)/python $(CURDIR)/tflite/benchmark.py *.tflite \
	  --csv $(CURDIR)/tflite/results/convnets$(MACHINE).csv
	tflite/emulation/setup.sh .arm armv7x arm64
	cd build/benchmark && $(CURDIR)/$(BIN)/python $(CURDIR)/tflite/emulation/compare.py \
	  *_portable_*.tflite *_plain_*.tflite kimm_*.tflite --targets armv7x --rel 0.05 \
	  --csv $(CURDIR)/tflite/results/armv7x.csv || [ $$? = 1 ]
	cd build/benchmark && $(CURDIR)/$(BIN)/python $(CURDIR)/tflite/emulation/compare.py \
	  *_256_rewritten_*.tflite *_plain_*.tflite kimm_*.tflite --targets arm64 --rel 0.05 \
	  --csv $(CURDIR)/tflite/results/arm64.csv || [ $$? = 1 ]
	$(BIN)/python docs/scripts/update_readme.py

# The same for detectors and segmenters, and their memory: a quarter of an hour. Detections of
# random weights nearly tie and swap places on ARM, hence --rel; tests/device/test_arm.py compares trained
# ones.
HEADS := build/benchmark_heads
benchmark-heads: $(VENV)/.installed
	$(BIN)/python -m experiments.comparison_heads $(HEADS)
	cd $(HEADS) && $(CURDIR)/$(BIN)/python $(CURDIR)/tflite/benchmark.py *_rewritten_*.tflite \
	  --csv $(CURDIR)/tflite/results/heads.csv
	$(BIN)/python tflite/memory.py $(HEADS)/*_rewritten_*.tflite \
	  --csv tflite/results/heads_memory.csv
	tflite/emulation/setup.sh .arm armv7x
	$(BIN)/python tflite/emulation/compare.py $(HEADS)/*_portable_*.tflite --targets armv7x \
	  --rel 1 --lsb 32 --csv tflite/results/heads_armv7x.csv
	$(BIN)/python docs/scripts/update_readme.py

# What Vela estimates for NPUs: half an hour, most of it the conversion. Another load does not change
# the figures. Plain files of models with attention have operations that an NPU leaves to the CPU, so
# status 1 is a result too.
NPU := build/benchmark_npu
benchmark-npu: $(VENV)/.installed
	tests/environments/npu.sh .npu
	$(BIN)/python -m experiments.npu_forms --vela .npu/venv/bin/vela \
	  --csv experiments/results/npu_forms.csv
	$(BIN)/python -m experiments.comparison_npu $(NPU)
	$(BIN)/python tflite/npu.py $(NPU)/*.tflite --vela .npu/venv/bin/vela \
	  --csv tflite/results/npu.csv || [ $$? = 1 ]
	$(BIN)/python docs/scripts/update_readme.py

# Training on TensorFlow, without and with XLA, on JAX and on PyTorch: some minutes each, most of
# them XLA's, which is why it gets smaller batches. Leave the machine alone meanwhile.
TRAINING := experiments/results
benchmark-train: $(VENV)/.installed
	$(BIN)/pip install --quiet --no-deps --target build/kimm --upgrade kimm==0.2.5
	$(BIN)/pip install --quiet torch==2.13.0
	rm -f $(TRAINING)/rates.csv $(TRAINING)/forms.csv
	export PYTHONPATH=build/kimm; \
	for run in "tensorflow 8" "tensorflow 2 --jit" "jax 2" "torch 8"; do set -- $$run; \
	  KERAS_BACKEND=$$1 $(BIN)/python -m experiments.training_rates --batch $$2 $$3 \
	    --csv $(TRAINING)/rates.csv || exit; \
	  KERAS_BACKEND=$$1 $(BIN)/python -m experiments.convolution_forms --batch $$2 $$3 \
	    --csv $(TRAINING)/forms.csv || exit; done
	$(BIN)/python docs/scripts/update_readme.py

# Other people's models, exported in three ways: hours, a process for each, and what is there is kept
# (ARGS=--again renews it, ARGS="--only kimm" is a part). kimm and KerasHub are no dependencies: they
# lie in a folder of their own, without theirs, of which KerasHub's imports need two.
# Leave the machine alone meanwhile.
ZOO := build/zoo
export-zoo: $(VENV)/.installed
	$(BIN)/pip install --quiet --no-deps --target $(ZOO) --upgrade kimm==0.2.5 keras-hub==0.32.0 \
	  sentencepiece==0.2.3 tokenizers==0.23.3
	PYTHONPATH=$(ZOO) $(BIN)/python -m experiments.export_zoo $(ARGS)
	$(BIN)/python docs/scripts/update_readme.py

# The paper's tables and figures: trains what experiments/results/ does not have yet, in runs of
# minutes, and adds it there. Stopped, it goes on.
PAPER := experiments/results
paper: $(VENV)/.installed
	mkdir -p build/paper $(PAPER)
	cp $(PAPER)/costs.csv $(PAPER)/ablation.csv build/paper/
	$(BIN)/python -m experiments.paper --out build/paper
	cp build/paper/costs.csv build/paper/ablation.csv $(PAPER)/

readme: $(VENV)/.installed
	$(BIN)/python docs/scripts/update_readme.py

# Every notebook from top to bottom, in place: minutes.
notebooks: $(VENV)/.installed
	$(BIN)/python docs/scripts/run_notebooks.py

# The documentation site, in build/site/; a broken link is an error. `mkdocs serve` shows it live.
docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# The browser's runtime in headless Chromium.
test-web: $(VENV)/.installed
	$(BIN)/python -m pytest -m web

# MediaPipe gets an environment of its own, .mediapipe/.
test-mediapipe: $(VENV)/.installed
	$(BIN)/python -m pytest -m mediapipe

# Vela, the compiler for Ethos-U NPUs, and TFLite Micro get an environment of their own, .npu/.
test-npu: $(VENV)/.installed
	$(BIN)/python -m pytest -m npu

# Partitions and agreement of every model's files on every runtime.
runtimes: $(VENV)/.installed
	$(BIN)/python -m pytest -m "" tests/device/test_runtimes.py \
	  --runtimes-csv tflite/results/runtimes.csv
	$(BIN)/python docs/scripts/update_readme.py

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "keras_parc needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1)." \
	    "Try make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# The set of versions that was tested together; write it anew after changing pyproject.toml.
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet '.[dev]'
	{ echo "# Versions tested together; written by make lock."; \
	  build/lock/bin/pip freeze --exclude keras_parc; } > constraints.txt.new
	mv constraints.txt.new constraints.txt

clean:
	rm -rf $(VENV) .arm .mediapipe .npu build report *.egg-info .pytest_cache .ruff_cache
