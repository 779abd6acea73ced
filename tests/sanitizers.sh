#!/usr/bin/env bash
# Builds host and plugins with a sanitizer of LLVM, and runs them: a short soak, and tests in which plugins are replaced.
#
#   tests/sanitizers.sh address            tests in which plugins are replaced, and a short soak
#   tests/sanitizers.sh address all        every integration test
#   tests/sanitizers.sh address unloading::  the integration tests of these names
#   RELOADS=3000 tests/sanitizers.sh address soak
#
# What is built lies in target/sanitized. See docs/sanitizers.md.
set -euo pipefail
cd "$(dirname "$0")/.."

sanitizer=${1:?address}
what=${2:-short}
reloads=${RELOADS:-40}

# The compiler's flag is not stable, and the compiler that everything else is built with has it all the same.
export RUSTC_BOOTSTRAP=1
# With a target that is named, the flags are not those of build scripts and macros.
export CARGO_BUILD_TARGET=x86_64-unknown-linux-gnu
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/sanitized/$sanitizer
# The runtime of the sanitizer is linked into executables alone, and libraries find it there.
export RUSTFLAGS="-Zsanitizer=$sanitizer -Clink-arg=-Wl,--export-dynamic"

# Statics of a library that is closed are lost with it, and what a plugin keeps for its whole life is no leak.
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:${ASAN_OPTIONS:-}

soak() {
    cargo run -p ksi-soak -- --reloads "$reloads" --clients 6
}

# Of all that a plugin may do to its library, its threads and its values. Left out is what weighs memory, of which the
# sanitizer needs many times as much, and what replaces a plugin a thousand times.
short() {
    cargo test -p ksi-tests --test integration -- threads:: unloading:: values:: \
        --skip two_hundred_replacements --skip more_replacements_than_the_system_has_keys \
        --skip cannot_be_unmapped_is_in_the_end_replaced_no_more
}

case $what in
    short) short && soak ;;
    soak) soak ;;
    all) cargo test -p ksi-plugin-api -p ksi-host -p ksi-tests ;;
    *) cargo test -p ksi-tests --test integration -- "${@:2}" ;;
esac
