//go:build wasip1

// Package start does what a program does at its start. A module that is a library has its packages initialized and no main
// called, so that is done here, before the first call is handled.
package start

import (
	"runtime/debug"
	_ "unsafe" // for go:linkname

	"dunlin.dev/go/internal/guard"
)

//go:linkname programMain main.main
func programMain()

var (
	started bool
	failed  error
)

func init() {
	// An endless recursion ends with Go's own message, and not by eating up all the memory the function may have.
	debug.SetMaxStack(16 << 20)
}

// Main runs main, once. What it panics with is the answer to every call.
func Main() error {
	if !started {
		started = true
		_, failed = guard.Call(func() (struct{}, error) {
			programMain()
			return struct{}{}, nil
		})
	}
	return failed
}
