// Package dunlinhttp is for functions on Dunlin that answer requests: with any [http.Handler].
//
//	func main() {
//		mux := http.NewServeMux()
//		mux.HandleFunc("GET /invoices/{id}", invoice)
//		dunlinhttp.Serve(mux)
//	}
//
// Such a program answers requests and handles no events: Dunlin sees by this package's being there what it is. (Events reach
// it too where its manifest's triggers say so, as requests.)
package dunlinhttp

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"dunlin.dev/go"
	"dunlin.dev/go/internal/guard"
	"dunlin.dev/go/internal/web"
)

// Serve says who answers requests. Call it once, in main.
//
// Parameters of the manifest's path are there as those of a [http.ServeMux]'s patterns are, by their names in lowercase:
// r.PathValue("id"). A handler that panics is a 500 that says nothing to the caller; what happened is in the log, with the
// stack.
//
// What the handler writes is sent when it has returned, or when there are 64 KiB of it, or when it is flushed
// ([http.ResponseController]). A body of either side may be of any length and is passed on as it comes. When a handler
// panics that has begun to send, the caller sees the answer broken off, or a 502 as long as nothing of it has arrived.
func Serve(handler http.Handler) {
	if web.Handler != nil {
		panic("dunlinhttp: there is one handler in a function, and it has been set before")
	}
	web.Handler = wrap(handler)
	registered()
}

// A HandlerFunc is a handler that may fail. What the caller is told is application/problem+json (RFC 9457): of a [Problem]
// its status and text, of a [dunlin.Reject] a 400 with its text, and nothing of any other error: that is a 500, or a 503 for
// a [dunlin.RetryAfter], and what happened is in the log. It must not have written anything when it fails.
type HandlerFunc func(http.ResponseWriter, *http.Request) error

// ServeHTTP makes it an [http.Handler].
func (f HandlerFunc) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := f(w, r); err != nil {
		Error(w, err)
	}
}

// A Problem is an error with a status and a text that the caller may read.
type Problem struct {
	Status int
	Detail string
}

// NewProblem makes a [Problem].
func NewProblem(status int, format string, arguments ...any) error {
	return &Problem{status, fmt.Sprintf(format, arguments...)}
}

func (p *Problem) Error() string { return p.Detail }

// Error answers with an error as [HandlerFunc] does.
func Error(w http.ResponseWriter, err error) {
	var problem *Problem
	var reject *dunlin.RejectError
	var retry *dunlin.RetryError
	switch {
	case errors.As(err, &problem):
	case errors.As(err, &reject):
		problem = &Problem{http.StatusBadRequest, err.Error()}
	case errors.As(err, &retry):
		slog.Error(err.Error())
		// Whole seconds, and never too early.
		w.Header().Set("Retry-After", strconv.FormatInt(int64((retry.After+time.Second-1)/time.Second), 10))
		problem = &Problem{Status: http.StatusServiceUnavailable}
	default:
		slog.Error(err.Error())
		problem = &Problem{Status: http.StatusInternalServerError}
	}
	document, _ := json.Marshal(struct {
		Status int    `json:"status"`
		Title  string `json:"title,omitempty"`
		Detail string `json:"detail,omitempty"`
	}{problem.Status, http.StatusText(problem.Status), problem.Detail})
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(problem.Status)
	_, _ = w.Write(document)
}

// parameter is what the names of the headers begin with that path parameters arrive in.
const parameter = "Dunlin-Param-"

func wrap(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, values := range r.Header {
			if name, found := strings.CutPrefix(name, parameter); found {
				if value, err := url.PathUnescape(values[0]); err == nil {
					r.SetPathValue(strings.ToLower(name), value)
				}
			}
		}
		tracked := &tracked{ResponseWriter: w}
		_, err := guard.Call(func() (struct{}, error) {
			handler.ServeHTTP(tracked, r)
			return struct{}{}, nil
		})
		switch {
		case err == nil:
		case errors.Is(err, http.ErrAbortHandler):
			panic(http.ErrAbortHandler)
		case tracked.begun:
			slog.Error(err.Error())
			panic(http.ErrAbortHandler)
		default:
			clear(w.Header())
			Error(w, err)
		}
	})
}

// tracked knows whether an answer has begun.
type tracked struct {
	http.ResponseWriter
	begun bool
}

func (t *tracked) WriteHeader(status int) {
	t.begun = t.begun || status >= 200
	t.ResponseWriter.WriteHeader(status)
}

func (t *tracked) Write(data []byte) (int, error) {
	t.begun = true
	return t.ResponseWriter.Write(data)
}

// Flush is here for those who ask for an [http.Flusher].
func (t *tracked) Flush() {
	t.begun = true
	_ = http.NewResponseController(t.ResponseWriter).Flush()
}

func (t *tracked) Unwrap() http.ResponseWriter { return t.ResponseWriter }
