//go:build wasip1

// Package wasi waits for what WASI's streams and requests wait for.
//
// A call of the host that blocks holds up every goroutine. So nothing here blocks on its own account: goroutines that wait
// leave what they wait for to one of them, which asks the host for all at once when nothing else can run. That is how several
// requests are under way at the same time.
package wasi

import (
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"time"

	clock "dunlin.dev/go/internal/bindings/imports/wasi_clocks_monotonic_clock"
	"dunlin.dev/go/internal/bindings/imports/wasi_io_poll"
	"dunlin.dev/go/internal/bindings/imports/wasi_io_streams"
)

type waiter struct {
	pollable *wasi_io_poll.Pollable
	ready    chan struct{}
}

// There is one thread, and none of this is done across something that lets another goroutine run.
var (
	waiters []*waiter
	polling bool
)

// Wait waits until something is ready, and drops it.
func Wait(ctx context.Context, pollable *wasi_io_poll.Pollable) error {
	defer pollable.Drop()
	if err := ctx.Err(); err != nil {
		return err
	}
	if pollable.Ready() {
		return nil
	}
	w := &waiter{pollable, make(chan struct{})}
	waiters = append(waiters, w)
	if !polling {
		polling = true
		go poll()
	}
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		waiters = slices.DeleteFunc(waiters, func(other *waiter) bool { return other == w })
		return ctx.Err()
	}
}

// Goroutines that sleep are woken by Go, which learns how late it is when the host has answered.
const tick = 5 * time.Millisecond

func poll() {
	defer func() { polling = false }()
	for {
		// Everyone else comes first. What they wait for is known when they are through.
		runtime.Gosched()
		if len(waiters) == 0 {
			return
		}
		timer := clock.SubscribeDuration(uint64(tick))
		asked := slices.Clone(waiters)
		pollables := make([]*wasi_io_poll.Pollable, 0, len(asked)+1)
		for _, waiter := range asked {
			pollables = append(pollables, waiter.pollable)
		}
		ready := wasi_io_poll.Poll(append(pollables, timer))
		timer.Drop()
		for _, index := range ready {
			if int(index) < len(asked) {
				done := asked[index]
				waiters = slices.DeleteFunc(waiters, func(other *waiter) bool { return other == done })
				close(done.ready)
			}
		}
	}
}

// ErrClosed is what a stream is that the other side has closed.
var ErrClosed = errors.New("the other side has closed the connection")

// Read reads what is there, and waits until something is. The end is io.EOF.
func Read(ctx context.Context, stream *wasi_io_streams.InputStream, buffer []byte) (int, error) {
	if len(buffer) == 0 {
		return 0, nil
	}
	for {
		result := stream.Read(uint64(min(len(buffer), 64<<10)))
		if result.IsErr() {
			return 0, streamError(result.Err(), io.EOF)
		}
		if data := result.Ok(); len(data) > 0 {
			return copy(buffer, data), nil
		}
		if err := Wait(ctx, stream.Subscribe()); err != nil {
			return 0, err
		}
	}
}

// Write writes all of it.
func Write(ctx context.Context, stream *wasi_io_streams.OutputStream, data []byte) (int, error) {
	written := 0
	for written < len(data) {
		room := stream.CheckWrite()
		if room.IsErr() {
			return written, streamError(room.Err(), ErrClosed)
		}
		length := min(int(room.Ok()), len(data)-written)
		if length == 0 {
			if err := Wait(ctx, stream.Subscribe()); err != nil {
				return written, err
			}
			continue
		}
		if result := stream.Write(data[written : written+length]); result.IsErr() {
			return written, streamError(result.Err(), ErrClosed)
		}
		written += length
	}
	return written, nil
}

// Flush waits until what was written is on its way.
func Flush(ctx context.Context, stream *wasi_io_streams.OutputStream) error {
	if result := stream.Flush(); result.IsErr() {
		return streamError(result.Err(), ErrClosed)
	}
	// There is room again when the flush is done.
	for {
		if err := Wait(ctx, stream.Subscribe()); err != nil {
			return err
		}
		room := stream.CheckWrite()
		if room.IsErr() {
			return streamError(room.Err(), ErrClosed)
		}
		if room.Ok() > 0 {
			return nil
		}
	}
}

func streamError(reason wasi_io_streams.StreamError, closed error) error {
	if reason.Tag() == wasi_io_streams.StreamError_Closed {
		return closed
	}
	failure := reason.LastOperationFailed()
	defer failure.Drop()
	return errors.New(failure.ToDebugString())
}
