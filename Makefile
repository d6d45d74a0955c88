# stakeseal: make demo shows the main job, make test proves it.

# blst chooses its code by the processor at run time, so that a program built
# on one machine runs on another.
export CGO_CFLAGS ?= -O2 -D__BLST_PORTABLE__
export GOTOOLCHAIN ?= local
GO ?= go
# A slow machine with one core takes long for the stories on AWS.
TEST_FLAGS ?= -timeout 30m

.PHONY: all build demo test check bench fuzz lint race vet vulncheck python emulators infra browser rehearsal cost load kills clean
all: build

# build: both programs, and age, which opens sealed files without stakeseal.
build:
	@mkdir -p build
	$(GO) build -trimpath -o build/ ./cmd/stakeseal ./cmd/stakeseal-generator ./demo filippo.io/age/cmd/age

# demo: the whole story on a throw-away home, in about a minute.
demo: build
	@build/demo

# rehearsal: the whole story on AWS, role by role, on this machine and without
# an account. It needs Linux with namespaces and gcc with static libraries.
rehearsal: build
	@$(GO) build -trimpath -o build/ ./rehearsal
	@build/rehearsal

# cost: what an order costs on AWS, from durations and requests of this run.
cost: build
	@$(GO) build -trimpath -o build/ ./cost
	@build/cost

# load: an order of 10,000 validators on AWS as ranges, 20 at once, with
# throttling, duplicates and crashes. It takes a few minutes.
load:
	STAKESEAL_LOAD=10000 $(GO) test -count=1 -timeout 60m -run '^TestLargeOrder$$' -v ./cmd/stakeseal/awsstory

# kills: a thousand kills of the signer under load, at random points, and after
# each everything that it signed asked for in another form. Some minutes.
kills:
	STAKESEAL_KILL_ROUNDS=1000 $(GO) test -count=1 -timeout 120m -run '^TestSignerKilledUnderLoad$$' -v ./cmd/stakeseal

# test: everything; the last lines are the test runner's.
test:
	$(GO) vet ./...
	$(GO) test $(TEST_FLAGS) ./...

# check: what a reviewer wants green beside the tests.
check: vet lint race vulncheck

vet:
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo "these files are not gofmt'ed"; exit 1; }
	$(GO) vet ./...

# Linters live in a module of their own, so that they never become
# dependencies of the programs.
lint:
	cd tools && $(GO) build -o ../build/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	build/golangci-lint run ./...

# -short leaves out what only takes longer under the race detector (scrypt).
race:
	$(GO) test -race -short ./...

vulncheck:
	cd tools && $(GO) build -o ../build/govulncheck golang.org/x/vuln/cmd/govulncheck
	@build/govulncheck ./... || { code=$$?; \
	  if build/govulncheck ./secret 2>&1 | grep -qiE 'dial|lookup|no such host|forbidden|status|timeout|proxy'; \
	  then echo "vulnerabilities: NOT CHECKED, the database cannot be reached"; else exit $$code; fi; }

# bench: our figures beside the limits measured in the same run;
# STAKESEAL_BENCH=short loads 1,000 keys instead of 10,000.
bench: build
	@$(GO) run ./bench

# fuzz: every fuzz target for FUZZ_TIME each.
FUZZ_TIME ?= 20s
fuzz:
	@for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg 2>/dev/null | grep '^Fuzz'); do \
	    echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZ_TIME) $$pkg || exit 1; \
	  done; done

# python: what docs/formats say, done in Python: a verifier that comes to the
# same verdicts, and the steps that open a KMS stanza. It installs its one package into build/python.
python:
	python3 -m venv build/python
	build/python/bin/pip install --quiet cryptography==50.0.2
	PATH="$(CURDIR)/build/python/bin:$$PATH" STAKESEAL_PYTHON=required $(GO) test -count=1 -run 'TestPythonVerifier|TestDocumentedScript' ./certificate ./internal/aws/awskmsopen

# emulators: the stores over dynalite (npm) and moto (pip), second opinions of
# AWS that are not ours. It installs them into build/ and stops them again.
emulators:
	bash internal/aws/emulators.sh

# infra: the templates before programs that others wrote (npm, pip): checkers, a
# simulator of IAM, another CloudFormation.
infra:
	bash infra/check/check.sh

# browser: the page that a release manager reads, in a real browser.
browser:
	bash release/browser.sh

clean:
	rm -rf build
