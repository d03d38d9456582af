# Entobot. `make` prints this menu.
SHELL := /bin/sh
.DEFAULT_GOAL := menu
BIN := .venv/bin
STAMPS := .venv/.stamps
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

.PHONY: menu setup setup-test run test chaos check bench docs pictures site lock clean

menu: ## this menu
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: setup ## start the gateway and pair a phone
	@$(BIN)/entobot up --pair

# Tests wait for servers, browsers and deadlines: six workers keep two cores busy. One that hangs fails, and says where it stood.
test: setup-test ## run the tests (sets everything up first)
	@$(BIN)/pytest -n 6 --dist worksteal -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true

chaos: setup-test ## kill, cut, partition and fill for long; SEED=n repeats a run
	@$(BIN)/pytest -m chaos --durations=0 $(if $(SEED),--chaos-seed $(SEED))

check: setup-test ## lint, types, import arrows, budgets, documentation
	@echo "· ruff"; $(BIN)/ruff check --quiet . && $(BIN)/ruff format --check --quiet .
	@echo "· pyright"; $(BIN)/pyright
	@echo "· import-linter"; $(BIN)/lint-imports
	@echo "· budgets and documentation"; $(BIN)/pytest tests/test_architecture.py tests/test_docs.py
	@echo "· pages"; $(BIN)/python web/build.py --check

bench: setup-test ## measure speed and size, print the table
	@$(BIN)/python -m benchmarks

docs: setup-test ## regenerate docs/reference and the dashboards from the code
	@$(BIN)/python -m tools.reference && $(BIN)/python tools/dashboards.py

pictures: setup-test ## take the pictures of the documentation anew
	@TAKE_PICTURES=1 $(BIN)/pytest tests/browser/test_pictures.py

site: setup-test ## build the documentation into reports/site
	@$(BIN)/python tools/site.py

setup: $(STAMPS)/run $(STAMPS)/pages ## what run needs, into .venv
setup-test: $(STAMPS)/test $(STAMPS)/pages $(STAMPS)/browser $(STAMPS)/rigs

lock: $(STAMPS)/uv ## renew the lock files
	@$(BIN)/python tools/lock.py

clean: ## remove what setup and tests made
	rm -rf .venv reports tests/artifacts src/entobot/web/pages web/node_modules

$(STAMPS)/uv: requirements-uv.lock
	@test -n "$(PYTHON)" || { echo "Entobot needs Python 3.11 or newer; none was found."; exit 1; }
	@echo "· virtual environment in .venv ($$($(PYTHON) --version))"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/run: requirements.lock pyproject.toml $(STAMPS)/uv
	@echo "· packages"
	@sh tools/install.sh requirements.lock
	@touch $@

$(STAMPS)/test: requirements.lock requirements-dev.lock pyproject.toml $(STAMPS)/uv $(STAMPS)/run
	@echo "· packages for tests"
	@sh tools/install.sh requirements-dev.lock
	@touch $@

$(STAMPS)/pages: $(STAMPS)/run FORCE
	@$(BIN)/python web/build.py

$(STAMPS)/browser: $(STAMPS)/test
	@sh tools/browser.sh
	@touch $@

$(STAMPS)/rigs: tools/rigs.sh
	@mkdir -p $(STAMPS) && sh tools/rigs.sh
	@touch $@

.PHONY: FORCE
FORCE:
