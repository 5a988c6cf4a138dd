# SPDX-License-Identifier: Apache-2.0

bin := .venv/bin
ready := .venv/.ready
sources := numad_py tests $(wildcard bench)

.DEFAULT_GOAL := help
.PHONY: help run fmt check test vm validate evaluate lock clean

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

test: $(ready) ## unit, contract, golden and law tests, with the coverage gate: under a minute
	$(bin)/coverage run -m pytest --quiet
	$(bin)/coverage report --include='numad_py/*' --omit= --fail-under=0 --format=total | sed 's/.*/covered of all: & %/'
	$(bin)/coverage report

vm: $(ready) ## the tests that need several nodes, on a real kernel in a guest
	$(bin)/python -m tests.vm.guest

validate: $(ready) ## the simulator beside what others published, and beside what guests counted
	$(bin)/python bench/validate.py
	$(bin)/python bench/foretell.py

evaluate: $(ready) ## the shipped policies on held scenarios, drawn anew, into docs/evaluations.md
	$(bin)/python bench/evaluate.py

lock: $(ready) ## choose new versions for development and write them with their hashes
	$(bin)/uv pip compile pyproject.toml --group dev --upgrade --universal --python-version 3.11 \
		--fork-strategy fewest --generate-hashes --no-annotate --system-certs --quiet \
		--custom-compile-command 'make lock' --output-file requirements/dev.txt

clean: ## remove the environment and everything that was built
	rm -rf .venv .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -prune -exec rm -rf {} +

# The stamp is written last, so an environment that was interrupted is built again.
$(ready): requirements/dev.txt pyproject.toml scripts/set-up
	scripts/set-up
	@touch $@
