# `make demo` and `make test` are all the set-up there is: they install into .venv by themselves.
PROTOCOL ?= smoke
SEEDS    ?=
LAUNCHER ?=
PYTHON   ?= python3
BIN      := .venv/bin
TABLES   := table1 table2 table3 table4 table5 table6
FIGURES  := 4 5 table2 table3 curves compare

.DEFAULT_GOAL := help
.PHONY: help install demo test lint figures bench gpu-check clean $(TABLES)

help: ## this list
	@grep -hE '^[-a-z0-9 $$()A-Z]+:.*## ' $(MAKEFILE_LIST) | sed -e 's/$$(TABLES)/table1 .. table6/' | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'
	@echo "  Variables: PROTOCOL=smoke|short|paper  SEEDS=0,1,2  LAUNCHER=..."

# The stamp is newer than what it was made from, or the install is repeated.
$(BIN)/.installed: setup.cfg constraints.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (a few minutes the first time)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[test,bm3d]'
	@touch $@

install: $(BIN)/.installed

demo: $(BIN)/.installed ## train and ablate on photographs at hand: a table and a picture, in minutes
	@$(BIN)/nsr table 1 protocol=smoke run=true
	@$(BIN)/nsr figure compare protocol=smoke

test: $(BIN)/.installed ## every check: ruff and pytest (NSR_DATA=... for those on real benchmarks)
	@$(BIN)/ruff check nsr_cli conf experiments tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=2 --dist=worksteal

lint: $(BIN)/.installed ## ruff alone
	@$(BIN)/ruff check nsr_cli conf experiments tests

$(TABLES): $(BIN)/.installed ## a table of the paper; runs what is missing first
	@$(BIN)/nsr table $(@:table%=%) protocol=$(PROTOCOL) $(if $(SEEDS),seeds=[$(SEEDS)]) run=true $(if $(LAUNCHER),hydra/launcher=$(LAUNCHER))

figures: $(BIN)/.installed ## every figure as PNG and PDF; runs what is missing first
	@failed=0; for name in $(FIGURES); do \
	  $(BIN)/nsr figure $$name protocol=$(PROTOCOL) $(if $(SEEDS),seeds=[$(SEEDS)]) run=true $(if $(LAUNCHER),hydra/launcher=$(LAUNCHER)) || failed=1; \
	done; exit $$failed

bench: $(BIN)/.installed ## speed: against reference implementations, and the rebuttal's timing table
	@$(BIN)/python tests/bench_ops.py
	@$(BIN)/nsr bench

# With the machine's own torch, from a plain copy of the repository; see tests/gpu/requirements.txt.
gpu-check: PYTHON := $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
gpu-check: ## a GPU: does all work on it, and how fast; without one: what a CPU can check
	@$(PYTHON) -m pip install -q --disable-pip-version-check -r tests/gpu/requirements.txt
	@PYTHONPATH=$(CURDIR):$$PYTHONPATH $(PYTHON) tests/gpu/check.py

clean: ## remove .venv and build files; results stay
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache
