# Two commands do all the set-up themselves: `make train` (the main job) and `make test`.

# TensorFlow only feeds data here: what it says of its own start is not worth reading.
export TF_CPP_MIN_LOG_LEVEL ?= 2

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
CONFIG ?= configs/rendered_market.py
WORKDIR ?= runs/$(basename $(notdir $(CONFIG)))

.PHONY: train test
.DELETE_ON_ERROR:

# train.py renders the data set if it is not there, resumes a run that was stopped, and ends at once
# if the run is finished.
train: $(VENV)/installed
	$(VENV)/bin/python train.py --config $(CONFIG) --workdir $(WORKDIR)
	@test -e $(WORKDIR)/finished.json \
	    || { echo "Stopped before its end: make train goes on from there"; exit 1; }
	@test $(WORKDIR)/eval_test/metrics.json -nt $(WORKDIR)/finished.json \
	    || $(VENV)/bin/python eval.py --workdir $(WORKDIR)
	@echo "Finished: $(WORKDIR)/eval_test holds report.html, metrics.json and ranked_lists.png"

test: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright
	$(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

$(VENV)/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' \
	    || { echo "error: $(PYTHON) is older than Python 3.11: make PYTHON=path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@
