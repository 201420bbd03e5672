//go:build !wasip1

// Package bridge is what package dunlin lets package dunlintest do, and nobody else.
package bridge

import "dunlin.dev/go/internal/host"

var (
	// Delivery is an event (a dunlin.Outgoing) as it is handed to a handler.
	Delivery func(event any) (host.Delivery, error)
	// Event is a draft as a dunlin.Event[[]byte].
	Event func(host.Draft) any
	// DecodeData reads data.
	DecodeData func(contentType string, data []byte, into any) error
)
