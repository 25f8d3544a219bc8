# make demo and make test are all a newcomer needs; each makes the environment first, once.

TASK ?= det
MODEL ?=

.PHONY: help env env-classic demo test test-classic matrix torture lint format docs docs-links docs-env clean

help:
	@echo "make demo          train, evaluate and picture a detector on generated data (TASK=det|ins|seg|cls, MODEL=name)"
	@echo "make test          the tests, on the default stack"
	@echo "make test-classic  the tests that touch a toolbox, on the classic stack"
	@echo "make env           the environment of the default stack, in .venv (env-classic: in .venv-classic); OPS=compiled compiles mmcv"
	@echo "make matrix        other versions of Python and torch tried, into docs/support.md"
	@echo "make torture       the long trials of docs/lab/reliability.md: kills, faults, mutated files"
	@echo "make lint          ruff, mypy, import-linter and bandit (make format: let ruff fix what it can)"
	@echo "make docs          the documentation as a site, in docs/_build/html (make docs-links: also try its links to the web)"
	@echo "make clean         remove build products and caches; environments and work_dirs stay"

env:
	@tools/make_env.sh onedl

env-classic:
	@tools/make_env.sh classic

demo: env
	.venv/bin/python tools/demo.py --task $(TASK) $(if $(MODEL),--model $(MODEL))

# A process for each core, four at most, as each takes up to 4 GB; and a thread for each process: more threads than cores
# would wait for each other.
JOBS ?= $(shell cores=$$(nproc); [ $$cores -lt 4 ] && echo $$cores || echo 4)
PYTEST = -m pytest -n $(JOBS) --dist loadfile

test: env
	OMP_NUM_THREADS=1 .venv/bin/python $(PYTEST) -m "not slow and not gpu"

test-classic: env-classic
	OMP_NUM_THREADS=1 .venv-classic/bin/python $(PYTEST) -m "toolbox and not slow and not gpu"

matrix: env
	.venv/bin/python tools/documents/support_matrix.py $(ROWS)

torture: env
	.venv/bin/python -m pytest -m "slow and not gpu"

lint: env
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache
	.venv/bin/bandit --quiet --configfile pyproject.toml --recursive emo_mm tools

format: env
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

# Warnings are errors, dead links within the site among them.
SPHINX = .venv/bin/python -m sphinx --fail-on-warning --keep-going --quiet -c docs -d docs/_build/doctrees

docs: docs-env
	$(SPHINX) -b html . docs/_build/html
	@echo "docs/_build/html/index.html"

docs-links: docs-env
	$(SPHINX) -b linkcheck . docs/_build/linkcheck

docs-env: env
	@.venv/bin/python -c "import sphinx, furo, myst_parser, sphinx_copybutton, linkify_it" 2>/dev/null || \
		.venv/bin/python -m pip install --quiet -r requirements/docs.txt

clean:
	rm -rf build dist docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find emo_mm configs tools tests -name __pycache__ -prune -exec rm -rf {} +
