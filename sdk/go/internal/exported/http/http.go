//go:build wasip1

// Package http is what the export that answers requests calls.
package http

import types "dunlin.dev/go/internal/bindings/imports/wasi_http_types"

// Handle is the exported function, between the types of the interface. Package dunlinhttp sets it: this one is linked where
// that one is.
var Handle func(*types.IncomingRequest, *types.ResponseOutparam)
