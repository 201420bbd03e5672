//go:build !wasip1

package dunlin

import (
	"fmt"
	"os"
	"testing"
)

// Outside of WebAssembly there is nobody who would call the handler but a test.
func registered() {
	if !testing.Testing() {
		fmt.Fprintln(os.Stderr, "This is a function for Dunlin: `dunlin build` and `dunlin dev` build it, `go test` tests it.")
		os.Exit(2)
	}
}
