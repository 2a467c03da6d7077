# All programs run from .venv. The first target that needs it creates it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTHONS ?= 3.11 3.12 3.13 3.14
WORKERS ?= 4

.PHONY: start test test-long test-fallback test-pythons check format docs bench clean

start: $(VENV)/.installed
	@exec $(BIN)/wsd start --workers $(WORKERS)

# The processes that tests start compile nothing again, even where PYTHONDONTWRITEBYTECODE is set.
test: $(VENV)/.installed-dev
	$(BIN)/python -m compileall -q public supervisor worker templates clients/python clients/publisher
	$(BIN)/pytest -q -n 4 --dist worksteal tests

# The longest runs, and nothing else. Many of them need both cores, so that more at a time take no less time.
test-long: $(VENV)/.installed-dev
	WSD_LONG_TESTS=1 $(BIN)/pytest -q -n 2 --dist worksteal -m long_run tests

# Tests with uvicorn's own WebSocket protocol instead of ours, as applications under other servers use it.
test-fallback: $(VENV)/.installed-dev
	WSD_TEST_PROTOCOL=uvicorn $(BIN)/pytest -q -n 4 --dist worksteal tests/worker tests/cluster/test_messages.py

# A part of the tests with every Python that wsd supports and that is here as python3.X.
test-pythons:
	@for python in $(PYTHONS); do \
		if python$$python --version >/dev/null 2>&1; then \
			$(MAKE) --no-print-directory test-python$$python || exit 1; \
		else \
			echo "Python $$python: not here"; \
		fi; \
	done

.PRECIOUS: $(VENV)/python%/.installed-dev
test-python%: $(VENV)/python%/.installed-dev
	@$(VENV)/python$*/bin/python --version
	$(VENV)/python$*/bin/pytest -q -n 2 --dist worksteal tests/unit tests/testing tests/cluster/test_start_and_stop.py

$(VENV)/python%/.installed-dev: pyproject.toml
	python$* -m venv $(VENV)/python$*
	$(VENV)/python$*/bin/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

check: $(VENV)/.installed-dev .types/wsd
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	MYPYPATH=.types $(BIN)/mypy -p wsd
	MYPYPATH=.types $(BIN)/mypy -p wsd.client -p wsd.publisher -p wsd.testing -p wsd.pytest_plugin \
		--platform win32 --cache-dir .mypy_cache/win32
	MYPYPATH=.types $(BIN)/mypy -p wsd --platform darwin --cache-dir .mypy_cache/darwin
	MYPYPATH=.types $(BIN)/mypy tests benchmarks deploy docs --exclude benchmarks/fanout/servers
	MYPYPATH=.types:examples:examples/django_shop:examples/chat_rooms $(BIN)/mypy examples

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site is in .site/, and .site/index.html opens from the disk. Its search needs a web
# server: python3 -m http.server -d .site. A warning, such as a link to nowhere, is an error.
docs: $(VENV)/.installed-docs .types/wsd
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --config-file docs/site/mkdocs.yml

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/cluster.py
	$(BIN)/python benchmarks/messages.py
	$(BIN)/python -m benchmarks.history
	$(BIN)/python -m benchmarks.outbox
	$(BIN)/python -m benchmarks.archive
	$(BIN)/python -m benchmarks.deploys
	$(BIN)/python -m benchmarks.clients
	$(BIN)/python -m benchmarks.fanout --plot docs/fanout.png

clean:
	rm -rf $(VENV) .site .types .mypy_cache .ruff_cache .pytest_cache *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "wsd needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev,docs]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $(VENV)/.installed $@

# Type checkers, and what reads docstrings for the site, cannot follow the import hook of the editable install. A folder
# of links shows them the package wsd.
.types/wsd: Makefile $(wildcard public/*)
	rm -rf $@ && mkdir -p $@
	ln -s $(addprefix ../../,$(wildcard public/*.py) public/py.typed public/testing supervisor worker templates) $@
	ln -s ../../clients/python $@/client
	ln -s ../../clients/publisher $@/publisher
