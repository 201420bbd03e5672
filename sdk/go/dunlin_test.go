package dunlin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"dunlin.dev/go"
	"dunlin.dev/go/dunlintest"
)

type Item struct {
	Price int `json:"price"`
}

type Order struct {
	ID    string          `json:"id"`
	Total int             `json:"total"`
	Items []Item          `json:"items,omitempty"`
	Notes map[string]Item `json:"notes,omitempty"`
}

func equal(t *testing.T, found, expected any) {
	t.Helper()
	if !reflect.DeepEqual(found, expected) {
		t.Errorf("found %#v, expected %#v", found, expected)
	}
}

func contains(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("found the error %v, expected one with %q", err, text)
	}
}

func isReject(err error) bool {
	var reject *dunlin.RejectError
	return errors.As(err, &reject)
}

func TestOneEventIn(t *testing.T) {
	p := dunlintest.New(t)
	dunlin.Handle(func(ctx context.Context, order dunlin.Event[Order]) (dunlin.Event[int], error) {
		equal(t, order.Type, "order.created")
		equal(t, order.Key, "ada")
		equal(t, order.Extensions, map[string]any{"currency": "EUR", "urgent": true, "weight": int32(3)})
		equal(t, order.Time, time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC))
		equal(t, order.Attempt, 1)
		paid := dunlin.NewEvent("order.paid", order.Data.Total)
		paid.Subject = order.Data.ID
		return paid, nil
	})
	event := dunlintest.Event("order.created", Order{ID: "7", Total: 1290})
	event.Key = "ada"
	event.Extensions = map[string]any{"currency": "EUR", "urgent": true, "weight": 3}
	events, err := p.Deliver(event)
	if err != nil || len(events) != 1 {
		t.Fatal(events, err)
	}
	equal(t, dunlintest.Data[int](t, events[0]), 1290)
	equal(t, events[0].Subject, "7")
	equal(t, events[0].ContentType, "application/json")
	equal(t, events[0].ID, "")
}

func TestAnswersAreNoneOneOrSeveral(t *testing.T) {
	p := dunlintest.New(t)
	dunlin.Handle(func(ctx context.Context, what dunlin.Event[string]) (dunlin.Events, error) {
		switch what.Data {
		case "none":
			return nil, nil
		case "several":
			return dunlin.Events{
				dunlin.NewEvent("number", 1),
				dunlin.Event[string]{Type: "csv", Data: "a,b", ContentType: "text/csv"},
				dunlin.Event[[]byte]{Type: "bytes", Data: []byte{0, 255}},
				dunlin.Event[any]{Type: "nothing"},
			}, nil
		}
		return dunlin.Events{dunlin.NewEvent("", 1)}, nil
	})
	events, err := p.Deliver(dunlintest.Event("do", "none"))
	if err != nil || len(events) != 0 {
		t.Error(events, err)
	}
	events, err = p.Deliver(dunlintest.Event("do", "several"))
	if err != nil || len(events) != 4 {
		t.Fatal(events, err)
	}
	equal(t, string(events[1].Data), "a,b")
	equal(t, events[2].ContentType, "application/octet-stream")
	equal(t, events[2].Data, []byte{0, 255})
	equal(t, events[3].Data, []byte(nil))
	_, err = p.Deliver(dunlintest.Event("do", "untyped"))
	contains(t, err, "its type is empty")
}

func TestAnEmptyEventIsNone(t *testing.T) {
	p := dunlintest.New(t)
	dunlin.Handle(func(ctx context.Context, event dunlin.Event[int]) (dunlin.Event[[]int], error) {
		if event.Data == 0 {
			return dunlin.Event[[]int]{}, nil
		}
		return dunlin.Event[[]int]{Data: []int{event.Data}}, nil // forgets the type
	})
	events, err := p.Deliver(dunlintest.Event("number", 0))
	if err != nil || len(events) != 0 {
		t.Error(events, err)
	}
	_, err = p.Deliver(dunlintest.Event("number", 1))
	contains(t, err, "its type is empty")
}

func TestErrorsSayWhatBecomesOfTheEvent(t *testing.T) {
	p := dunlintest.New(t)
	dunlin.Consume(func(ctx context.Context, event dunlin.Event[string]) error {
		if _, err := dunlin.State().Increment("tried", 1); err != nil {
			return err
		}
		switch event.Data {
		case "reject":
			return fmt.Errorf("in here: %w", dunlin.Rejectf("there is no %s", "tea"))
		case "later":
			return fmt.Errorf("in here: %w", dunlin.RetryAfter(errors.New("busy"), time.Minute))
		case "both":
			return dunlin.RetryAfter(dunlin.Reject(errors.New("busy")), time.Minute)
		case "panic":
			var order *Order
			order.Total++
		case "ok":
			return nil
		}
		return errors.New("down")
	})
	_, err := p.Deliver(dunlintest.Event("do", "reject"))
	contains(t, err, "in here: there is no tea")
	equal(t, isReject(err), true)
	for _, what := range []string{"later", "both"} {
		_, err = p.Deliver(dunlintest.Event("do", what))
		var retry *dunlin.RetryError
		if !errors.As(err, &retry) || retry.After != time.Minute || isReject(err) {
			t.Error(what, err)
		}
	}
	_, err = p.Deliver(dunlintest.Event("do", "anything"))
	equal(t, err.Error(), "down")

	_, err = p.Deliver(dunlintest.Event("do", "panic"))
	lines := strings.Split(err.Error(), "\n")
	equal(t, lines[0], "panic: runtime error: invalid memory address or nil pointer dereference")
	equal(t, lines[1], "")
	equal(t, lines[2], "dunlin.dev/go_test.TestErrorsSayWhatBecomesOfTheEvent.func1(...)")
	contains(t, errors.New(lines[3]), "dunlin_test.go:")
	equal(t, lines[4:], []string{""}) // nothing of the runtime or of the SDK
	equal(t, isReject(err), false)

	equal(t, p.State(), map[string]any{}) // nothing was kept
	_, err = p.Deliver(dunlintest.Event("do", "ok"))
	equal(t, err, nil)
	equal(t, p.State()["tried"], 1.0)
}

func TestOneBadEventDoesNotLoseItsNeighbours(t *testing.T) {
	p := dunlintest.New(t)
	dunlin.Handle(func(ctx context.Context, event dunlin.Event[int]) (dunlin.Event[int], error) {
		return dunlin.NewEvent("quotient", 6/event.Data), nil
	})
	outcomes := p.DeliverAll(dunlintest.Event("n", 2), dunlintest.Event("n", 0), dunlintest.Event("n", "x"), dunlintest.Event("n", 3))
	equal(t, dunlintest.Data[int](t, outcomes[0].Events[0]), 3)
	contains(t, outcomes[1].Err, "panic: runtime error: integer divide by zero")
	equal(t, isReject(outcomes[2].Err), true)
	equal(t, dunlintest.Data[int](t, outcomes[3].Events[0]), 2)
}

func TestABatchHasAnAnswerForEachEvent(t *testing.T) {
	p := dunlintest.New(t)
	answer := func(events []dunlin.Event[int]) ([]dunlin.Outcome, error) { return nil, nil }
	dunlin.HandleBatch(func(ctx context.Context, events []dunlin.Event[int]) ([]dunlin.Outcome, error) { return answer(events) })
	deliver := func() []dunlintest.Outcome {
		return p.DeliverAll(dunlintest.Event("n", 1), dunlintest.Event("n", "x"), dunlintest.Event("n", 2))
	}
	outcomes := deliver()
	equal(t, outcomes[0], dunlintest.Outcome{})
	equal(t, isReject(outcomes[1].Err), true)

	answer = func(events []dunlin.Event[int]) ([]dunlin.Outcome, error) {
		equal(t, len(events), 2)
		return []dunlin.Outcome{{Events: dunlin.Events{events[0]}}, {Err: dunlin.Rejectf("two")}}, nil
	}
	outcomes = deliver()
	equal(t, len(outcomes[0].Events), 1)
	equal(t, isReject(outcomes[1].Err), true)
	contains(t, outcomes[2].Err, "two")

	answer = func([]dunlin.Event[int]) ([]dunlin.Outcome, error) { return make([]dunlin.Outcome, 1), nil }
	contains(t, deliver()[2].Err, "answered 1 times to 2 events")
	answer = func([]dunlin.Event[int]) ([]dunlin.Outcome, error) { return nil, errors.New("down") }
	contains(t, deliver()[0].Err, "down")
	answer = func([]dunlin.Event[int]) ([]dunlin.Outcome, error) { panic("at the disco") }
	contains(t, deliver()[0].Err, "panic: at the disco")
	// Where none can be read, the handler isn't called.
	answer = func([]dunlin.Event[int]) ([]dunlin.Outcome, error) { t.Error("called"); return nil, nil }
	equal(t, isReject(p.DeliverAll(dunlintest.Event("n", "x"))[0].Err), true)
}

type checked struct {
	Age int `json:"age"`
}

func (c *checked) Validate() error {
	if c.Age < 0 {
		return errors.New("age is negative")
	}
	return nil
}

func reason[T any](t *testing.T, event dunlin.Outgoing) string {
	t.Helper()
	p := dunlintest.New(t)

	dunlin.Consume(func(context.Context, dunlin.Event[T]) error { return nil })
	_, err := p.Deliver(event)
	if err == nil {
		return ""
	}
	equal(t, isReject(err), true)
	_, text, _ := strings.Cut(err.Error(), ", is no ")
	return text
}

func data[T any](t *testing.T, contentType string, bytes []byte) T {
	t.Helper()
	p := dunlintest.New(t)

	var data T
	dunlin.Consume(func(_ context.Context, event dunlin.Event[T]) error { data = event.Data; return nil })
	event := dunlintest.Event("data", bytes)
	event.ContentType = contentType
	if _, err := p.Deliver(event); err != nil {
		t.Error(err)
	}
	return data
}

func TestDataIsWhatItsContentTypeSays(t *testing.T) {
	equal(t, data[Order](t, "application/vnd.shop+JSON; v=1", []byte(`{"total":3}`)), Order{Total: 3})
	equal(t, data[*Order](t, "application/json", []byte(`{"total":3}`)), &Order{Total: 3})
	equal(t, data[*Order](t, "application/json", nil), (*Order)(nil))
	equal(t, data[struct{}](t, "", nil), struct{}{})
	equal(t, data[string](t, "application/json", []byte(`"text"`)), "text")
	equal(t, data[string](t, "text/plain", []byte(`"text"`)), `"text"`)
	equal(t, data[any](t, "text/plain", []byte("text")), any("text"))
	equal(t, data[any](t, "image/png", []byte{0x89, 0xff}), any([]byte{0x89, 0xff}))
	equal(t, data[any](t, "application/json", []byte(`[1]`)), any([]any{1.0}))
	equal(t, data[[]byte](t, "application/json", []byte("{}")), []byte("{}"))
	equal(t, data[json.RawMessage](t, "application/json", []byte("{}")), json.RawMessage("{}"))
	equal(t, data[checked](t, "application/json", []byte(`{"age":3}`)), checked{3})
}

func TestWhatIsWrongIsSaidWithItsPlace(t *testing.T) {
	raw := func(text string) dunlin.Outgoing {
		event := dunlintest.Event("order.created", []byte(text))
		event.ContentType = "application/json"
		return event
	}
	for text, expected := range map[string]string{
		`{"items":[{"price":3},{"price":"3"}]}`: "`Order`: items[1].price: expected int, found string",
		`{"items":[{"price":[]}]}`:              "`Order`: items[0].price: expected int, found array",
		`{"items":[{"price":{"a":1}}]}`:         "`Order`: items[0].price: expected int, found object",
		`{"items":{"a":[1,2]}}`:                 "`Order`: items: expected []dunlin_test.Item, found object",
		`{"a":[[1,{"b":[2]}]],"total":1.5}`:     "`Order`: total: expected int, found number 1.5",
		`{"notes":{"a":{"price":1},"b":true}}`:  "`Order`: notes.b: expected dunlin_test.Item, found bool",
		`[1]`:                                   "`Order`: expected dunlin_test.Order, found array",
		`"x"`:                                   "`Order`: expected dunlin_test.Order, found string",
		`{"total":}`:                            "`Order`: at byte 10: invalid character '}' looking for beginning of value",
		`{} x`:                                  "`Order`: at byte 4: invalid character 'x' after top-level value",
	} {
		equal(t, reason[Order](t, raw(text)), expected)
	}
	equal(t, reason[Order](t, dunlintest.Event[any]("order.created", nil)), "`Order`: it is not there")
	equal(t, reason[[]Order](t, raw(`[{"total":"x"}]`)), "`[]dunlin_test.Order`: [0].total: expected int, found string")
	equal(t, reason[checked](t, raw(`{"age":-1}`)), "`checked`: age is negative")
	text := dunlintest.Event("order.created", "a,b")
	text.ContentType = "text/csv"
	contains(t, errors.New(reason[Order](t, text)), "its content type is `text/csv`")
}

func TestState(t *testing.T) {
	p := dunlintest.New(t)
	state := dunlin.State()
	sum, err := state.Increment("orders", 2)
	equal(t, []any{sum, err}, []any{int64(2), nil})
	names, err := dunlin.Update(state, "names", func(old []string) ([]string, error) { return append(old, "ada"), nil })
	equal(t, []any{names, err}, []any{[]string{"ada"}, nil})
	_, err = dunlin.Update(state, "names", func(old []string) ([]string, error) { return nil, errors.New("full") })
	equal(t, err.Error(), "full")
	equal(t, p.State(), map[string]any{"orders": 2.0, "names": []any{"ada"}})

	if err := dunlin.SetMany(state, map[string]int{"a": 1, "b": 2}); err != nil {
		t.Error(err)
	}
	contains(t, dunlin.SetMany(state, map[string]int{"c": 1, "": 2}), "this one is empty")
	many, err := dunlin.GetMany[int](state, "a", "c", "b")
	equal(t, []any{many, err}, []any{map[string]int{"a": 1, "b": 2}, nil})
	exists, _ := state.Exists("c")
	equal(t, exists, false)

	for i := range 25 {
		if err := dunlin.SharedState("numbers").Set(fmt.Sprintf("%02d", i), i); err != nil {
			t.Error(err)
		}
	}
	var keys []string
	for key, err := range dunlin.SharedState("numbers").Keys() {
		if err != nil {
			t.Error(err)
		}
		keys = append(keys, key)
	}
	equal(t, len(keys), 25)
	equal(t, slices.IsSorted(keys), true)

	_, _, err = dunlin.Get[int](state, "names")
	contains(t, err, "the function's state: `names` holds no `int`: expected int, found array")
	contains(t, state.Set("line\n", 1), "no control characters")
	contains(t, state.SetBytes("big", make([]byte, 1<<20+1)), "a value has up to 1048576 bytes")
	equal(t, state.SetBytes("bytes", []byte{0xff}), nil)
	_, err = state.Increment("bytes", 1)
	contains(t, err, "holds no number")
	equal(t, state.Delete("a", "b", "bytes"), nil)
	_, found, err := dunlin.Get[int](state, "a")
	equal(t, []any{found, err}, []any{false, nil})
}

func TestPublish(t *testing.T) {
	p := dunlintest.New(t)
	err := dunlin.Publish("mail", dunlin.NewEvent("mail.wanted", "<ada>"), dunlin.Event[int]{Type: "count", Key: "k", Data: 1})
	equal(t, err, nil)
	published := p.Published("mail")
	equal(t, len(published), 2)
	equal(t, string(published[0].Data), `"<ada>"`) // without the escapes of HTML
	equal(t, published[1].Key, "k")
	contains(t, dunlin.Publish("Mail!", published[0]), "failed to publish to `Mail!`: it is not a topic name")
	contains(t, dunlin.Publish("mail", dunlin.Event[int]{Type: "x", Extensions: map[string]any{"Up": 1}}), "`Up` is not the name")
	contains(t, dunlin.Publish("mail", dunlin.Event[int]{Type: "x", Extensions: map[string]any{"n": 1 << 40}}), "doesn't fit 32 bits")
	contains(t, dunlin.Publish("mail", dunlin.Event[int]{Type: "x", ContentType: "text/csv"}), "made of a string or []byte")
	equal(t, len(p.Published("mail")), 2)
}

func TestLog(t *testing.T) {
	p := dunlintest.New(t)
	slog.With("a", 1).WithGroup("g").Warn("text", "b", errors.New("no"), slog.Group("h", "c", time.Second))
	slog.Log(t.Context(), dunlin.LevelTrace, "step")
	equal(t, p.Logged(), []dunlintest.LogLine{
		{Level: slog.LevelWarn, Message: "text", Fields: map[string]string{"a": "1", "g.b": "no", "g.h.c": "1s"}},
		{Level: dunlin.LevelTrace, Message: "step", Fields: map[string]string{}},
	})
}

func TestConfig(t *testing.T) {
	t.Setenv("LIMIT", "5000")
	t.Setenv("PAUSE", "1m30s")
	t.Setenv("KEY", "hunter2")
	limit, err := dunlin.Config[uint16]("LIMIT")
	equal(t, []any{limit, err}, []any{uint16(5000), nil})
	pause, err := dunlin.ConfigOr("PAUSE", time.Second)
	equal(t, []any{pause, err}, []any{90 * time.Second, nil})
	currency, err := dunlin.ConfigOr("CURRENCY", "EUR")
	equal(t, []any{currency, err}, []any{"EUR", nil})
	_, err = dunlin.Config[string]("CURRENCY")
	contains(t, err, "`CURRENCY` is not set: name it in the manifest's `allow.env` or `allow.secrets`")
	_, err = dunlin.Config[int]("KEY")
	contains(t, err, "`KEY` is no `int`: invalid syntax")
	if strings.Contains(err.Error(), "hunter2") {
		t.Error("a secret is in an error")
	}
}
