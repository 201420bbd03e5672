#!/bin/sh
# Builds components that were not written for Dunlin: examples of the crates `wstd` (WASI 0.2) and `wasip3` (WASI 0.3),
# as they are published. They end up in functions/target/foreign/. What is there already is not built again, and what
# cargo has downloaded is not downloaded again.
set -eu
cd "$(dirname "$0")/../../functions"
out=$PWD/target/foreign
target=wasm32-wasip2
mkdir -p "$out"

# An example is built in its crate's own sources, with the lock file it was published with.
example() { # crate example file
    [ -s "$out/$3" ] && return
    manifest=$(cargo metadata --locked --format-version 1 | tr '"' '\n' | grep "/$1-[0-9][^/]*/Cargo.toml\$" | head -n 1)
    CARGO_PROFILE_RELEASE_STRIP=true cargo build --release --locked --target "$target" --target-dir target/foreign/build \
        --manifest-path "$manifest" --example "$2"
    # Copied aside and moved, so that a half-written file is never taken for a built one.
    cp "target/foreign/build/$target/release/examples/$3" "$out/$3.part"
    mv "$out/$3.part" "$out/$3"
}

example wstd http_server http_server.wasm
example wasip3 http-proxy http_proxy.wasm
ls -l "$out"/*.wasm
