package dunlin

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"time"

	"dunlin.dev/go/internal/host"
)

// An Event is a CloudEvent with its data as T: any type that encoding/json can read and write, string for text, []byte for
// the data as it is, and any for what comes.
//
// An event that was received and one that is being made are the same type, so that one can be passed on, changed a little,
// or made up by a test. A new one needs a type and data; the platform fills in what is empty of the others.
type Event[T any] struct {
	// ID is unique together with the source: a topic takes it once. Left out, it is made up, and the same when the run is
	// repeated.
	ID string
	// Source says who produced it: a URI, or a path. Left out, it is /functions/NAME.
	Source string
	// Type says what happened: order.created.
	Type string
	// Subject says what it is about, such as the order's id.
	Subject string
	// Time is when it happened. Left out, it is now.
	Time time.Time
	// Key is the extension partitionkey: events of a topic with the same key are handled one after another. Left out, an
	// event that is made of another has that one's.
	Key string
	// ContentType is the attribute datacontenttype. Left out, it is application/json, or application/octet-stream for
	// []byte. With one that isn't JSON, such as text/csv, a string is written as it is.
	ContentType string
	// Schema is the attribute dataschema: the URI of a schema the data follows.
	Schema string
	// Extensions are attributes with names of lowercase letters and digits. Values that are received are bool, int32 or
	// string; those that are sent may be other integers that fit, []byte, time.Time, and
	// what has a String, such as a *url.URL.
	Extensions map[string]any

	// Data is what happened, in the producer's words.
	Data T

	// Topic, Offset and Attempt say where a received event came from: its topic, its place there counted from 0, and how
	// often it has been tried, this time included. They are not sent.
	Topic   string
	Offset  uint64
	Attempt int
}

// NewEvent makes an event of a type, such as order.paid, with its data. The same as Event[T]{Type: kind, Data: data}, with
// T found by the compiler.
func NewEvent[T any](kind string, data T) Event[T] {
	return Event[T]{Type: kind, Data: data}
}

// Outgoing is an event to be published, whatever its data: an [Event] of any type.
type Outgoing interface {
	Answer
	draft() (host.Draft, error)
	delivery() (host.Delivery, error)
}

// Events are several events, of one type or of different ones, in their order.
type Events []Outgoing

func (e Event[T]) answer() ([]host.Draft, error) {
	if reflect.ValueOf(e).IsZero() {
		return nil, nil
	}
	return Events{e}.answer()
}

func (events Events) answer() ([]host.Draft, error) {
	drafts := make([]host.Draft, 0, len(events))
	for _, event := range events {
		draft, err := event.draft()
		if err != nil {
			return nil, err
		}
		drafts = append(drafts, draft)
	}
	return drafts, nil
}

func (e Event[T]) draft() (host.Draft, error) {
	fails := func(err error) (host.Draft, error) {
		return host.Draft{}, fmt.Errorf("an event of type %q can't be written: %w", e.Type, err)
	}
	if e.Type == "" {
		return fails(errors.New("its type is empty"))
	}
	draft := host.Draft{Attributes: host.Attributes{
		ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, ContentType: e.ContentType, Schema: e.Schema,
	}}
	if !e.Time.IsZero() {
		draft.Time = e.Time.Format(time.RFC3339Nano)
	}
	if len(e.Extensions) > 0 || e.Key != "" {
		draft.Extensions = make(map[string]any, len(e.Extensions)+1)
	}
	for name, value := range e.Extensions {
		attribute, err := attribute(value)
		if err != nil {
			return fails(fmt.Errorf("its extension %q %w", name, err))
		}
		draft.Extensions[name] = attribute
	}
	if e.Key != "" {
		draft.Extensions[partitionKey] = e.Key
	}
	contentType, data, err := encodeData(e.ContentType, e.Data)
	if err != nil {
		return fails(err)
	}
	draft.ContentType, draft.Data = contentType, data
	return draft, nil
}

func (e Event[T]) delivery() (host.Delivery, error) {
	draft, err := e.draft()
	return host.Delivery{Topic: e.Topic, Offset: e.Offset, Attempt: e.Attempt, Draft: draft}, err
}

const partitionKey = "partitionkey"

// attribute is an extension's value as one of the three types there are.
func attribute(value any) (any, error) {
	switch value := value.(type) {
	case bool, string:
		return value, nil
	case []byte:
		return base64.StdEncoding.EncodeToString(value), nil
	case time.Time:
		return value.Format(time.RFC3339Nano), nil
	case fmt.Stringer:
		return value.String(), nil
	}
	switch reflected := reflect.ValueOf(value); {
	case reflected.CanInt():
		if number := reflected.Int(); number >= math.MinInt32 && number <= math.MaxInt32 {
			return int32(number), nil
		}
		return nil, fmt.Errorf("is %v, which doesn't fit 32 bits: make it text", value)
	case reflected.CanUint():
		if number := reflected.Uint(); number <= math.MaxInt32 {
			return int32(number), nil
		}
		return nil, fmt.Errorf("is %v, which doesn't fit 32 bits: make it text", value)
	case reflected.Kind() == reflect.String:
		return reflected.String(), nil
	}
	return nil, fmt.Errorf("is a %T: only bool, integers and text can be sent", value)
}

// received is an event as it was handed over, without its data.
func received[T any](delivery host.Delivery) Event[T] {
	event := Event[T]{
		ID: delivery.ID, Source: delivery.Source, Type: delivery.Type, Subject: delivery.Subject,
		ContentType: delivery.ContentType, Schema: delivery.Schema,
		Topic: delivery.Topic, Offset: delivery.Offset, Attempt: delivery.Attempt,
	}
	// The platform has checked it.
	event.Time, _ = time.Parse(time.RFC3339Nano, delivery.Time)
	event.Extensions = maps.Clone(delivery.Extensions)
	if key, ok := event.Extensions[partitionKey].(string); ok {
		event.Key = key
		delete(event.Extensions, partitionKey)
		if len(event.Extensions) == 0 {
			event.Extensions = nil
		}
	}
	return event
}

func decode[T any](delivery host.Delivery) (Event[T], error) {
	event := received[T](delivery)
	if err := decodeData(delivery.ContentType, delivery.Data, &event.Data); err != nil {
		return event, Rejectf("the data of `%s`, of type `%s`, is no `%s`: %w",
			event.ID, event.Type, typeName(reflect.TypeFor[T]()), err)
	}
	return event, nil
}
