# The steps of scripts/test and scripts/check. Everything is built in the release profile, so that one set of
# artefacts serves the lints, the tests and the product.
# shellcheck shell=bash

# A place for the temporary files of all steps; step_leftovers looks into it. In memory, if there is room: what is killed and
# restored some thousand times writes through to the disk each time, and some tests look for the disk by themselves.
scratch() {
    local place=${TMPDIR:-/tmp}
    if [ -z "${TMPDIR:-}" ] && has_room /dev/shm; then place=/dev/shm; fi
    SCRATCH=$(mktemp -d "$place/sidekey-test.XXXXXX")
    # Some tests run the product as another user, who must find its configuration below here.
    chmod 711 "$SCRATCH"
    trap 'rm -rf "$SCRATCH"' EXIT
    export TMPDIR=$SCRATCH SIDEKEY_TEST_RUN=$SCRATCH
    unset SIDEKEY_PASSPHRASE SIDEKEY_NEW_PASSPHRASE
}

# Whether a file system in memory is mounted there, with 4 GiB or more, where programs may run.
has_room() {
    awk -v at="$1" '$2 == at && $3 == "tmpfs" && $4 !~ /noexec/ { found = 1 } END { exit !found }' /proc/mounts || return 1
    [ -w "$1" ] && [ "$(df -k --output=avail "$1" | tail -n 1)" -ge $((4 << 20)) ]
}

step_fmt() {
    cargo fmt --check
}

step_shell() {
    local script
    for script in scripts/* .ci/run; do
        case $(head -n 1 "$script") in
            '#!/bin/sh'*) shellcheck -s sh "$script" && dash -n "$script" ;;
            '#!/usr/bin/env bash'* | '# Shared'* | '# The steps'*) shellcheck -s bash -x "$script" ;;
        esac
    done
}

step_layering() {
    python3 scripts/layering
}

step_clippy() {
    cargo clippy --locked --release --all-targets -- -D warnings
}

# The command line's tests need the binary, so without it only the library and what uses it alone is linted.
step_clippy_lib() {
    cargo clippy --locked --release --no-default-features --lib --examples --benches -- -D warnings
}

step_docs() {
    RUSTDOCFLAGS='-D warnings' cargo doc --locked --release --no-deps --document-private-items
}

step_build() {
    cargo build --locked --release
    # Cargo repeats the warnings of what it did not build again.
    cargo build --locked --release 2>&1 | { ! grep -A 8 '^warning'; }
}

# The library brings no command line; the product brings no second RSA, and no second source of randomness.
step_trees() {
    local library product
    library=$(cargo tree --locked --no-default-features -e normal --prefix none)
    product=$(cargo tree --locked -e normal,build --target all --prefix none)
    grep -q '^aws-lc-rs ' <<<"$library"
    if grep -E '^(clap|clap_complete|clap_mangen|indicatif|rpassword|ctrlc) ' <<<"$library"; then return 1; fi
    if grep -E '^(rsa|openssl-sys|native-tls|ring) ' <<<"$product"; then return 1; fi
    # .cargo/config.toml was read: what aws-lc would collect entropy with is not in the product.
    if grep -q jent_read_entropy target/release/sidekey; then return 1; fi
}

# Many tests wait for a server or a process most of their time.
TESTING=(--show-output "--test-threads=$((2 * $(nproc)))")

# Test programs that the compiler would optimise longer than they run. What they call is optimised as ever.
UNOPTIMISED=(library cli stores)

# Units, and all other test programs.
step_tests() {
    local path name others=()
    for path in tests/*.rs tests/*/main.rs; do
        name=${path#tests/}
        name=${name%.rs}
        name=${name%/main}
        [[ " ${UNOPTIMISED[*]} " == *" $name "* ]] || others+=(--test "$name")
    done
    timeout 1800 cargo test --locked --release --no-fail-fast --lib --bins "${others[@]}" -- "${TESTING[@]}"
}

step_doc_tests() {
    timeout 900 cargo test --locked --release --doc -- --show-output
}

step_library() {
    unoptimised library 900
}

step_cli() {
    unoptimised cli 2400
}

step_stores() {
    unoptimised stores 2400
}

# unoptimised NAME SECONDS builds that test program and runs it so long at most.
unoptimised() {
    local program
    program=$(cargo rustc --locked --release --test "$1" --message-format=json-render-diagnostics -- -C opt-level=0 |
        sed -n '/"kind":\["test"\]/s/.*"executable":"\([^"]*\)".*/\1/p')
    CARGO_MANIFEST_DIR=$PWD timeout "$2" "$program" "${TESTING[@]}"
}

step_unit() {
    timeout 600 cargo test --locked --release --lib
}

# The second implementation of the format and the two recovery scripts, on their own files, on ours and on all vectors.
step_python() {
    timeout 1500 "$PYTHON" tests/python/run.py --sidekey "$SIDEKEY" --vectors fixtures/vectors
}

# The B2 of the tests, by itself and by Backblaze's own command line.
step_b2_server() {
    timeout 600 .venv-servers/bin/python -B tests/servers/check_b2.py
}

step_help() {
    python3 scripts/readme --sidekey "$SIDEKEY"
}

step_quickstart() {
    timeout 300 scripts/quickstart
}

# The stores of S3 on radosgw: signatures, versions, conditions, customers' keys. It ends with the pipe that it reads.
step_ceph() {
    local server status=0
    coproc CEPH { exec scripts/ceph-server; }
    read -r -u "${CEPH[0]}" -t 300 server
    # What radosgw 16.2 does not have: copies of what a customer's key encrypts, default encryption, conditions in buckets with
    # versions; and it lists some keys in a way that XML does not allow.
    SIDEKEY_TEST_S3=${server#ceph-server } timeout 900 cargo test --locked --release --test stores -- s3:: s3_deletes:: \
        --skip copies_go_from_each_encryption --skip copies_need_the_keys --skip a_missing_and_a_wrong_key \
        --skip the_default_encryption --skip a_version_is_replaced_only --skip what_was_tried_to_know \
        --skip keys_come_in_the_order || status=$?
    eval "exec ${CEPH[1]}>&-"
    wait "$CEPH_PID" || true
    return $status
}

# Licences, bans, duplicate versions, sources. Advisories need the network's database: scripts/soak.
step_deny() {
    cargo_deny check licenses bans sources
}

DENY_VERSION=0.20.2

cargo_deny() {
    local root=$TARGET/tools
    if [ "$("$root/bin/cargo-deny" --version 2>/dev/null)" != "cargo-deny $DENY_VERSION" ]; then
        # Its release profile takes minutes to link, and it runs for seconds.
        CARGO_PROFILE_DEV_DEBUG=0 cargo install --quiet --locked --debug cargo-deny --version "$DENY_VERSION" --root "$root" --target-dir "$root/build"
        rm -rf "$root/build"
    fi
    "$root/bin/cargo-deny" --locked "$@"
}

# Tests leave no files and no processes behind.
step_leftovers() {
    local left pid
    left=$(ls -A "$SCRATCH")
    for pid in /proc/[0-9]*; do
        pid=${pid#/proc/}
        grep -qzxF "SIDEKEY_TEST_RUN=$SCRATCH" "/proc/$pid/environ" 2>/dev/null || continue
        # The shells of this very check carry the same mark.
        [ "$(cat "/proc/$pid/comm")" = bash ] || left+=" process $pid ($(cat "/proc/$pid/comm"))"
    done
    [ -z "$left" ] || { echo "left behind: $left"; return 1; }
}

step_clean_tree() {
    local now
    now=$(git status --porcelain)
    [ "$now" = "$1" ] || { printf 'the tests changed the working tree:\n%s\n' "$now"; return 1; }
}
