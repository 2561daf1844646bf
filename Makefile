# `make run` and `make test` are all a fresh machine needs.
PYTHON ?= python3
export PYTHON
BIN = $(CURDIR)/.venv/bin

.PHONY: run test lint bench soak lock clean env env-dev env-bench

run: env
	@exec $(BIN)/mooring up

test: env-dev
	@$(BIN)/python tests/run.py

lint: env-dev
	@$(BIN)/python tests/lint.py

bench: env-bench
	@$(BIN)/python bench/run.py

soak: env-dev
	@MOORING_SOAK=1 $(BIN)/python tests/run.py

env:
	@$(PYTHON) deploy/bootstrap.py run

env-dev:
	@$(PYTHON) deploy/bootstrap.py dev

env-bench:
	@$(PYTHON) deploy/bootstrap.py bench

lock: ## needs uv on the PATH
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --group build pyproject.toml -o deploy/run.txt --custom-compile-command "make lock"
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --group dev pyproject.toml -o deploy/dev.txt --custom-compile-command "make lock" -c deploy/run.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras --group bench pyproject.toml -o deploy/bench.txt --custom-compile-command "make lock" -c deploy/dev.txt

clean:
	rm -rf .venv var dist .mypy_cache .ruff_cache tests/node/node_modules
