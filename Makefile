# Everything a developer or CI runs. Needs Go, git and make; the linter and formatter are
# built on first use from the versions pinned in tools/go.mod. `make e2e` also needs root
# and Debian's container packages (it names the missing ones).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The program is a static binary, and with one setting for build, demo and tests every
# package is compiled once. make test-race is the exception: the race detector needs cgo.
export CGO_ENABLED := 0

LINT := go tool -modfile=tools/go.mod golangci-lint
CONFIG ?= examples/minimal.yaml
FUZZTIME ?= 30s
BENCH ?= .
BENCHFLAGS ?=
BENCHCOUNT ?= 6
BENCHTIME ?= 0.5s
STEPS ?= ./internal/...
SAVE ?=
AGAINST ?= $(if $(SAVE),,old)

##@ Run

.PHONY: build
build: ## Build bin/ingot.
	go build -trimpath -o bin/ingot ./cmd/ingot

.PHONY: run
run: build ## Run bin/ingot with CONFIG (examples/minimal.yaml).
	bin/ingot run --config $(CONFIG) --data data

.PHONY: demo
demo: ## Collect this machine into a store in memory and show what arrived.
	go run ./test/demo

##@ Test

.PHONY: test
test: ## Unit, golden, fuzz-seed and process tests; no root, no network, about 5 minutes.
	go test -timeout 5m $$(go list ./... | grep -v -E '/test/(app|demo)$$')
	go test -timeout 8m -p 1 -count=1 ./test/app ./test/demo # Real processes: undisturbed, and never cached, since they build the program themselves.
	go -C test/diff test -timeout 5m ./...
	go -C test/conformance test -timeout 5m -count=1 ./...

.PHONY: torture
torture: ## Kills by the hundred, full, failing and slow disks, power cuts, OOM, large nodes (10 min; root, strace).
	@[ "$$(id -u)" = 0 ] || { echo 'make torture: must run as root: it mounts a small tmpfs and limits the memory of a process (sudo make torture)' >&2; exit 1; }
	@command -v strace >/dev/null || { echo 'make torture: strace is missing; on Debian: apt-get install strace' >&2; exit 1; }
	go test -tags torture -count=1 -v -timeout 20m -run '^TestTorture' ./test/app

.PHONY: test-race
test-race: ## The same under the race detector (needs a C compiler).
	@command -v "$$(CGO_ENABLED=1 go env CC)" >/dev/null || { echo 'make test-race: the race detector needs a C compiler, for example gcc' >&2; exit 1; }
	CGO_ENABLED=1 go test -race -timeout 15m ./...

.PHONY: e2e
e2e: ## Ingot in a real Kubernetes with a real Cortex and Loki (root).
	@[ "$$(id -u)" = 0 ] || { echo 'make e2e: must run as root: it starts a kubelet and containerd on this machine (sudo make e2e)' >&2; exit 1; }
	go test -tags e2e -count=1 -v -timeout 90m ./test/e2e/

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (30s).
	@for module in . test/diff; do \
		(cd $$module; grep -rl --include='*_test.go' --exclude-dir=diff '^func Fuzz' *) | while read -r file; do \
			sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' "$$module/$$file" | while read -r name; do \
				echo "== $$name in $${file%/*} of $$module"; \
				go -C $$module test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "./$${file%/*}" </dev/null; \
			done; \
		done; \
	done

# What a sample passes through, for the short list of make bench.
METRICSTEPS := ./internal/expfmt/... ./internal/series/... ./internal/scrape/... ./internal/remotewrite/... ./internal/delivery/...
METRICLOADS := M1,M1/gzip,M1/rw2,M2,M3,M4,M5,M7,unique,unique-1M,M8

.PHONY: bench
bench: ## Steps once, then metrics beside vmagent with ratios (25 min; BENCHFLAGS=-help).
	go test -run '^$$' -bench . -benchmem -benchtime 0.2s $(METRICSTEPS)
	go run ./test/bench metrics -load $(METRICLOADS) -outage 1m $(BENCHFLAGS)

# The results of a run are kept below .cache/bench/steps, where make clean leaves them.
.PHONY: bench-steps
bench-steps: ## Benchmark each step; SAVE=old keeps the run, the next one compares with old.
	@mkdir -p .cache/bench/steps
	@[ -z '$(AGAINST)' ] || [ -e '.cache/bench/steps/$(AGAINST)' ] || { echo 'make bench-steps: no run $(AGAINST) to compare with; keep one by SAVE=old first' >&2; exit 1; }
	go test -run '^$$' -bench '$(BENCH)' -benchmem -count $(BENCHCOUNT) -benchtime $(BENCHTIME) $(STEPS) | tee .cache/bench/steps/running
	@mv .cache/bench/steps/running .cache/bench/steps/$(or $(SAVE),new)
	@cd .cache/bench/steps; go tool -modfile=../../../tools/go.mod benchstat $(AGAINST) $(or $(SAVE),new)

.PHONY: bench-metrics
bench-metrics: ## Measure scraping and remote write beside vmagent (minutes; BENCHFLAGS=-help).
	go run ./test/bench metrics $(BENCHFLAGS)

.PHONY: bench-logs
bench-logs: ## Measure the collection of container logs (minutes; BENCHFLAGS=-help).
	go run ./test/bench logs $(BENCHFLAGS)

##@ Change

.PHONY: fmt
fmt: ## Format (gofumpt, grouped imports).
	$(LINT) fmt

.PHONY: fmt-check
fmt-check: ## Fail where make fmt would change something.
	$(LINT) fmt --diff

.PHONY: vet
vet: ## Run go vet, also over what make e2e and make torture build.
	go vet ./...
	go vet -tags e2e,torture ./test/...
	go -C test/diff vet ./...
	go -C test/conformance vet ./...

.PHONY: lint
lint: ## Run the linters of .golangci.yml (the first build takes minutes).
	$(LINT) run

.PHONY: generate
generate: ## Rewrite docs/configuration.md and docs/metrics.md from the code.
	go test -count=1 -run '^TestReference' . ./internal/app -update

.PHONY: generate-diff
generate-diff: ## Fail where make generate would change something.
	go test -count=1 -run '^TestReference' . ./internal/app

.PHONY: golden
golden: ## Rewrite all golden files; read the diff before you commit it.
	@grep -rl --include='*_test.go' 'flag.Bool("update"' cmd internal test *_test.go | xargs -n1 dirname | sort -u | while read -r dir; do \
		go test -count=1 "./$$dir" -update </dev/null; \
	done

.PHONY: check
check: fmt-check lint vet test generate-diff ## All of the above that must pass before a commit.

.PHONY: clean
clean: ## Remove bin/ and data/; keep what make e2e and make bench have built.
	rm -rf bin data

##@ Help

.PHONY: help
help: ## Show this list.
	@awk 'BEGIN {FS = ":.*## "} \
		/^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
