#!/bin/sh
# Tests the SDKs that aren't Rust, and the example functions in their languages, without WebAssembly; and makes the packages
# their registries take. Rust's are tested with the guests.
set -eu
cd "$(dirname "$0")/.."
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

echo "sdk/python"
(cd sdk/python && python3 -m unittest discover --quiet --start-directory tests --top-level-directory .)
(cd functions/orders/invoicing && PYTHONPATH=../../../sdk/python python3 -m unittest --quiet)
python3 -m venv "$made/python"
cp -r sdk/python "$made/source"
"$made/python/bin/python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$made" "$made/source"
ls "$made"/dunlin-*.whl >/dev/null

echo "sdk/javascript"
(cd sdk/javascript && npm ci --silent --no-fund --no-audit && npm test --silent && npm pack --silent --pack-destination "$made" >/dev/null)
(cd functions/orders/mailer && npm ci --silent --no-fund --no-audit && npm test --silent)

echo "sdk/go"
(cd sdk/go && go vet ./... && go test ./...)
(cd functions/orders/ledger && go vet ./... && go test ./...)
