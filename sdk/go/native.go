//go:build !wasip1

package dunlin

import (
	"fmt"
	"os"
	"testing"

	"dunlin.dev/go/internal/bridge"
	"dunlin.dev/go/internal/host"
)

func init() {
	bridge.Delivery = func(event any) (host.Delivery, error) { return event.(Outgoing).delivery() }
	bridge.Event = func(draft host.Draft) any {
		event := received[[]byte](host.Delivery{Draft: draft})
		event.Data = draft.Data
		return event
	}
	bridge.DecodeData = decodeData
}

// Outside of WebAssembly there is nobody who would call the handler but a test.
func registered() {
	if !testing.Testing() {
		fmt.Fprintln(os.Stderr, "This is a function for Dunlin: `dunlin build` and `dunlin dev` build it, `go test` tests it.")
		os.Exit(2)
	}
}
