# `make help` lists the targets.
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo development)
LDFLAGS := -s -w -X main.version=$(VERSION)

.DEFAULT_GOAL := help
.PHONY: help build run test check docs fuzz bench chaos clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/landline, static
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/landline ./cmd/landline

run: build ## start the demo on the embedded database and print what to try
	bin/landline dev

test: ## install and start what the tests need, run them all, stop it again
	scripts/test

check: ## everything CI checks: format, vet, linters, vulnerabilities, generated files, tests
	scripts/check

docs: ## write the generated reference pages and API documents
	$(GO) run ./cmd/landline documents

fuzz: ## run every fuzz target for FUZZTIME each (default 20s)
	scripts/fuzz

bench: ## print speed as ratios against a baseline in the same run
	scripts/bench

chaos: ## torment the server and count what breaks; CHAOS_SHORT=1 for the short form
	scripts/chaos

clean: ## remove what was built; data of landline-data stays
	rm -rf bin .local
