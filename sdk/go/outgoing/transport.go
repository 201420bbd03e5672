//go:build wasip1

package outgoing

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"dunlin.dev/go/internal/bindings/imports/wasi_http_outgoing_handler"
	types "dunlin.dev/go/internal/bindings/imports/wasi_http_types"
	"dunlin.dev/go/internal/host"
	"dunlin.dev/go/internal/wasi"
	wit "dunlin.dev/go/internal/wit/types"
)

// Transport sends requests by the platform. It is what http.DefaultTransport is.
type Transport struct{}

// RoundTrip sends a request and answers when the head of the response is there.
func (Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Body != nil {
		defer request.Body.Close()
	}
	ctx := request.Context()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	outgoing, err := outgoingRequest(request)
	if err != nil {
		return nil, err
	}
	body := outgoing.Body().Ok()
	result := wasi_http_outgoing_handler.Handle(outgoing, options(ctx))
	if result.IsErr() {
		body.Drop()
		return nil, failure(result.Err())
	}
	future := result.Ok()
	defer future.Drop()
	if err := send(ctx, request, body); err != nil {
		return nil, err
	}
	for {
		got := future.Get()
		if got.IsNone() {
			if err := wasi.Wait(ctx, future.Subscribe()); err != nil {
				return nil, err
			}
			continue
		}
		response := got.Some().Ok()
		if response.IsErr() {
			return nil, failure(response.Err())
		}
		return received(ctx, request, response.Ok()), nil
	}
}

func outgoingRequest(request *http.Request) (*types.OutgoingRequest, error) {
	var entries []wit.Tuple2[string, []uint8]
	add := func(name, value string) {
		entries = append(entries, wit.Tuple2[string, []uint8]{F0: strings.ToLower(name), F1: []byte(value)})
	}
	for name, values := range request.Header {
		if wasi.OfConnection(name) || name == "Content-Length" {
			continue
		}
		for _, value := range values {
			add(name, value)
		}
	}
	if request.Body != nil && request.Body != http.NoBody && request.ContentLength > 0 {
		add("content-length", strconv.FormatInt(request.ContentLength, 10))
	} else if (request.Body == nil || request.Body == http.NoBody) &&
		(request.Method == http.MethodPost || request.Method == http.MethodPut || request.Method == http.MethodPatch) {
		add("content-length", "0")
	}
	fields := types.FieldsFromList(entries)
	if fields.IsErr() {
		return nil, errors.New("the request has a header that it can't have")
	}
	outgoing := types.MakeOutgoingRequest(fields.Ok())
	method := types.MakeMethodOther(request.Method)
	if index := slices.Index(wasi.Methods[:], request.Method); index >= 0 {
		method = methods[index]()
	} else if request.Method == "" {
		method = types.MakeMethodGet()
	}
	scheme := types.MakeSchemeOther(request.URL.Scheme)
	switch request.URL.Scheme {
	case "http":
		scheme = types.MakeSchemeHttp()
	case "https":
		scheme = types.MakeSchemeHttps()
	}
	if outgoing.SetMethod(method).IsErr() || outgoing.SetScheme(wit.Some(scheme)).IsErr() ||
		outgoing.SetAuthority(wit.Some(request.URL.Host)).IsErr() ||
		outgoing.SetPathWithQuery(wit.Some(request.URL.RequestURI())).IsErr() {
		outgoing.Drop()
		return nil, errors.New("the request has a method or a URL that it can't have")
	}
	return outgoing, nil
}

var methods = [...]func() types.Method{
	types.MakeMethodGet, types.MakeMethodHead, types.MakeMethodPost, types.MakeMethodPut, types.MakeMethodDelete,
	types.MakeMethodConnect, types.MakeMethodOptions, types.MakeMethodTrace, types.MakeMethodPatch,
}

// options has the platform give up when the caller has.
func options(ctx context.Context) wit.Option[*types.RequestOptions] {
	deadline, found := ctx.Deadline()
	if !found {
		return wit.None[*types.RequestOptions]()
	}
	left := wit.Some(uint64(max(time.Until(deadline), time.Millisecond)))
	options := types.MakeRequestOptions()
	options.SetConnectTimeout(left)
	options.SetFirstByteTimeout(left)
	options.SetBetweenBytesTimeout(left)
	return wit.Some(options)
}

func send(ctx context.Context, request *http.Request, body *types.OutgoingBody) error {
	if request.Body == nil || request.Body == http.NoBody {
		types.OutgoingBodyFinish(body, wit.None[*types.Fields]())
		return nil
	}
	stream := body.Write().Ok()
	buffer := make([]byte, 32<<10)
	for {
		read, err := request.Body.Read(buffer)
		_, failed := wasi.Write(ctx, stream, buffer[:read])
		switch {
		case failed != nil && ctx.Err() == nil, err == io.EOF:
			// A server may answer before it has read everything; the answer says what it thinks.
			if failed == nil {
				failed = wasi.Flush(ctx, stream)
			}
			stream.Drop()
			if failed != nil {
				body.Drop()
			} else {
				types.OutgoingBodyFinish(body, wit.None[*types.Fields]())
			}
			return ctx.Err()
		case failed != nil:
			err = failed
			fallthrough
		case err != nil:
			stream.Drop()
			body.Drop()
			return err
		}
	}
}

func received(ctx context.Context, request *http.Request, incoming *types.IncomingResponse) *http.Response {
	defer incoming.Drop()
	status := int(incoming.Status())
	response := &http.Response{
		Status:        strings.TrimSpace(strconv.Itoa(status) + " " + http.StatusText(status)),
		StatusCode:    status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        http.Header{},
		Body:          http.NoBody,
		ContentLength: -1,
		Request:       request,
	}
	headers := incoming.Headers()
	for _, entry := range headers.Entries() {
		name := http.CanonicalHeaderKey(entry.F0)
		response.Header[name] = append(response.Header[name], string(entry.F1))
	}
	headers.Drop()
	if length, err := strconv.ParseInt(response.Header.Get("Content-Length"), 10, 64); err == nil {
		response.ContentLength = length
	}
	if consumed := incoming.Consume(); consumed.IsOk() {
		body := &wasi.Body{Context: ctx, Incoming: consumed.Ok()}
		// Those who don't close it keep it no longer than this call.
		host.AtEnd(func() { _ = body.Close() })
		response.Body = body
	}
	return response
}

// The names of the interface's cases, in their order.
var codes = [...]string{
	"DNS-timeout", "DNS-error", "destination-not-found", "destination-unavailable", "destination-IP-prohibited",
	"destination-IP-unroutable", "connection-refused", "connection-terminated", "connection-timeout",
	"connection-read-timeout", "connection-write-timeout", "connection-limit-reached", "TLS-protocol-error",
	"TLS-certificate-error", "TLS-alert-received", "HTTP-request-denied", "HTTP-request-length-required",
	"HTTP-request-body-size", "HTTP-request-method-invalid", "HTTP-request-URI-invalid", "HTTP-request-URI-too-long",
	"HTTP-request-header-section-size", "HTTP-request-header-size", "HTTP-request-trailer-section-size",
	"HTTP-request-trailer-size", "HTTP-response-incomplete", "HTTP-response-header-section-size",
	"HTTP-response-header-size", "HTTP-response-body-size", "HTTP-response-trailer-section-size",
	"HTTP-response-trailer-size", "HTTP-response-transfer-coding", "HTTP-response-content-coding", "HTTP-response-timeout",
	"HTTP-upgrade-failed", "HTTP-protocol-error", "loop-detected", "configuration-error", "internal-error",
}

func failure(code types.ErrorCode) error {
	failure := &Error{Code: "error " + strconv.Itoa(int(code.Tag()))}
	if int(code.Tag()) < len(codes) {
		failure.Code = codes[code.Tag()]
	}
	switch code.Tag() {
	case types.ErrorCode_InternalError:
		failure.Detail = code.InternalError().SomeOr("")
	case types.ErrorCode_DnsError:
		failure.Detail = code.DnsError().Rcode.SomeOr("")
	}
	return failure
}
