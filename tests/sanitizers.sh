#!/usr/bin/env bash
# Builds host and plugins with a sanitizer of LLVM, and runs them: a short soak, and tests in which plugins are replaced.
#
#   tests/sanitizers.sh address            tests in which plugins are replaced, and a short soak
#   tests/sanitizers.sh address all        the tests of host, API and integration
#   tests/sanitizers.sh address unloading::  the integration tests of these names
#   RELOADS=3000 tests/sanitizers.sh address soak
#   tests/sanitizers.sh thread soak        whether a race is found, and a short soak
#   tests/sanitizers.sh thread race        whether a race is found, and nothing else
#
# What is built lies in target/sanitized. See docs/sanitizers.md.
set -euo pipefail
cd "$(dirname "$0")/.."

sanitizer=${1:?address or thread}
what=${2:-short}
reloads=${RELOADS:-40}

# The compiler's flag is not stable, and the compiler that everything else is built with has it all the same.
export RUSTC_BOOTSTRAP=1
# With a target that is named, the flags are not those of build scripts and macros.
export CARGO_BUILD_TARGET=x86_64-unknown-linux-gnu
export CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-target}")/sanitized/$sanitizer
# The runtime of the sanitizer is linked into executables alone, and libraries find it there.
export RUSTFLAGS="-Zsanitizer=$sanitizer -Clink-arg=-Wl,--export-dynamic"

# Statics of a library that is closed are lost with it, and what a plugin keeps for its whole life is no leak.
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:${ASAN_OPTIONS:-}
export TSAN_OPTIONS=halt_on_error=1:${TSAN_OPTIONS:-}

# The functions of std that tests/sanitizers/thread.rs is put around, by the names that this compiler has given them.
wrap() {
    local variable=$1 name
    name=$(grep -aoE "_RNvM(s[0-9a-z]*_)?(Nt)+Cs[0-9A-Za-z]+_3std$2" "$std" | sort -u)
    if [[ $(wc -w <<<"$name") != 1 ]]; then
        echo "tests/sanitizers.sh: $std has no function $2, or several: '$name'. Has std changed?" >&2
        exit 1
    fi
    export "$variable=$name"
    RUSTFLAGS+=" -Clink-arg=-Wl,--wrap=$name"
}

# What ThreadSanitizer does not see in the standard library, it is told.
tell_of_std() {
    local source=tests/sanitizers/thread.rs object std
    # Cargo does not look into it: another source is another name, with which all is linked anew.
    object=$CARGO_TARGET_DIR/std-orders-$(cksum <$source | cut -d' ' -f1).o
    std=$(echo "$(rustc --print target-libdir --target "$CARGO_BUILD_TARGET")"/libstd-*.rlib)
    # The standard library was not built with it, and its generic functions, as far as it has them ready, neither.
    RUSTFLAGS+=" -Cunsafe-allow-abi-mismatch=sanitizer -Zshare-generics=no"
    wrap MUTEX_LOCK '3sys4sync5mutex5futexNtB[0-9]+_5Mutex14lock_contended'
    wrap RWLOCK_READ '3sys4sync6rwlock5futexNtB[0-9]+_6RwLock14read_contended'
    wrap RWLOCK_WRITE '3sys4sync6rwlock5futexNtB[0-9]+_6RwLock15write_contended'
    wrap CONDVAR_WAIT '3sys4sync7condvar5futexNtB[0-9]+_7Condvar4wait'
    wrap CONDVAR_WAIT_TIMEOUT '3sys4sync7condvar5futexNtB[0-9]+_7Condvar12wait_timeout'
    wrap BARRIER_WAIT '4sync7barrierNtB[0-9]+_7Barrier4wait'
    wrap ONCE_CALL '3sys4sync4once5futexNtB[0-9]+_4Once4call'
    for name in __tsan_atomic64_fetch_sub epoll_ctl epoll_wait; do
        RUSTFLAGS+=" -Clink-arg=-Wl,--wrap=$name"
    done
    mkdir -p "$CARGO_TARGET_DIR"
    rustc --edition 2024 --crate-type lib --emit obj -Copt-level=2 \
        --target "$CARGO_BUILD_TARGET" "$source" -o "$object"
    RUSTFLAGS+=" -Clink-arg=$object"
}

# A host with a plugin that has a race must end with a report of it: else nothing that is not reported means anything.
finds_a_race() {
    local folder host status=0 built=$CARGO_TARGET_DIR/$CARGO_BUILD_TARGET/debug
    cargo build -p ksi -p ksi-fixture-race
    folder=$(mktemp -d)
    mkdir "$folder/plugins"
    cp "$built/libksi_fixture_race.so" "$folder/plugins/"
    "$built/ksi" --socket "$folder/socket" run --plugins "$folder/plugins" --no-state \
        2>"$folder/log" &
    host=$!
    for _ in {1..300}; do
        # 3: there is no host yet, or no more.
        "$built/ksi" --socket "$folder/socket" emit race:run '{}' >>"$folder/answers" 2>&1 || true
        kill -0 $host 2>/dev/null || break
        sleep 0.2
    done
    kill $host 2>/dev/null || true
    wait $host || status=$?
    if [[ $status != 66 ]] || ! grep -q 'ThreadSanitizer: data race' "$folder/log"; then
        cat "$folder/log" "$folder/answers" >&2
        rm -r "$folder"
        echo "tests/sanitizers.sh: a race in a plugin was not reported: the host ended with $status" >&2
        exit 1
    fi
    rm -r "$folder"
    echo "a race in a plugin is found"
}

soak() {
    cargo run -p ksi-soak -- --reloads "$reloads" --clients 6
}

# Of all that a plugin may do to its library, its threads and its values. Left out is what weighs memory, of which the
# sanitizer needs many times as much, and what replaces a plugin a thousand times.
short() {
    cargo test -p ksi-tests --test integration -- threads:: unloading:: values:: \
        leftovers:: signals:: exclusive:: kept:: rollback:: \
        --skip two_hundred_replacements --skip more_replacements_than_the_system_has_keys \
        --skip cannot_be_unmapped_is_in_the_end_replaced_no_more
}

# Left out is what cannot be where a sanitizer is put before functions of the C library: threads that were started past what a
# library notes are not found, and a function that is looked up is not the one that the program would call.
all() {
    cargo test -p ksi-abi -p ksi-plugin-api -p ksi-harness -p ksi-kernel -p ksi-host \
        -p ksi -p ksi-tests -- \
        --skip leftover_threads:: --skip threads::origin:: --skip threads::search:: \
        --skip only_the_c_librarys_function_of_a_name_is_replaced \
        --skip the_c_library_is_needed_by_this_program
}

if [[ $sanitizer == thread ]]; then
    tell_of_std
    finds_a_race
fi

case $what in
    short) short && soak ;;
    soak) soak ;;
    race) ;;
    all) all ;;
    *) cargo test -p ksi-tests --test integration -- "${@:2}" ;;
esac
