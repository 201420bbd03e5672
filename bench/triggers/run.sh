#!/usr/bin/env bash
# The benchmark of many triggers: what they cost a platform to start with, and while nothing happens. Writes results.md.
# src/main.rs is the benchmark and says what its parts measure.
#
#   bench/triggers/run.sh [schedules] [webhooks] [files] [large]     all parts when none is named
#
#   DUNLIN     the platform's release binary        (target/release/dunlin)
#   SECONDS_   how long an idle platform is watched (30)
#   SCHEDULES, WEBHOOKS, FILES   how many           (10000, 1000, 100000)
#   LARGE      bytes of the large file              (10000000000)
set -euo pipefail
cd "$(dirname "$0")/../.."
export RUST_BACKTRACE=0
export DUNLIN=${DUNLIN:-$PWD/target/release/dunlin} SECONDS_=${SECONDS_:-30}
export SCHEDULES=${SCHEDULES:-10000} WEBHOOKS=${WEBHOOKS:-1000} FILES=${FILES:-100000}
export LARGE=${LARGE:-10000000000}
unset DUNLIN_SERVER DUNLIN_TOKEN DUNLIN_LISTEN DUNLIN_ADMIN DUNLIN_DATA
cargo build --locked --release --manifest-path bench/Cargo.toml --package dunlin-bench-triggers
exec "${CARGO_TARGET_DIR:-bench/target}/release/dunlin-bench-triggers" "$@"
