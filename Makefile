# What is worth typing. `make help` lists it.

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X main.version=$(VERSION) -X main.revision=$(REVISION)
IMAGE    ?= forged:$(VERSION)

# Tools are built from the module proxy at these versions, once.
GOLANGCI_LINT := .cache/tools/golangci-lint@v2.15.0/golangci-lint
GOFUMPT       := .cache/tools/gofumpt@v0.12.0/gofumpt
CUE           := .cache/tools/cue@v0.17.1/cue
GOVULNCHECK   := .cache/tools/govulncheck@v1.8.0/govulncheck

.DEFAULT_GOAL := build
.PHONY: help build forged sandbox demo demo-fks run test test-faults soak soak-fly soak-fks check lint format vuln bench bench-validate bench-go docs image clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: forged sandbox ## build bin/forged and bin/forged-sandbox

forged: ## build bin/forged
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/forged ./cmd/forged

sandbox: ## build bin/forged-sandbox, a real control plane (minutes the first time)
	sandbox/build.sh bin/forged-sandbox

demo: build ## show what forged does, on a control plane started for it
	go run ./hack/demo

demo-fks: build ## the same on Fly Kubernetes, with Fly's own databases, from nothing
	go run ./hack/demo -fks

run: build ## the same, without the people: left running for you to meddle with
	go run ./hack/demo -interactive

test: sandbox $(CUE) ## run all tests of all modules against a real control plane
	hack/with-sandbox.sh hack/test.sh

test-faults: build ## kill forged after every single request, and let it be soaked for two minutes
	hack/with-sandbox.sh hack/test-faults.sh

soak: build ## do at random, for 10 minutes, what people and machines do to an environment
	go run ./hack/soak

soak-fly: forged ## the same for 10 minutes on an emulator of Fly; needs no cluster
	go run ./hack/soak/fly

soak-fks: build ## the same for 10 minutes on Fly Kubernetes, in a sandbox of its own
	go run ./hack/soak/fks

check: lint test ## everything that must hold before a change is handed in

lint: $(GOLANGCI_LINT) $(GOFUMPT) ## formatting, vet and static analysis of all modules
	@files=$$($(GOFUMPT) -l bench charts cmd deploy hack internal sandbox schema tree_test.go); \
		[ -z "$$files" ] || { echo "not formatted, run make format:"; echo "$$files"; exit 1; }
	go vet ./...
	cd sandbox && go vet ./...
	$(GOLANGCI_LINT) run ./...
	cd sandbox && ../$(GOLANGCI_LINT) run ./...

format: $(GOFUMPT) ## format the Go files
	$(GOFUMPT) -w bench charts cmd deploy hack internal sandbox schema tree_test.go

vuln: $(GOVULNCHECK) ## look for known vulnerabilities in what is used
	$(GOVULNCHECK) ./...

bench: build ## measure forged on a real control plane, beside the same work without it
	FORGED_SANDBOX_CLUSTERS=1 hack/with-sandbox.sh go run ./bench

bench-validate: forged $(CUE) ## measure forged validate beside cue vet; needs no cluster
	go run ./bench/validate -cue $(CUE)

bench-go: sandbox ## run the benchmarks of the packages
	hack/with-sandbox.sh go test -run '^$$' -bench . -benchmem ./...

docs: ## write the generated references
	go test ./cmd/forged ./internal/server ./schema -run Reference -update

image: ## build the container image
	docker build --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) -t $(IMAGE) .

clean: ## remove what was built
	rm -rf bin .cache

.cache/tools/golangci-lint@%/golangci-lint:
	GOBIN=$(CURDIR)/$(@D) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$*

.cache/tools/gofumpt@%/gofumpt:
	GOBIN=$(CURDIR)/$(@D) go install mvdan.cc/gofumpt@$*

.cache/tools/govulncheck@%/govulncheck:
	GOBIN=$(CURDIR)/$(@D) go install golang.org/x/vuln/cmd/govulncheck@$*

.cache/tools/cue@%/cue:
	GOBIN=$(CURDIR)/$(@D) go install cuelang.org/go/cmd/cue@$*
