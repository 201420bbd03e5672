//go:build wasip1

package wasi

import (
	"context"
	"errors"
	"io"
	"strings"

	types "dunlin.dev/go/internal/bindings/imports/wasi_http_types"
	"dunlin.dev/go/internal/bindings/imports/wasi_io_streams"
)

// Methods are the names of methods by the interface's numbers.
var Methods = [...]string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

// OfConnection says whether a header is the platform's business and not the function's.
func OfConnection(name string) bool {
	switch strings.ToLower(name) {
	case "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer",
		"transfer-encoding", "upgrade", "host", "http2-settings", "expect":
		return true
	}
	return false
}

// A Body is one that comes in, read as it comes.
type Body struct {
	Context  context.Context
	Incoming *types.IncomingBody
	stream   *wasi_io_streams.InputStream
	closed   bool
	end      error
}

// Read reads what is there, and waits until something is.
func (b *Body) Read(buffer []byte) (int, error) {
	if b.closed {
		return 0, errors.New("read of a body that has been closed")
	}
	if b.end != nil {
		return 0, b.end
	}
	if b.stream == nil {
		stream := b.Incoming.Stream()
		if stream.IsErr() {
			return 0, io.EOF
		}
		b.stream = stream.Ok()
	}
	read, err := Read(b.Context, b.stream, buffer)
	b.end = err
	return read, err
}

// Close leaves the rest unread.
func (b *Body) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	// A stream goes before what it is of.
	if b.stream != nil {
		b.stream.Drop()
	}
	b.Incoming.Drop()
	return nil
}
