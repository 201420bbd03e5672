#!/usr/bin/env bash
# The benchmark of the database trigger: Dunlin and pg_recvlogical on the same changes, in one run on one machine. Writes
# results.md. src/main.rs is the benchmark and says what its parts measure. It needs PostgreSQL 15 (Debian: postgresql-15).
#
#   bench/cdc/run.sh [behind] [latency]     all parts when none is named
#
#   DUNLIN     the platform's release binary        (target/release/dunlin)
#   ROUNDS     rounds of which the median counts    (3)
#   SECONDS_   how long changes are made            (10)
#   CHANGES    changes to catch up with, of `behind`   (200000)
#   RATE       commits a second, of `latency`       (500)
set -euo pipefail
cd "$(dirname "$0")/../.."
export RUST_BACKTRACE=0
export DUNLIN=${DUNLIN:-$PWD/target/release/dunlin} ROUNDS=${ROUNDS:-3} SECONDS_=${SECONDS_:-10}
export CHANGES=${CHANGES:-200000} RATE=${RATE:-500}
unset DUNLIN_SERVER DUNLIN_TOKEN DUNLIN_LISTEN DUNLIN_ADMIN DUNLIN_DATA
cargo build --locked --release --manifest-path bench/Cargo.toml --package dunlin-bench-cdc
exec "${CARGO_TARGET_DIR:-bench/target}/release/dunlin-bench-cdc" "$@"
