# SPDX-License-Identifier: Apache-2.0

bin := .venv/bin
ready := .venv/.ready
sources := numad_py tests scripts $(wildcard bench)

compile := $(bin)/uv pip compile pyproject.toml --upgrade --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-annotate --system-certs --quiet --custom-compile-command 'make lock'

.DEFAULT_GOAL := help
.PHONY: help run fmt check test vm soak fuzz validate evaluate install deb lock clean

help: ## print this list
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 14

run: $(ready) ## repair a demo job here, or replay a shipped trace where there is one node only
	$(bin)/numad-py demo

fmt: $(ready) ## format the code
	$(bin)/ruff check --fix-only --quiet $(sources)
	$(bin)/ruff format $(sources)

check: $(ready) ## lint, types, laws of import, spelling, profiles: seconds
	$(bin)/ruff check $(sources)
	$(bin)/ruff format --check $(sources)
	$(bin)/mypy
	$(bin)/lint-imports
	$(bin)/codespell
	$(bin)/python -m pytest --quiet tests/laws/test_shipped_profiles.py

test: $(ready) ## unit, contract, golden and law tests, with the coverage gate: nine minutes, or twenty on a slow host
	$(bin)/coverage run -m pytest --quiet
	$(bin)/coverage report --include='numad_py/*' --omit= --fail-under=0 --format=total | sed 's/.*/covered of all: & %/'
	$(bin)/coverage report

vm: $(ready) ## the tests that need several nodes, on a real kernel in every guest, or in GUESTS="four-nodes systemd"
	$(bin)/python -m tests.vm.guest $(addprefix --guest=,$(GUESTS))

soak: $(ready) ## the daemon in a guest where everything changes and breaks, for MINUTES=10; 120 before a release
	$(bin)/python -m tests.vm.guest --limit 9000 --bench bench/soak.py --minutes $(or $(MINUTES),10)

fuzz: $(ready) ## nearly right bytes at all that reads others' bytes, for SECONDS=60; what it dies of is kept
	$(bin)/python -m tests.fuzz --seconds $(or $(SECONDS),60)

validate: $(ready) ## the simulator beside what others published, and beside what guests counted
	$(bin)/python bench/validate.py
	$(bin)/python bench/foretell.py

evaluate: $(ready) ## policies beside an oracle on held scenarios, drawn anew, and traces, into docs/evaluations.md: four minutes
	$(bin)/python bench/evaluate.py

install: $(ready) ## install with its unit into PREFIX (/usr/local), laid out under DESTDIR; it needs nothing of .venv then
	scripts/install

deb: $(ready) ## the same as a package for dpkg, in dist/
	scripts/deb
	$(bin)/python -m pytest --quiet tests/package

lock: $(ready) ## choose new versions, for development and for the package, and write them with their hashes
	$(compile) --group dev --output-file requirements/dev.txt
	$(compile) --extra gpu --extra metrics --extra systemd --constraint requirements/dev.txt --output-file requirements/run.txt

clean: ## remove the environment and everything that was built
	rm -rf .venv .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -prune -exec rm -rf {} +

# The stamp is written last, so an environment that was interrupted is built again.
$(ready): requirements/dev.txt pyproject.toml scripts/set-up
	scripts/set-up
	@touch $@
