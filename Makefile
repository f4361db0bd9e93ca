# What a person types. The work is in scripts/, so that each step can also be run by hand.

SHELL := bash
.DELETE_ON_ERROR:

# The demo runs from the dev profile: on a fresh machine it is there in half the time of a release build, password
# hashing and SQLite are optimised in it too (Cargo.toml), and `make test` uses the same objects again.
# `make demo PROFILE=release` shows the figures of the optimised program.
PROFILE ?= dev
PROFILE_DIR := $(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

SDK_SOURCES := $(shell find sdk/js/src -type f)
WEB_SOURCES := $(shell find web-demo/src web-demo/public -type f) web-demo/index.html web-demo/vite.config.ts web-demo/tsconfig.json

.PHONY: help demo test soak fuzz chaos distance upgrade postgres bench-push web sdk build lint clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 16

demo: web ## build and run the demo: two replicas, a broker, a small company
	@PROFILE=$(PROFILE) PROFILE_DIR=$(PROFILE_DIR) scripts/demo $(ARGS)

test: ## everything that CI checks, from formatting to two real browsers
	@scripts/test

SCHEDULES ?= 1000000

soak: ## the simulator for as long as you like: make soak SCHEDULES=10000000
	PERMCAST_SIM_SCHEDULES=$(SCHEDULES) cargo test --locked --release --test sim no_schedule -- --nocapture

SECONDS_EACH ?= 60

fuzz: ## libFuzzer on every reader of what strangers send: make fuzz SECONDS_EACH=600 TARGETS="tokens frames"
	@scripts/fuzz $(SECONDS_EACH) $(TARGETS)

DURATION ?= 10m
SEED ?= $(shell date +%s)

# On HOSTS=1 each process has a host of its own, LINK=5ms away from the others.
chaos: ## real processes under faults, and a checker: make chaos DURATION=10m SEED=7 FAULTS=nats-kill,replica-stop PACE=1
	@scripts/need cargo nats-server sqlite3 $(if $(HOSTS),ip unshare python3 caddy)
	PERMCAST_CHAOS_DURATION=$(DURATION) PERMCAST_CHAOS_SEED=$(SEED) PERMCAST_CHAOS_FAULTS=$(FAULTS) \
		PERMCAST_CHAOS_PACE=$(PACE) PERMCAST_CHAOS_LINK=$(LINK) \
		cargo test --locked --release --test chaos the_guarantee_holds_$(if $(HOSTS),among_hosts,whatever_fails) -- --nocapture

ROUNDS ?= 500

distance: ## how long a change is under way to a client of another host, on links of 0, 5 and 50 ms: make distance ROUNDS=500
	@scripts/need cargo nats-server sqlite3 ip unshare python3 caddy
	@cargo build --locked --release --test chaos
	@for link in 0ms 5ms 50ms; do PERMCAST_CHAOS_LINK=$$link PERMCAST_CHAOS_ROUNDS=$(ROUNDS) \
		cargo test --quiet --locked --release --test chaos a_change_crosses -- --nocapture | grep -E 'ms|0ns|NOT' || exit; done

FROM ?= HEAD~1

upgrade: web ## an earlier version and this one side by side; builds that one, which takes minutes: make upgrade FROM=v0.1.0
	@scripts/rolling-upgrade $(FROM)

VERSIONS ?= 16 17 18

postgres: ## the tests that ask PostgreSQL, on other versions of it: make postgres VERSIONS="16 18"
	@scripts/postgres-versions $(VERSIONS)

bench-push: web ## push under load beside nats-server and a bare loop: make bench-push ARGS="fanout --rounds 3"
	cargo bench --locked --bench push -- --json target/bench-push.json $(ARGS)

web: web-demo/dist/index.html ## build the web app

sdk: sdk/js/dist/index.js ## build the TypeScript client

build: web ## build the release program with the web app inside
	cargo build --locked --release

lint: ## formatting and clippy
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

clean: ## remove everything that was built or fetched
	rm -rf target fuzz/target sdk/js/dist web-demo/dist test-results
	rm -rf sdk/js/node_modules web-demo/node_modules tests/e2e/node_modules tests/oidc/node_modules

# Packages as the lock file has them; a stamp, since npm leaves the folder's own time alone.
%/node_modules/.installed: %/package-lock.json %/package.json
	@scripts/need node npm
	cd $* && npm ci --no-fund --no-audit
	@touch $@

sdk/js/dist/index.js: sdk/js/node_modules/.installed sdk/js/tsconfig.json sdk/js/tsconfig.build.json $(SDK_SOURCES)
	cd sdk/js && npm run --silent build
	@touch $@

# The app compiles the client in from its source. Cargo does not see that files have come to a folder that is embedded;
# that the file which embeds it is newer, it does.
web-demo/dist/index.html: web-demo/node_modules/.installed $(WEB_SOURCES) $(SDK_SOURCES)
	cd web-demo && npm run --silent build
	@touch $@ src/http/pages.rs
