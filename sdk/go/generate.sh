#!/usr/bin/env sh
# Makes internal/bindings anew from sdk/wit. Only needed when an interface there changes. It takes the generator from
# crates.io:
#
#     cargo install wit-bindgen-cli --version 0.63.0 --locked --no-default-features --features go
set -eu
cd "$(dirname "$0")"
rm -rf internal/bindings
for world in events http; do
  wit-bindgen go --world "$world" --pkg-name dunlin.dev/go/internal/bindings --out-dir internal/bindings ../wit
  # Both worlds have their exports in a package of the same name; each is to be linked alone.
  mkdir -p internal/bindings/exports
  mv internal/bindings/exports/wit_exports "internal/bindings/exports/$world"
  sed -i "s/^package wit_exports/package $world/" "internal/bindings/exports/$world/wit_exports.go"
done
# What the generator leaves to a module of its own is in internal/wit here, with changes that it says. Resources aren't
# dropped by the garbage collector: it knows nothing of which of them has to go first.
find internal/bindings -name '*.go' | while read -r file; do
  sed -i \
    -e 's#"go.bytecodealliance.org/pkg/wit/#"dunlin.dev/go/internal/wit/#' \
    -e 's#"dunlin.dev/go/internal/bindings/exports/export_dunlin_function_handler"#export_dunlin_function_handler "dunlin.dev/go/internal/exported/events"#' \
    -e 's#"dunlin.dev/go/internal/bindings/exports/export_wasi_http_incoming_handler"#export_wasi_http_incoming_handler "dunlin.dev/go/internal/exported/http"#' \
    -e 's/^\tpinner := &runtime.Pinner{}$/\tpinner := witRuntime.Begin()/' \
    -e 's/^\tdefer pinner.Unpin()$/\tdefer witRuntime.End(pinner)/' \
    -e '/^\truntime.AddCleanup(/,/^\t}, 0)$/d' \
    -e 's/\bruntime\.Pinner\b/witRuntime.Pinner/' \
    -e '/^\t"runtime"$/d' \
    -e 's/\bunsafe\.\(String\|Slice\)(/witRuntime.\1(/g' \
    "$file"
  # The build constraint has to stand before the package clause. Types are left for all systems to compile.
  sed -i '1i //go:build wasip1\n' "$file"
done
gofmt -l -w internal/bindings >/dev/null
