#!/usr/bin/env bash
# Builds, tests and shows Postern. `./build.sh help` lists the verbs.
#
# Everything heavy (homeservers, outside oracles, linters) is installed once
# into ${XDG_CACHE_HOME:-$HOME/.cache}/postern, in a folder named by version.
set -euo pipefail
cd "$(dirname "$0")"

TAGS=goolm
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/postern"
SYNAPSE_VERSION=1.163.2
NIO_VERSION=0.25.2
AIOSMTPD_VERSION=1.4.6
ZXING_VERSION=2.2.0
DENDRITE_VERSION=0.15.2
MINIO_VERSION=20250907161309
GOLANGCI_VERSION=2.11.4
ZIG_VERSION=0.15.2
CYCLONEDX_VERSION=11.12.0
COMPOSE_VERSION=2.9.1
HELM_VERSION=3.18.6
KUBECONFORM_VERSION=0.7.0
KUBERNETES_SCHEMAS_VERSION=1.33.1
SERVICEMONITOR_VERSION=0.85.0
POSTGRES_BIN=""

say() { printf '%s\n' "$*"; }
step() { printf '==> %s\n' "$*"; }
die() { printf 'build.sh: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

usage() {
  cat <<'TEXT'
./build.sh              build the program `postern`
./build.sh demo [...]   a Matrix user and a WhatsApp user talk, on real parts
                        --once --state DIR --gatekeeper URL --homeserver synapse|dendrite
./build.sh test [--all] set up everything and run all tests; --all: also the long campaigns
./build.sh bench        print the benchmarks
./build.sh fuzz [...]   run every fuzz target and write docs/FUZZING.md
                        [TIME] (default 60s) [-parallel N] [TARGET regexp]
./build.sh faults [...] kill the bridge at random while both sides write, and check; carries on
                        where it was stopped: [--messages N] [--log FILE] [--recount]
./build.sh scale [N...]   measure what one instance carries: memory, descriptors and start with so many users
                        (default 1000 5000), on SQLite and PostgreSQL; of more than 5000 the start only
./build.sh mutants [NAME] break the bridge on purpose, and show which test notices
./build.sh docs         write docs/CONFIG.md and docs/COMMANDS.md from the program
./build.sh release      make what is published, of a commit: programs for linux/amd64 and arm64, bills
                        of materials, licences, sources, checksums; the same bytes everywhere
                        [--out DIR] (default build/release) [--commit REV] (default HEAD)
./build.sh image [...]  build the image of the Dockerfile without an engine and a registry (as root, on Debian)
                        --out FILE writes an archive for `docker load`; --fresh makes the bases anew
./build.sh lint         run the linters
./build.sh setup        only install what demo and tests need
TEXT
}

# --- what has to be there -------------------------------------------------

need_go() {
  have go || die "Go is not installed; Postern needs Go 1.26 or newer (https://go.dev/dl)"
  local v; v="$(go env GOVERSION)"; v="${v#go}"
  local major="${v%%.*}" rest="${v#*.}"; local minor="${rest%%[!0-9]*}"
  if [ "$major" -lt 1 ] || { [ "$major" -eq 1 ] && [ "$minor" -lt 26 ]; }; then
    die "Go $v is too old; Postern needs Go 1.26 or newer"
  fi
  have "${CC:-cc}" || have gcc || have clang || die "a C compiler is needed for SQLite (on Debian: apt-get install gcc libc6-dev)"
}

python_ok() {
  have python3 && python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

# venv NAME VERSION PACKAGE: a virtual environment in the cache, made once.
venv() {
  local dir="$CACHE/$1-$2"
  [ -e "$dir/.complete" ] && return 0
  python_ok || return 1
  step "installing $3 $2 into the cache (once)"
  rm -rf "$dir"; mkdir -p "$CACHE"
  python3 -m venv "$dir" || die "python3 cannot make virtual environments (on Debian: apt-get install python3-venv)"
  "$dir/bin/pip" install --quiet --disable-pip-version-check "$3==$2" || die "installing $3 $2 failed"
  touch "$dir/.complete"
}

# judge NAME VERSION PACKAGE WITHOUT: a virtual environment that the tests can do without; WITHOUT says what becomes of them.
judge() { (venv "$1" "$2" "$3") || say "NOTE: $3 cannot be installed; $4"; }

# built MODULE NAME VERSION PACKAGE...: a program of the module bridge/parts/MODULE in the cache, made once; several ones in a folder bin.
built() {
  local module="$1" dir="$CACHE/$2-$3" out="$2" what="$2 $3"
  [ -e "$dir/.complete" ] && return 0
  need_go
  step "building $what into the cache (once; it may take some minutes)"
  shift 3
  [ $# -eq 1 ] || out=bin/
  mkdir -p "$dir"
  (cd "bridge/parts/$module" && go build -o "$dir/$out" "$@") || die "building $what failed"
  touch "$dir/.complete"
}

# debian PACKAGE: installs a package where that can be done.
debian() {
  if [ "$(id -u)" != 0 ] || ! have apt-get; then return 1; fi
  step "installing $1 (Debian package)"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1" >/dev/null || true
}

# taken PROGRAM PATH [PACKAGE]: a program out of Debian's package (of its name), which would start a server, into a folder of the cache named by
# the package's version.
taken() {
  have "$1" && return 0
  [ -x "/usr/sbin/$1" ] && return 0
  compgen -G "$CACHE/$1-*/$1" >/dev/null && return 0
  have apt-get && have dpkg-deb || return 1
  local tmp version package="${3:-$1}"; tmp="$(mktemp -d)"
  step "taking $1 out of the package $package (Debian) into the cache (once)"
  [ "$(id -u)" != 0 ] || apt-get update -qq || true
  if (cd "$tmp" && apt-get download -qq "$package" >/dev/null 2>&1 && dpkg-deb --fsys-tarfile "$package"_*.deb | tar -x "./$2"); then
    version="$(dpkg-deb -f "$tmp/$package"_*.deb Version | tr -c 'A-Za-z0-9.+\n-' _)"
    mkdir -p "$CACHE/$1-$version" && mv "$tmp/$2" "$CACHE/$1-$version/$1"
  fi
  rm -rf "$tmp"
  compgen -G "$CACHE/$1-*/$1" >/dev/null
}

setup_synapse() { venv synapse "$SYNAPSE_VERSION" matrix-synapse; }

# The judges from PyPI: a Matrix client with encryption (python-olm comes as a wheel for the usual machines and is compiled on others), a mail
# server on loopback for the proof of e-mail addresses, a reader of QR codes, and the schemas of CycloneDX for bills of materials.
setup_judges() {
  judge nio-e2e "$NIO_VERSION" 'matrix-nio[e2e]' "its tests will be skipped (Python 3.10 or newer; where python-olm is compiled also cmake, make and a C++ compiler)"
  judge aiosmtpd "$AIOSMTPD_VERSION" aiosmtpd "the tests with a mail server will be skipped (Python 3.10 or newer)"
  judge zxing "$ZXING_VERSION" zxing-cpp "no QR code will be read in the tests (Python 3.10 or newer)"
  judge cyclonedx "$CYCLONEDX_VERSION" 'cyclonedx-python-lib[json-validation]' "the bill of materials is not held against its schema (Python 3.10 or newer)"
}

# A C compiler for every architecture, the same one on every machine.
setup_zig() { (venv zig "$ZIG_VERSION" ziglang); }

# zig_cc TARGET: its command line.
zig_cc() {
  local zig; zig="$(compgen -G "$CACHE/zig-$ZIG_VERSION/lib/python*/site-packages/ziglang/zig")"
  printf "'%s' cc -target %s" "$zig" "$1"
}

setup_dendrite() {
  local from=github.com/element-hq/dendrite/cmd
  built dendrite dendrite "$DENDRITE_VERSION" "$from/dendrite" "$from/create-account" "$from/generate-keys"
}

setup_minio() { built minio minio "$MINIO_VERSION" github.com/minio/minio; }

# The parser of compose files, by their specification.
setup_compose() { built compose compose "$COMPOSE_VERSION" .; }

# Helm, and what holds the chart in docs/ops/helm against the schemas: a program, Kubernetes' own schemas, and that of one foreign kind.
setup_helm() {
  built helm helm "$HELM_VERSION" helm.sh/helm/v3/cmd/helm
  built kubeconform kubeconform "$KUBECONFORM_VERSION" github.com/yannh/kubeconform/cmd/kubeconform
  local dir="$CACHE/servicemonitor-$SERVICEMONITOR_VERSION" module=github.com/prometheus-operator/prometheus-operator from
  if [ ! -e "$dir/.complete" ]; then
    step "fetching the definition of a ServiceMonitor $SERVICEMONITOR_VERSION into the cache (once)"
    mkdir -p "$dir"
    from="$(cd bridge/parts/servicemonitor && go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')"
    cp "$from/example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml" "$dir/crd.yaml" || die "there is no definition of a ServiceMonitor"
    touch "$dir/.complete"
  fi
  judge kubernetes-schemas "$KUBERNETES_SCHEMAS_VERSION" kubernetes-validate "the chart is not held against the schemas of Kubernetes (Python 3.10 or newer)"
}

# find_postgres sets POSTGRES_BIN to the folder of initdb and postgres.
find_postgres() {
  local d
  for d in "$(have pg_config && pg_config --bindir || true)" /usr/lib/postgresql/*/bin /usr/local/pgsql/bin; do
    if [ -x "$d/initdb" ] && [ -x "$d/postgres" ]; then POSTGRES_BIN="$d"; return 0; fi
  done
  return 1
}

setup_postgres() {
  find_postgres && return 0
  debian postgresql && find_postgres && return 0
  say "NOTE: no PostgreSQL server programs found; tests on Postgres will be skipped (on Debian: apt-get install postgresql)"
}

# Without ffmpeg and ffprobe, what a phone cannot show goes as a document.
setup_ffmpeg() {
  have ffmpeg && have ffprobe && return 0
  debian ffmpeg && have ffmpeg && have ffprobe && return 0
  say "NOTE: no ffmpeg and ffprobe found: what a phone cannot show goes as a document, and tests of conversion will be skipped (on Debian: apt-get install ffmpeg)"
}

# promtool judges the figures and the rules for alerts; nginx and Caddy are the reverse proxies of docs/ops.
setup_taken() {
  taken promtool usr/bin/promtool prometheus ||
    say "NOTE: promtool cannot be had here; its judgement of figures and rules will be skipped (on Debian: apt-get install prometheus)"
  taken nginx usr/sbin/nginx || say "NOTE: nginx cannot be had here; docs/ops/nginx.conf will not be tested (on Debian: apt-get install nginx)"
  taken caddy usr/bin/caddy || say "NOTE: Caddy cannot be had here; docs/ops/Caddyfile will not be tested (on Debian: apt-get install caddy)"
}

# The bases of the image, and what its steps make, so that the tests find them: see bridge/image/build.sh.
setup_image() {
  need_go
  if [ "$(id -u)" != 0 ] || ! have apt-get; then
    say "NOTE: the image is built here by root on Debian only; its tests will be skipped (./build.sh image)"
  elif ! bridge/image/build.sh >/dev/null; then
    say "NOTE: the image cannot be built here; its tests will fail"
  fi
}

setup_oracles() {
  if ! have npm; then
    say "NOTE: no npm found; the outside judges from npm (libsignal-client, jose) will be skipped (install Node.js 20 or newer)"
    return 0
  fi
  local script
  for script in connector/e2ee/oracle/install.sh connector/issuer/oracle/install.sh; do
    [ -x "$script" ] && "$script"
  done
}

setup_all() {
  need_go
  setup_synapse || say "NOTE: Python 3.10 or newer is missing; Synapse cannot be installed, Dendrite is used where it can stand in"
  setup_judges
  setup_postgres
  setup_ffmpeg
  setup_taken
  setup_image
  setup_compose
  setup_oracles
  setup_dendrite
  setup_minio
  setup_helm
}

# --- verbs ------------------------------------------------------------------

build() {
  need_go
  local version commit when
  version="$(git describe --tags --always --dirty 2>/dev/null || echo unknown)"
  commit="$(git rev-parse HEAD 2>/dev/null || echo unknown)"
  when="$(git log -1 --format=%cI 2>/dev/null || echo unknown)"
  go build -tags "$TAGS" -trimpath -o "${1:-postern}" \
    -ldflags "-X main.Tag=$version -X main.Commit=$commit -X main.BuildTime=$when" ./bridge
}

# summary LOG: counts from `go test -v` output; skips are listed, and with
# CI=true they fail the run.
summary() {
  local passed failed skipped
  passed="$(grep -c '^ *--- PASS' "$1" || true)"
  failed="$(grep -c '^ *--- FAIL' "$1" || true)"
  skipped="$(grep -c '^ *--- SKIP' "$1" || true)"
  if [ "$skipped" -gt 0 ]; then
    say ""
    say "!!! $skipped skipped, each of them a thing that was NOT tested:"
    grep '^ *--- SKIP' "$1" | sed 's/^/    /'
    say "the reasons:"
    grep -hE '_test\.go:[0-9]+: .*(SKIPPED|NOT RUN|NOT TESTED)' "$1" | sed 's/^ */    /' | sort -u || true
  fi
  if [ "$failed" -gt 0 ]; then
    say ""; say "failed:"; grep '^ *--- FAIL' "$1" | sed 's/^/    /'
  fi
  say ""
  say "$passed passed, $failed failed, $skipped skipped"
  if [ "${CI:-}" = true ] && [ "$skipped" -gt 0 ]; then
    die "with CI=true nothing may be skipped"
  fi
}

# features LOG: every test that docs/FEATURES.md names has to have passed in the
# run. One that was skipped is named here, and is a failure with CI=true (summary).
features() {
  local name line rc=0
  while IFS= read -r name; do
    line="${name// /_} ("
    grep -qF -- "--- PASS: $line" "$1" && continue
    if grep -qF -- "--- SKIP: $line" "$1" || grep -qF -- "--- SKIP: ${name%%/*} (" "$1"; then
      say "skipped, so docs/FEATURES.md is not shown to be right here: $name"
    else
      say "docs/FEATURES.md names a test that did not pass: $name"; rc=1
    fi
  done < <(grep -oE '`Test[^`]+`' docs/FEATURES.md | tr -d '`' | sort -u)
  return "$rc"
}

# unraced runs the tests of allocations and times, which the race detector would
# spoil: those in files named norace_test.go.
unraced() {
  local files names
  files="$(find connector database bridge -name norace_test.go)"
  names="$(sed -nE 's/^func (Test[A-Za-z0-9]+)\(.*/^\1$/p' $files | paste -sd'|' -)"
  go test -tags "$TAGS" -count=1 -v -run "$names" $(dirname $files | sort -u | sed 's|^|./|')
}

run_tests() {
  if [ "${1:-}" = --all ]; then export POSTERN_ALL=1; fi
  setup_all
  if [ "${1:-}" = --all ]; then
    setup_zig || say "NOTE: Zig cannot be installed; releases for both architectures will not be tested (Python 3.10 or newer)"
  fi
  step "building"
  mkdir -p build && build build/postern
  export POSTERN_BINARY="$PWD/build/postern"
  step "go vet"
  go vet -tags "$TAGS" ./...
  step "tests (race detector on)"
  local log=build/test.log rc=0 limit=40m
  [ -n "${POSTERN_ALL:-}" ] && limit=12h
  go test -tags "$TAGS" -race -shuffle=on -count=1 -timeout "$limit" -v ./... >"$log" 2>&1 || rc=$?
  unraced >>"$log" 2>&1 || rc=$?
  grep -E '^(ok|FAIL|panic:|---|\?)|^ +--- FAIL|^-test.shuffle|WARNING: DATA RACE' "$log" | grep -vE '^(--- PASS|-test.shuffle|\?)' || true
  if [ "$rc" -ne 0 ]; then
    say ""; say "the last lines of each failure ($log has everything):"
    grep -vE '^ +[^ ]*\{?"' "$log" | grep -B30 -E '^ *--- FAIL' | tail -200 || true # without the lines of programs' logs
  fi
  features "$log" || rc=1
  summary "$log"
  return "$rc"
}

demo() {
  need_go
  local args=("$@") hs="" i
  for ((i = 0; i < $#; i++)); do [ "${args[$i]}" = --homeserver ] && hs="${args[$((i + 1))]:-}"; done
  if [ "$hs" = dendrite ]; then
    setup_dendrite
  elif ! setup_synapse; then
    say "Python 3.10 or newer is missing, so Dendrite is built instead of installing Synapse."
    setup_dendrite; args+=(--homeserver dendrite)
  fi
  setup_ffmpeg
  step "building postern"
  mkdir -p build && build build/postern
  go build -tags "$TAGS" -trimpath -o build/demo ./bridge/demo
  exec build/demo --postern "$PWD/build/postern" "${args[@]}"
}

bench() {
  need_go
  step "benchmarks (ratios come from one run, side by side)"
  go test -tags "$TAGS" -run '^$' -bench . -benchmem -benchtime 0.3s -count 1 ./connector/... ./database/... ./bridge/... | grep -E '^(Benchmark|pkg:|FAIL)'
  say "what the goals are, and why some are missed: docs/BENCHMARKS.md"
}

# fuzz [TIME] [-parallel N] [TARGET]: every fuzz target in turn, with the
# coverage of its decoder; from 60s on it writes docs/FUZZING.md.
fuzz() {
  need_go
  mkdir -p build && go build -o build/fuzz ./bridge/fuzz
  exec build/fuzz "$@"
}

# faults [--messages N] [--log FILE] [--recount]: the campaign of random kills, N messages
# each way. Every kill is a line of FILE; a run carries on from it. --recount only adds it up.
faults() {
  need_go
  local messages=50000 log="$PWD/build/kills.jsonl" recount=""
  while [ $# -gt 0 ]; do
    case "$1" in
      --messages) messages="${2:?--messages needs a number}"; shift 2 ;;
      --log) log="$(realpath -m "${2:?--log needs a file}")"; shift 2 ;;
      --recount) recount=1; shift ;;
      *) die "faults: unknown argument $1" ;;
    esac
  done
  mkdir -p build
  export POSTERN_FAULTS_LOG="$log"
  if [ -z "$recount" ]; then
    setup_postgres
    step "building postern to be killed"
    go build -tags "$TAGS,killpoints" -o build/postern-killpoints ./bridge
    step "$messages messages each way, from what $log has"
    POSTERN_ARMED="$PWD/build/postern-killpoints" POSTERN_FAULTS="$messages" go test -tags "$TAGS" -count=1 -timeout 12h -v \
      -run '^TestTheCampaignOfRandomKills$' ./bridge/e2e/faults | grep -vE '^=== '
  fi
  go test -tags "$TAGS" -count=1 -v -run '^TestTheLogOfKillsAddsUp$' ./bridge/e2e/faults | grep -vE '^(===|---|PASS|ok)'
}

# scale [N...]: what stands in docs/SCALE.md; the table goes to build/scale.md.
scale() {
  setup_postgres
  step "building postern"
  mkdir -p build && build build/postern
  [ $# -gt 0 ] || set -- 1000 5000
  POSTERN_BINARY="$PWD/build/postern" POSTERN_SCALE="$*" POSTERN_SCALE_OUT="$PWD/build/scale.md" go test -tags "$TAGS" -count=1 -timeout 12h -v \
    -run '^TestWhatOneInstanceCarries$' ./bridge/e2e/scale | grep -vE '^=== '
}

# mutants [NAME]: needs no more than Go and Postgres.
mutants() {
  need_go
  setup_postgres
  mkdir -p build && go build -o build/mutants ./bridge/e2e/faults/mutants
  exec build/mutants -o build/mutants.md "$@"
}

setup_linters() { built lint golangci-lint "$GOLANGCI_VERSION" github.com/golangci/golangci-lint/v2/cmd/golangci-lint; }

# The reference pages say what the program says of itself.
docs() {
  need_go
  POSTERN_WRITE_PAGES=1 go test -tags "$TAGS" -count=1 -run '^TestTheReferencePagesAreCurrent$' ./bridge
}

# release [--out DIR] [--commit REV]: the programs need no newer glibc than 2.28 (Debian 10, RHEL 8).
release() {
  local args=()
  while [ $# -gt 0 ]; do
    case "$1" in
      --out | --commit) args+=("-${1#--}" "${2:?$1 needs a value}"); shift 2 ;;
      *) die "release: unknown argument $1" ;;
    esac
  done
  have git || die "git is needed: a release is made of a commit"
  need_go
  setup_zig || die "Zig $ZIG_VERSION, the C compiler of releases, comes from PyPI: that needs Python 3.10 or newer"
  export ZIG_GLOBAL_CACHE_DIR="$CACHE/zig-$ZIG_VERSION/cache" ZIG_LOCAL_CACHE_DIR="$CACHE/zig-$ZIG_VERSION/cache"
  mkdir -p build && go build -o build/release-tool ./bridge/release
  exec build/release-tool "${args[@]}" \
    -cc "amd64=$(zig_cc x86_64-linux-gnu.2.28)" -cc "arm64=$(zig_cc aarch64-linux-gnu.2.28)"
}

lint() {
  setup_linters
  step "gofmt"
  local unformatted; unformatted="$(git ls-files '*.go' | xargs gofmt -l)"
  [ -z "$unformatted" ] || die "gofmt would change: $unformatted"
  step "go vet"
  go vet -tags "$TAGS" ./...
  step "golangci-lint"
  "$CACHE/golangci-lint-$GOLANGCI_VERSION/golangci-lint" run --build-tags "$TAGS" ./...
}

case "${1:-build}" in
  build) build ;;
  demo) shift; demo "$@" ;;
  test) shift; run_tests "$@" ;;
  bench) bench ;;
  fuzz) shift; fuzz "$@" ;;
  faults) shift; faults "$@" ;;
  scale) shift; scale "$@" ;;
  mutants) shift; mutants "$@" ;;
  docs) docs ;;
  release) shift; release "$@" ;;
  image) shift; need_go; exec bridge/image/build.sh "$@" ;;
  lint) lint ;;
  setup) setup_all ;;
  help | -h | --help) usage ;;
  *) usage >&2; die "no such verb: $1" ;;
esac
