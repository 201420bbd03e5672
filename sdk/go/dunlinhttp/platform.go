//go:build wasip1

package dunlinhttp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	_ "dunlin.dev/go/internal/bindings/exports/http" // the export
	types "dunlin.dev/go/internal/bindings/imports/wasi_http_types"
	"dunlin.dev/go/internal/bindings/imports/wasi_io_streams"
	exported "dunlin.dev/go/internal/exported/http"
	"dunlin.dev/go/internal/host"
	"dunlin.dev/go/internal/start"
	"dunlin.dev/go/internal/wasi"
	"dunlin.dev/go/internal/web"
	wit "dunlin.dev/go/internal/wit/types"
)

func init() { exported.Handle = handle }

func registered() {}

func handle(incoming *types.IncomingRequest, answer *types.ResponseOutparam) {
	defer host.End()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	response := &response{ctx: ctx, cancel: cancel, answer: answer, header: http.Header{}}

	request, body, err := received(ctx, incoming)
	defer incoming.Drop()
	if body != nil {
		defer body.Close()
	}
	switch main := start.Main(); {
	case main != nil:
		Error(response, errors.New("the function's main failed: "+main.Error()))
	case web.Handler == nil:
		Error(response, errors.New("the function's main doesn't say who answers its requests: have it call dunlinhttp.Serve"))
	case err != nil:
		Error(response, err)
	default:
		response.head = request.Method == http.MethodHead
		if serve(response, request) {
			response.abort()
			return
		}
	}
	response.finish()
}

// serve answers whether the answer is to be broken off.
func serve(response *response, request *http.Request) (abort bool) {
	defer func() {
		// The handler's panics end in wrap, all but this.
		abort = recover() != nil
	}()
	web.Handler.ServeHTTP(response, request)
	return false
}

func received(ctx context.Context, incoming *types.IncomingRequest) (*http.Request, io.Closer, error) {
	path := incoming.PathWithQuery().SomeOr("/")
	if path == "" {
		path = "/"
	}
	parsed, err := url.ParseRequestURI(path)
	if err != nil {
		return nil, nil, &Problem{http.StatusBadRequest, "the URI is none"}
	}
	request := (&http.Request{
		Method:     method(incoming.Method()),
		URL:        parsed,
		RequestURI: path,
		Host:       incoming.Authority().SomeOr(""),
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     http.Header{},
		Body:       http.NoBody,
	}).WithContext(ctx)
	headers := incoming.Headers()
	for _, entry := range headers.Entries() {
		name := http.CanonicalHeaderKey(entry.F0)
		request.Header[name] = append(request.Header[name], string(entry.F1))
	}
	headers.Drop()
	// The last is who called the platform; those before it anybody may have made up.
	callers := request.Header.Values("X-Forwarded-For")
	if len(callers) > 0 {
		last := callers[len(callers)-1]
		request.RemoteAddr = strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])
	}

	length := request.Header.Get("Content-Length")
	if length == "0" || length == "" && (request.Method == http.MethodGet || request.Method == http.MethodHead) {
		return request, nil, nil
	}
	if request.ContentLength, err = strconv.ParseInt(length, 10, 64); err != nil {
		request.ContentLength = -1
	}
	consumed := incoming.Consume()
	if consumed.IsErr() {
		return request, nil, nil
	}
	body := &wasi.Body{Context: ctx, Incoming: consumed.Ok()}
	request.Body = body
	return request, body, nil
}

func method(method types.Method) string {
	if method.Tag() == types.Method_Other {
		return method.Other()
	}
	return wasi.Methods[method.Tag()]
}

// A response is what a handler writes to. The head is sent with the first part of the body.
type response struct {
	ctx    context.Context
	cancel context.CancelFunc
	answer *types.ResponseOutparam
	head   bool // to a HEAD request
	header http.Header
	status int
	held   []byte
	body   *types.OutgoingBody
	stream *wasi_io_streams.OutputStream
	sent   bool
	err    error
}

// hold is how much is held back, so that a short answer has a Content-Length.
const hold = 64 << 10

func (r *response) Header() http.Header { return r.header }

func (r *response) WriteHeader(status int) {
	// Informational answers can't be sent.
	if r.status == 0 && status >= 200 {
		r.status = status
		r.header = r.header.Clone()
	}
}

func (r *response) Write(data []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	if r.status == http.StatusNoContent || r.status == http.StatusNotModified {
		return 0, http.ErrBodyNotAllowed
	}
	if r.head {
		return len(data), nil
	}
	if r.err != nil {
		return 0, r.err
	}
	if !r.sent && len(r.held)+len(data) <= hold {
		r.held = append(r.held, data...)
		return len(data), nil
	}
	if err := r.FlushError(); err != nil {
		return 0, err
	}
	written, err := wasi.Write(r.ctx, r.stream, data)
	if err != nil {
		r.err = err
		r.cancel()
	}
	return written, err
}

// FlushError sends what is held back.
func (r *response) FlushError() error {
	r.send()
	if r.err == nil && len(r.held) > 0 {
		_, r.err = wasi.Write(r.ctx, r.stream, r.held)
		r.held = nil
	}
	if r.err == nil && r.stream != nil {
		r.err = wasi.Flush(r.ctx, r.stream)
	}
	if r.err != nil {
		// The caller is gone, most likely.
		r.cancel()
	}
	return r.err
}

// send sends the head.
func (r *response) send() {
	if r.sent {
		return
	}
	r.sent = true
	r.WriteHeader(http.StatusOK)
	if len(r.held) > 0 && r.header.Get("Content-Type") == "" && r.header.Get("Content-Encoding") == "" {
		r.header.Set("Content-Type", http.DetectContentType(r.held))
	}
	headers := wit.Tuple2[string, []uint8]{}
	var entries []wit.Tuple2[string, []uint8]
	for name, values := range r.header {
		if wasi.OfConnection(name) {
			continue
		}
		headers.F0 = strings.ToLower(name)
		for _, value := range values {
			headers.F1 = []byte(value)
			entries = append(entries, headers)
		}
	}
	fields := types.FieldsFromList(entries)
	if fields.IsErr() {
		r.err = errors.New("the answer has a header that it can't have")
		slog.Error(r.err.Error(), "header", r.header)
		types.ResponseOutparamSet(r.answer, wit.Err[*types.OutgoingResponse](types.MakeErrorCodeInternalError(wit.None[string]())))
		return
	}
	outgoing := types.MakeOutgoingResponse(fields.Ok())
	if outgoing.SetStatusCode(uint16(r.status)).IsErr() {
		r.err = errors.New("there is no status " + strconv.Itoa(r.status))
		slog.Error(r.err.Error())
		outgoing.Drop()
		types.ResponseOutparamSet(r.answer, wit.Err[*types.OutgoingResponse](types.MakeErrorCodeInternalError(wit.None[string]())))
		return
	}
	r.body = outgoing.Body().Ok()
	types.ResponseOutparamSet(r.answer, wit.Ok[*types.OutgoingResponse, types.ErrorCode](outgoing))
	r.stream = r.body.Write().Ok()
}

// finish sends what is left.
func (r *response) finish() {
	if !r.sent {
		r.WriteHeader(http.StatusOK)
		if r.header.Get("Content-Length") == "" && r.status >= 200 && r.status != http.StatusNoContent &&
			r.status != http.StatusNotModified && !r.head {
			r.header.Set("Content-Length", strconv.Itoa(len(r.held)))
		}
	}
	if r.FlushError() != nil {
		r.abort()
		return
	}
	r.stream.Drop()
	// An error here says that the length was not the announced one; the platform notices that itself.
	types.OutgoingBodyFinish(r.body, wit.None[*types.Fields]())
	r.stream, r.body = nil, nil
}

// abort breaks it off.
func (r *response) abort() {
	if !r.sent {
		r.sent = true
		types.ResponseOutparamSet(r.answer, wit.Err[*types.OutgoingResponse](types.MakeErrorCodeInternalError(wit.None[string]())))
	}
	if r.stream != nil {
		r.stream.Drop()
		r.body.Drop()
		r.stream, r.body = nil, nil
	}
}
