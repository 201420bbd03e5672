#!/usr/bin/env bash
# The benchmark of languages: the function that `dunlin new` makes for HTTP, in each, on Dunlin and on `wasmtime serve`, in one
# run on one machine. Writes results.md. src/main.rs is the benchmark and says what its parts measure.
#
#   bench/languages/run.sh [build] [call]     all parts when none is named
#
#   DUNLIN     the platform's release binary     (target/release/dunlin)
#   WASMTIME   the wasmtime command              (bench/http/run.sh builds 48.0.8 into bench/target/peer)
#   ROUNDS     rounds of which the median counts (3)
#   SECONDS_   how long a server is loaded       (3)
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v wrk >/dev/null || { echo "bench: wrk is not installed; on Debian: apt-get install wrk" >&2; exit 1; }
export RUST_BACKTRACE=0
export WASMTIME=${WASMTIME:-$PWD/bench/target/peer/bin/wasmtime}
[ -x "$WASMTIME" ] || { echo "bench: there is no $WASMTIME; bench/http/run.sh builds it" >&2; exit 1; }
export DUNLIN=${DUNLIN:-$PWD/target/release/dunlin} ROUNDS=${ROUNDS:-3} SECONDS_=${SECONDS_:-3}
unset DUNLIN_SERVER DUNLIN_TOKEN DUNLIN_LISTEN DUNLIN_ADMIN DUNLIN_DATA
cargo build --locked --release --manifest-path bench/Cargo.toml --package dunlin-bench-languages
exec "${CARGO_TARGET_DIR:-bench/target}/release/dunlin-bench-languages" "$@"
