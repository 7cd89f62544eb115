# Shared by the scripts beside it: named and timed steps, counts, and what the machine must have.
# shellcheck shell=bash

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
LOGS=$TARGET/test-logs
# shellcheck disable=SC2034 # the scripts that include this one use it
SIDEKEY=$TARGET/release/sidekey
PASSED=0 FAILED=0 SKIPPED=0
TIMES=()
FAILURES=()

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# need COMMAND:PACKAGE... installs the Debian packages of the commands that are missing, when it may.
need() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
    done
    install_packages "${missing[@]}"
}

install_packages() {
    [ $# -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "these packages are missing and apt-get is not here to install them: $*"
    [ "$(id -u)" = 0 ] || die "these packages are missing; as root: apt-get install $*"
    printf 'installing %s\n' "$*"
    DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null
}

need_rust() {
    command -v cargo >/dev/null || die "no cargo in PATH; install Rust $(msrv) or later (https://rustup.rs)"
    # A Rust toolchain without a C compiler cannot link, nor build aws-lc.
    need cc:gcc ld:binutils
    [ -e /usr/include/stdio.h ] || install_packages libc6-dev
}

# The format and lint checks are components that a minimal toolchain lacks.
need_components() {
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 && return
    command -v rustup >/dev/null || die "cargo fmt or cargo clippy is missing, and rustup is not here to add them"
    rustup component add rustfmt clippy
}

msrv() {
    sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml
}

# A Python with the pinned `cryptography`, in .venv; its path is left in $PYTHON.
need_python() {
    need_venv .venv scripts/requirements.txt
    PYTHON=$ROOT/.venv/bin/python
    export PYTHON
}

# What plays the services in tests, in .venv-servers; see scripts/b2-server.
need_servers() {
    need_venv .venv-servers scripts/server-requirements.txt
}

# LocalStack's S3, which the tests start through scripts/s3-server.
need_s3_server() {
    need_venv .venv-localstack scripts/localstack-requirements.txt
}

# The clients of S3 that are tried beside sidekey.
need_s3_tools() {
    need_venv .venv-s3tools scripts/s3tools-requirements.txt
}

# A Ceph with a gateway for S3, which scripts/ceph-server starts.
need_ceph() {
    need ceph-mon:ceph-mon ceph-osd:ceph-osd radosgw:radosgw ceph:ceph-common ceph-authtool:ceph-common python3:python3
}

# need_venv FOLDER REQUIREMENTS makes a virtual environment, unless it was made from the same requirements.
need_venv() {
    local folder=$1 requirements=$2
    need python3:python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
    [ "$(cat "$folder/made-from" 2>/dev/null)" != "$(cat "$requirements")" ] || return 0
    rm -rf "$folder"
    python3 -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
    cp "$requirements" "$folder/made-from"
}

# step NAME COMMAND... runs it into a log, prints one line, and the log when it failed. A command that counts for
# itself sets STEP_PASSED, STEP_FAILED and STEP_SKIPPED through count(); any other counts as one.
step() {
    local name=$1 started=$EPOCHREALTIME took ok=1 log
    shift
    log=$LOGS/$name.log
    STEP_PASSED=0 STEP_FAILED=0 STEP_SKIPPED=0
    mkdir -p "$LOGS"
    printf '%-14s ' "$name"
    # Not in a condition: that would switch off `set -e` inside the command.
    set +e
    (set -e; "$@") >"$log" 2>&1 </dev/null
    ok=$((! $?))
    set -e
    took=$(since "$started")
    count "$log"
    if [ $((STEP_PASSED + STEP_FAILED + STEP_SKIPPED)) = 0 ]; then
        STEP_PASSED=$ok
    fi
    if [ $ok = 0 ] && [ "$STEP_FAILED" = 0 ]; then STEP_FAILED=1; fi
    PASSED=$((PASSED + STEP_PASSED)) FAILED=$((FAILED + STEP_FAILED)) SKIPPED=$((SKIPPED + STEP_SKIPPED))
    TIMES+=("$took $name")
    if [ "$STEP_FAILED" = 0 ]; then
        printf 'ok      %8s s  %s\n' "$took" "$(counts)"
        printed_by_tests "$log"
    else
        FAILURES+=("$name")
        printf 'FAILED  %8s s  %s\n' "$took" "$(counts)"
        tail -n "${TAIL:-100}" "$log" | sed 's/^/    /'
        printf '    what failed:\n'
        what_failed "$log" | head -n 200 | sed 's/^/    /'
        printf '    (the whole log: %s)\n' "$log"
    fi
}

# The output of failed tests, which may stand far above the end of the log.
what_failed() {
    awk '/^failures:$/ { inside = 1; next }
         /^test result:/ { inside = 0 }
         inside && !/^$/' "$1"
}

# skip NAME REASON
skip() {
    printf '%-14s SKIPPED: %s\n' "$1" "$2"
    SKIPPED=$((SKIPPED + 1))
}

# Adds up cargo's "test result:" lines and lines of the form "N passed, N failed, N skipped".
count() {
    read -r STEP_PASSED STEP_FAILED STEP_SKIPPED < <(awk '
        /^test result: / { for (i = 1; i < NF; i++) { if ($(i+1) ~ /^passed/) p += $i; if ($(i+1) ~ /^failed/) f += $i
                                                      if ($(i+1) ~ /^ignored/) s += $i } }
        /^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { p += $1; f += $3; s += $5 }
        END { print p + 0, f + 0, s + 0 }' "$1")
}

# What passing tests printed, in short: how many vectors, cases and fuzz runs they did; and the notes of other steps.
printed_by_tests() {
    awk '/^note: / { print "               " $0; next }
         /^---- .* stdout ----$/ { inside = 1; next }
         /^(---- |successes:|failures:|test result:)/ || /^$/ { inside = 0 }
         inside { print "               " substr($0, 1, 160) }' "$1"
}

counts() {
    printf '%d passed, %d failed, %d skipped' "$STEP_PASSED" "$STEP_FAILED" "$STEP_SKIPPED"
}

since() {
    awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'
}

# Prints the sums last and leaves with 1 after a failure, and in CI after a skip.
finish() {
    local code=0
    printf '\nslowest steps: '
    printf '%s\n' "${TIMES[@]}" | sort -rn | head -5 | awk '{ printf "%s%s %s s", sep, $2, $1; sep = ", " } END { print "" }'
    [ ${#FAILURES[@]} = 0 ] || printf 'failed steps: %s\n' "${FAILURES[*]}"
    printf 'all steps took %s s\n' "$(since "$STARTED")"
    printf '%d passed, %d failed, %d skipped\n' "$PASSED" "$FAILED" "$SKIPPED"
    [ $FAILED = 0 ] || code=1
    if [ "${CI:-}" = true ] && [ $SKIPPED != 0 ]; then code=1; fi
    exit $code
}

STARTED=$EPOCHREALTIME
