# Two commands do all the set-up themselves: `make train` (the main job) and `make test`.

# TensorFlow only feeds data here: what it says of its own start is not worth reading.
export TF_CPP_MIN_LOG_LEVEL ?= 2

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
CONFIG ?= configs/rendered_market.py
WORKDIR ?= runs/rendered_market

.PHONY: train test lint clean

train: $(WORKDIR)/eval_test/metrics.json
	@echo "Finished: $(WORKDIR)/eval_test holds metrics.json and ranked_lists.png"

$(WORKDIR)/eval_test/metrics.json: $(WORKDIR)/finished.json
	$(VENV)/bin/python eval.py --workdir $(WORKDIR)

# train.py renders the data set if it is not there, and resumes a run that was stopped.
$(WORKDIR)/finished.json: | $(VENV)/installed
	$(VENV)/bin/python train.py --config $(CONFIG) --workdir $(WORKDIR)

test: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright
	$(VENV)/bin/python -m pytest

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) data runs
