# The two commands that matter: `make start` and `make test`. Everything they need is set up first.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: help start stop restart status test test-long crash-test hostility-test hostility-long fuzz \
  bench bench-quick lint types check clean

help:
	@echo "make start      set up, start the daemon on port 9000 and say how to talk to it"
	@echo "make stop       stop it"
	@echo "make test       set up, run the whole test suite"
	@echo "make check      ruff, shellcheck, hadolint, mypy --strict, and the tests"
	@echo "make test-long  the tests that move gigabytes or take minutes"
	@echo "make crash-test kills, power cuts and faults, as root: a quarter of an hour at most"
	@echo "make hostility-test, hostility-long  attacks and crowds, shortened or for half an hour"
	@echo "make fuzz       search for bytes that the parser fails at, for SECONDS (60)"
	@echo "make bench      beside nginx, SeaweedFS, copyparty, aiohttp; writes docs/benchmarks.md: half an hour"
	@echo "make bench-quick  the main ratios beside nginx, in under two minutes"
	@echo "make clean      remove what the commands above have made, but no stored file"

# Compiled here, as pip does it for all else: the daemon may run where it may not write that, or be
# told not to, and would then take half as long again at each start.
start: $(READY)
	@$(RUN) -m compileall -q httpd main.py
	@$(RUN) main.py start $(ARGS)

stop restart status: $(READY)
	@$(RUN) main.py $@ $(ARGS)

test: $(READY)
	$(RUN) -m pytest -m "not (big or long or crash or hostility)" $(ARGS)

test-long: $(READY)
	$(RUN) -m pytest -m "(big or long) and not (crash or hostility)" $(ARGS)

# Skipped, it would prove nothing: so what it needs is installed, or else it fails.
crash-test: $(READY)
	@(for each in strace mkfs.ext4 mkfs.xfs losetup; do command -v $$each >/dev/null || exit 1; done) || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	  apt-get install -y -qq --no-install-recommends strace e2fsprogs xfsprogs mount; } || \
	  echo "the crash suite needs root, and strace, e2fsprogs, xfsprogs and mount" >&2
	$(RUN) -m pytest tests/crash --no-skips --cuts 75 $(ARGS)

# What it finds is in build/fuzz, and becomes a case in tests/requests. It begins from that corpus.
fuzz: SECONDS := 60
fuzz: $(READY)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r tests/fuzz/requirements.txt
	@mkdir -p build/fuzz/inputs
	$(RUN) tests/fuzz/protocol.py build/fuzz/inputs tests/requests/valid tests/requests/invalid \
	  -max_total_time=$(SECONDS) -max_len=1500 -timeout=10 -rss_limit_mb=1024 \
	  -dict=tests/fuzz/http.dict -artifact_prefix=build/fuzz/

hostility-test: $(READY)
	$(RUN) -m pytest -m hostility $(ARGS)

hostility-long: $(READY)
	$(RUN) -m pytest -m hostility --in-full $(ARGS)

# What cannot be installed is left out by the benchmark, which says so.
PEERS := build/bench
$(PEERS)/.ready: bench/requirements.txt
	@echo "setting up $(PEERS)"
	@$(PYTHON) -m venv $(PEERS)
	@grep -v '^#' $< | xargs -n 1 $(PEERS)/bin/python -m pip install -q --disable-pip-version-check && \
	  touch $@ || echo "not all of $< could be installed" >&2

bench-quick: QUICK := --quick
bench: $(PEERS)/.ready
bench bench-quick: $(READY)
	-@(for each in nginx wrk; do command -v $$each >/dev/null || exit 1; done) || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	  apt-get install -y -qq --no-install-recommends nginx-light wrk; }
	@$(RUN) -m compileall -q httpd main.py
	$(RUN) -m bench $(QUICK) $(ARGS)

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/shellcheck setup_systemd.sh .ci/run tests/systemd/machine.sh
	$(VENV)/bin/hadolint Dockerfile

types: $(READY)
	$(RUN) -m mypy

check: lint types test

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Debian keeps the part of Python that makes virtual environments in a package of its own.
$(READY): requirements.txt
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv; } || { \
	  echo "python3-venv is missing: apt-get install python3-venv" >&2; exit 1; }
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@
