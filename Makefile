# make demo: a whole delivery chain on this machine, in one command.

VENV := .venv
RUN := $(VENV)/bin

.PHONY: demo setup test check lock audit down help

help:  ## show this help
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile

demo: setup  ## set up, start the sandbox, push a clean and a vulnerable release, show both outcomes
	@$(RUN)/delivery-chain sandbox demo

down:  ## stop the sandbox, keeping its data in .sandbox
	@$(RUN)/delivery-chain sandbox down

setup:  ## install system packages, and create the environment in .venv from requirements.lock
	@sh scripts/setup.sh $(VENV)

check: setup  ## run the linter, the type checker and the unit tests
	@$(RUN)/ruff check .
	@$(RUN)/ruff format --check --quiet .
	@$(RUN)/mypy
	@$(RUN)/pytest -q tests/unit

test: setup  ## run all tests, including those with real registries, git, buildah, Trivy and Airflow
	@$(RUN)/python scripts/tests.py $(OPTIONS)

audit: setup  ## check the locked packages for known vulnerabilities (needs access to PyPI itself; OPTIONS=…)
	@$(RUN)/python scripts/audit.py $(OPTIONS)

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

lock:  ## regenerate requirements.lock and scripts/audit.lock (needs uv)
	@$(COMPILE) --extra dev pyproject.toml -o requirements.lock
	@echo pip-audit | $(COMPILE) - -o scripts/audit.lock
