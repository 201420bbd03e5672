#!/usr/bin/env bash
# The HTTP benchmark: Dunlin, `wasmtime serve` and bare hyper side by side, in one run on one machine. Writes results.md.
# This gets what the benchmark needs; src/main.rs is the benchmark and says what its parts measure.
#
#   bench/http/run.sh [load] [idle] [first] [many]     all parts when none is named
#
#   DUNLIN     the platform's release binary     (target/release/dunlin)
#   WASMTIME   the wasmtime command              (48.0.8 is built into bench/target/peer when missing; takes minutes)
#   ROUNDS     rounds of which the median counts (3)
#   SECONDS_   how long a server is loaded       (5)
#   PYTHON     a large component to time, such as one made by componentize-py; left out when not given
set -euo pipefail
cd "$(dirname "$0")/../.."
version=48.0.8

if ! command -v wrk >/dev/null; then
  [ "$(id -u)" = 0 ] || { echo "bench: wrk is not installed; on Debian: apt-get install wrk" >&2; exit 1; }
  apt-get install -y wrk || { apt-get update && apt-get install -y wrk; }
fi
if [ -z "${WASMTIME:-}" ]; then
  WASMTIME=$PWD/bench/target/peer/bin/wasmtime
  # The features `serve` needs: what else the command can do isn't measured and takes minutes to build.
  [ -x "$WASMTIME" ] || CARGO_TARGET_DIR=$PWD/bench/target/peer/build cargo install wasmtime-cli --version "$version" --locked \
    --root "$PWD/bench/target/peer" --no-default-features --features run,serve,cranelift,compile,pooling-allocator,parallel-compilation,component-model,component-model-async,backtrace,addr2line,demangle,logging,cache,threads
fi

# wasmtime captures a backtrace for each host error when this is 1, which costs a fifth of the throughput on either side.
export RUST_BACKTRACE=0
export WASMTIME DUNLIN=${DUNLIN:-$PWD/target/release/dunlin} ROUNDS=${ROUNDS:-3} SECONDS_=${SECONDS_:-5}
unset DUNLIN_SERVER DUNLIN_TOKEN DUNLIN_LISTEN DUNLIN_ADMIN DUNLIN_DATA
cargo build --locked --release --manifest-path bench/Cargo.toml
exec "${CARGO_TARGET_DIR:-bench/target}/release/dunlin-bench-http" "$@"
