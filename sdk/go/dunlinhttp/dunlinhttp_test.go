package dunlinhttp_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"dunlin.dev/go"
	"dunlin.dev/go/dunlinhttp"
	"dunlin.dev/go/dunlintest"
)

func get(p *dunlintest.Platform, path string) (*http.Response, string) {
	request := httptest.NewRequest("GET", path, nil)
	request.Header.Set("dunlin-param-name", "J%C3%B6rg")
	response := p.Respond(request)
	body, _ := io.ReadAll(response.Body)
	return response, string(body)
}

func TestRequests(t *testing.T) {
	p := dunlintest.New(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Hello, %s!", r.PathValue("name"))
	})
	fails := map[string]error{
		"reject":  fmt.Errorf("so: %w", dunlin.Rejectf("`sku` is empty")),
		"problem": dunlinhttp.NewProblem(http.StatusNotFound, "there is no order %d", 7),
		"retry":   dunlin.RetryAfter(errors.New("password hunter2 refused"), 1500*time.Millisecond),
		"error":   errors.New("password hunter2 refused"),
	}
	for name, err := range fails {
		mux.Handle("GET /"+name, dunlinhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return err }))
	}
	mux.HandleFunc("GET /panic", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-half", "done")
		panic("hunter2")
	})
	mux.HandleFunc("GET /late", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "begun")
		panic("hunter2")
	})
	dunlinhttp.Serve(mux)

	_, body := get(p, "/hello")
	if body != "Hello, Jörg!" {
		t.Error(body)
	}
	for name, expected := range map[string]string{
		"reject":  "400 " + `{"status":400,"title":"Bad Request","detail":"so: ` + "`sku`" + ` is empty"}`,
		"problem": "404 " + `{"status":404,"title":"Not Found","detail":"there is no order 7"}`,
		"retry":   "503 " + `{"status":503,"title":"Service Unavailable"}`,
		"error":   "500 " + `{"status":500,"title":"Internal Server Error"}`,
		"panic":   "500 " + `{"status":500,"title":"Internal Server Error"}`,
		"late":    "200 begun",
	} {
		response, body := get(p, "/"+name)
		if found := fmt.Sprint(response.StatusCode, " ", body); found != expected {
			t.Errorf("%s: found %s, expected %s", name, found, expected)
		}
		if name == "retry" && response.Header.Get("Retry-After") != "2" {
			t.Error(response.Header)
		}
		if name == "panic" && response.Header.Get("x-half") != "" {
			t.Error(response.Header)
		}
	}
	logged := 0
	for _, line := range p.Logged() {
		logged += strings.Count(line.Message, "hunter2")
		if strings.HasPrefix(line.Message, "panic") && !strings.Contains(line.Message, "dunlinhttp_test.go:") {
			t.Error(line.Message)
		}
	}
	if logged != 4 {
		t.Error(p.Logged())
	}
}
