//go:build !wasip1

// Package dunlintest runs functions in tests, on a platform in memory. Nothing of it needs WebAssembly.
//
//	func TestOrdersArePaid(t *testing.T) {
//		platform := dunlintest.New(t)
//
//		// Called as it is:
//		paid, err := onOrder(t.Context(), dunlintest.Event("order.created", Order{Total: 1290}))
//		...
//
//		// Or as the platform does it, data that can't be read included:
//		main()
//		_, err = platform.Deliver(dunlintest.Event("order.created", "nonsense"))
//		...
//		if platform.State()["orders"] != 1.0 { ... }
//	}
//
// It refuses what the platform refuses about keys, values and events, so that a test fails where a run would. Variables and
// secrets are set with [testing.T.Setenv].
package dunlintest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"dunlin.dev/go"
	"dunlin.dev/go/internal/bridge"
	"dunlin.dev/go/internal/host"
	"dunlin.dev/go/internal/web"
)

// A Platform is one in memory. It is there for one test: tests that have one can't run in parallel.
type Platform struct {
	t      testing.TB
	memory *host.Memory
	logged []LogLine
}

// A LogLine is what was logged. Its fields are text, by their names.
type LogLine struct {
	Level   slog.Level
	Message string
	Fields  map[string]string
}

// Published is an event as it was published or returned, with its data written out: see [Data].
type Published = dunlin.Event[[]byte]

var current *Platform

// New makes a platform, on which there is nothing yet: no handler either. It takes the place of one the test made before.
func New(t testing.TB) *Platform {
	t.Helper()
	if current != nil && current.t != t {
		t.Fatal("another test has a platform: tests that have one can't run in parallel")
	}
	p := &Platform{t: t, memory: &host.Memory{}}
	p.memory.OnLog = p.log
	logger, before := slog.Default(), host.Now
	current, host.Now = p, p.memory
	host.OnDeliveries, web.Handler = nil, nil
	slog.SetDefault(slog.New(dunlin.LogHandler()))
	t.Cleanup(func() {
		current, host.Now = nil, before
		host.OnDeliveries, web.Handler = nil, nil
		slog.SetDefault(logger)
	})
	return p
}

// Event makes an event as a handler gets it: the first attempt, at the next offset of the topic test. Change what else it is
// to have.
func Event[T any](kind string, data T) dunlin.Event[T] {
	event := dunlin.NewEvent(kind, data)
	event.ID = fmt.Sprintf("test-%d", made)
	event.Source = "/testing"
	event.Time = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	event.Topic, event.Offset, event.Attempt = "test", made, 1
	made++
	return event
}

var made uint64

// Deliver hands an event to the handler that [dunlin.Handle] or one of its siblings was given, as the platform does: its data
// is written out and read again, and nothing is published or kept if it isn't taken. It answers with the events the handler
// returned.
func (p *Platform) Deliver(event dunlin.Outgoing) ([]Published, error) {
	p.t.Helper()
	outcome := p.DeliverAll(event)[0]
	return outcome.Events, outcome.Err
}

// An Outcome is what became of one event: what was returned for it, or why it was not taken: a [*dunlin.RejectError], a
// [*dunlin.RetryError] or another error, which is a retry too.
type Outcome struct {
	Events []Published
	Err    error
}

// DeliverAll hands several events to the handler in one call, and answers for each. If one isn't taken, nothing of the call
// is published or kept.
func (p *Platform) DeliverAll(events ...dunlin.Outgoing) []Outcome {
	p.t.Helper()
	if host.OnDeliveries == nil {
		p.t.Fatal("nobody handles events: call main or dunlin.Handle before")
	}
	deliveries := make([]host.Delivery, len(events))
	for i, event := range events {
		delivery, err := bridge.Delivery(event)
		if err != nil {
			p.t.Fatal(err)
		}
		deliveries[i] = delivery
	}
	before := p.memory.Snapshot()
	taken := true
	outcomes := make([]Outcome, len(events))
	for i, outcome := range host.OnDeliveries(deliveries) {
		outcomes[i] = answered(outcome)
		taken = taken && outcomes[i].Err == nil
	}
	host.End()
	if !taken {
		p.memory.Published, p.memory.Buckets = before.Published, before.Buckets
	}
	return outcomes
}

func answered(outcome host.Outcome) Outcome {
	switch {
	case outcome.Failed && outcome.Reject:
		return Outcome{Err: dunlin.Reject(errors.New(outcome.Reason))}
	case outcome.Failed && outcome.After > 0:
		return Outcome{Err: dunlin.RetryAfter(errors.New(outcome.Reason), outcome.After)}
	case outcome.Failed:
		return Outcome{Err: errors.New(outcome.Reason)}
	}
	var answer Outcome
	for _, event := range outcome.Events {
		if err := host.Check(event.Attributes); err != nil {
			return Outcome{Err: err}
		}
		answer.Events = append(answer.Events, bridge.Event(event).(Published))
	}
	return answer
}

// Respond has a request answered by the handler that dunlinhttp.Serve was given, as the platform does. A path parameter is
// the header it arrives in: dunlin-param-id. Requests are made with [httptest.NewRequest].
func (p *Platform) Respond(request *http.Request) (response *http.Response) {
	p.t.Helper()
	if web.Handler == nil {
		p.t.Fatal("nobody answers requests: call main or dunlinhttp.Serve before")
	}
	recorder := httptest.NewRecorder()
	defer func() {
		// The connection is broken off; what the caller has by then is there.
		if recovered := recover(); recovered != nil && recovered != http.ErrAbortHandler {
			panic(recovered)
		}
		host.End()
		response = recorder.Result()
	}()
	ctx, cancel := context.WithCancel(request.Context())
	defer cancel()
	web.Handler.ServeHTTP(recorder, request.WithContext(ctx))
	return nil
}

// Published is what was published to a topic, in order. What a handler returns is not among it.
func (p *Platform) Published(topic string) []Published {
	var events []Published
	for _, published := range p.memory.Published {
		if published.Topic == topic {
			events = append(events, bridge.Event(published.Event).(Published))
		}
	}
	return events
}

// Data reads the data of an event that was published, as what it is meant to be.
func Data[T any](t testing.TB, event Published) T {
	t.Helper()
	var data T
	if err := bridge.DecodeData(event.ContentType, event.Data, &data); err != nil {
		t.Fatalf("the data of an event of type %q: %v", event.Type, err)
	}
	return data
}

// State is what is in the function's own bucket, as encoding/json reads it. What isn't JSON is text.
func (p *Platform) State() map[string]any { return p.SharedState("default") }

// SharedState is what is in a shared bucket.
func (p *Platform) SharedState(name string) map[string]any {
	values := map[string]any{}
	for key, data := range p.memory.Buckets[name] {
		var value any
		if json.Unmarshal(data, &value) != nil {
			value = string(data)
		}
		values[key] = value
	}
	return values
}

// Logged is what was logged with log/slog and log, in order. It is in the output of the test too.
func (p *Platform) Logged() []LogLine { return p.logged }

var levels = [...]slog.Level{dunlin.LevelTrace, slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}

func (p *Platform) log(level host.Level, message string, fields []host.Field) {
	line := LogLine{Level: levels[level], Message: message, Fields: map[string]string{}}
	text := strings.Builder{}
	for _, field := range fields {
		line.Fields[field.Name] = field.Value
		fmt.Fprintf(&text, " %s=%s", field.Name, field.Value)
	}
	p.logged = append(p.logged, line)
	p.t.Logf("%s %s%s", line.Level, message, text.String())
}
