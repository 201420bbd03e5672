//go:build wasip1

package host

import (
	"errors"
	"sort"

	logs "dunlin.dev/go/internal/bindings/imports/dunlin_function_log"
	publishing "dunlin.dev/go/internal/bindings/imports/dunlin_function_publish"
	types "dunlin.dev/go/internal/bindings/imports/dunlin_function_types"
	"dunlin.dev/go/internal/bindings/imports/wasi_keyvalue_atomics"
	"dunlin.dev/go/internal/bindings/imports/wasi_keyvalue_batch"
	"dunlin.dev/go/internal/bindings/imports/wasi_keyvalue_store"
	wit "dunlin.dev/go/internal/wit/types"
)

// Publish publishes events to a topic.
func Publish(topic string, events []Draft) error {
	drafts := make([]types.Draft, len(events))
	for i, event := range events {
		drafts[i] = ToWIT(event)
	}
	if result := publishing.Publish(topic, drafts); result.IsErr() {
		return errors.New(result.Err())
	}
	return nil
}

// Log writes a line.
func Log(level Level, message string, fields []Field) {
	tuples := make([]wit.Tuple2[string, string], len(fields))
	for i, field := range fields {
		tuples[i] = wit.Tuple2[string, string]{F0: field.Name, F1: field.Value}
	}
	logs.Write(uint8(level), message, tuples)
}

// FromWIT takes an event over from the platform.
func FromWIT(event types.Event) Draft {
	draft := Draft{
		Attributes: Attributes{
			ID:          event.Id,
			Source:      event.Source,
			Type:        event.Kind,
			Subject:     event.Subject.SomeOr(""),
			Time:        event.Time.SomeOr(""),
			ContentType: event.DataContentType.SomeOr(""),
			Schema:      event.DataSchema.SomeOr(""),
		},
		Data: event.Data.SomeOr(nil),
	}
	if len(event.Extensions) > 0 {
		draft.Extensions = make(map[string]any, len(event.Extensions))
	}
	for _, extension := range event.Extensions {
		switch value := extension.F1; value.Tag() {
		case types.Attribute_Boolean:
			draft.Extensions[extension.F0] = value.Boolean()
		case types.Attribute_Integer:
			draft.Extensions[extension.F0] = value.Integer()
		default:
			draft.Extensions[extension.F0] = value.Text()
		}
	}
	return draft
}

// ToWIT hands an event over.
func ToWIT(draft Draft) types.Draft {
	extensions := make([]wit.Tuple2[string, types.Attribute], 0, len(draft.Extensions))
	for name, value := range draft.Extensions {
		var attribute types.Attribute
		switch value := value.(type) {
		case bool:
			attribute = types.MakeAttributeBoolean(value)
		case int32:
			attribute = types.MakeAttributeInteger(value)
		default:
			attribute = types.MakeAttributeText(value.(string))
		}
		extensions = append(extensions, wit.Tuple2[string, types.Attribute]{F0: name, F1: attribute})
	}
	// A map has no order, and a run that is repeated should do the same again.
	sort.Slice(extensions, func(i, j int) bool { return extensions[i].F0 < extensions[j].F0 })
	data := wit.None[[]uint8]()
	if draft.Data != nil {
		data = wit.Some(draft.Data)
	}
	return types.Draft{
		Id:              option(draft.ID),
		Source:          option(draft.Source),
		Kind:            draft.Type,
		Subject:         option(draft.Subject),
		Time:            option(draft.Time),
		DataContentType: option(draft.ContentType),
		DataSchema:      option(draft.Schema),
		Extensions:      extensions,
		Data:            data,
	}
}

func option(text string) wit.Option[string] {
	if text == "" {
		return wit.None[string]()
	}
	return wit.Some(text)
}

// A Bucket of state, open.
type Bucket struct {
	bucket *wasi_keyvalue_store.Bucket
}

// Those that were opened in this call. They are closed when it ends, rather than by whoever uses them.
var opened map[string]Bucket

// Open opens a bucket.
func Open(name string) (Bucket, error) {
	if bucket, ok := opened[name]; ok {
		return bucket, nil
	}
	result := wasi_keyvalue_store.Open(name)
	if result.IsErr() {
		return Bucket{}, failure(result.Err())
	}
	if opened == nil {
		opened = map[string]Bucket{}
		AtEnd(func() {
			for _, bucket := range opened {
				bucket.bucket.Drop()
			}
			opened = nil
		})
	}
	bucket := Bucket{result.Ok()}
	opened[name] = bucket
	return bucket, nil
}

// Get answers with nil where there is nothing.
func (b Bucket) Get(key string) ([]byte, error) {
	result := b.bucket.Get(key)
	if result.IsErr() {
		return nil, failure(result.Err())
	}
	return held(result.Ok()), nil
}

// Set writes a value.
func (b Bucket) Set(key string, value []byte) error {
	return done(b.bucket.Set(key, value))
}

// Delete takes away what a key holds.
func (b Bucket) Delete(key string) error {
	return done(b.bucket.Delete(key))
}

// Exists says whether a key holds something.
func (b Bucket) Exists(key string) (bool, error) {
	result := b.bucket.Exists(key)
	if result.IsErr() {
		return false, failure(result.Err())
	}
	return result.Ok(), nil
}

// Keys answers with a page of keys, and where the next one begins, or nothing.
func (b Bucket) Keys(cursor string) ([]string, string, error) {
	result := b.bucket.ListKeys(option(cursor))
	if result.IsErr() {
		return nil, "", failure(result.Err())
	}
	page := result.Ok()
	return page.Keys, page.Cursor.SomeOr(""), nil
}

// GetMany answers in the order of the keys, with nil where there is nothing.
func (b Bucket) GetMany(keys []string) ([][]byte, error) {
	result := wasi_keyvalue_batch.GetMany(b.bucket, keys)
	if result.IsErr() {
		return nil, failure(result.Err())
	}
	values := make([][]byte, len(keys))
	for i, value := range result.Ok() {
		values[i] = held(value.F1)
	}
	return values, nil
}

// SetMany writes all or nothing.
func (b Bucket) SetMany(keys []string, values [][]byte) error {
	entries := make([]wit.Tuple2[string, []uint8], len(keys))
	for i, key := range keys {
		entries[i] = wit.Tuple2[string, []uint8]{F0: key, F1: values[i]}
	}
	return done(wasi_keyvalue_batch.SetMany(b.bucket, entries))
}

// DeleteMany takes away what the keys hold.
func (b Bucket) DeleteMany(keys []string) error {
	return done(wasi_keyvalue_batch.DeleteMany(b.bucket, keys))
}

// Increment adds to a number.
func (b Bucket) Increment(key string, delta int64) (int64, error) {
	result := wasi_keyvalue_atomics.Increment(b.bucket, key, delta)
	if result.IsErr() {
		return 0, failure(result.Err())
	}
	return result.Ok(), nil
}

// Update replaces what a key holds by what change makes of it, as often as somebody else was faster.
func (b Bucket) Update(key string, change func(held []byte) ([]byte, error)) error {
	result := wasi_keyvalue_atomics.CasNew(b.bucket, key)
	if result.IsErr() {
		return failure(result.Err())
	}
	handle := result.Ok()
	for {
		current := handle.Current()
		if current.IsErr() {
			handle.Drop()
			return failure(current.Err())
		}
		value, err := change(held(current.Ok()))
		if err != nil {
			handle.Drop()
			return err
		}
		swapped := wasi_keyvalue_atomics.Swap(handle, value)
		if swapped.IsOk() {
			return nil
		}
		reason := swapped.Err()
		if reason.Tag() == wasi_keyvalue_atomics.CasError_StoreError {
			return failure(reason.StoreError())
		}
		handle = reason.CasFailed()
	}
}

func held(value wit.Option[[]uint8]) []byte {
	if value.IsNone() {
		return nil
	}
	if bytes := value.Some(); len(bytes) > 0 {
		return bytes
	}
	return []byte{}
}

func done(result wit.Result[wit.Unit, wasi_keyvalue_store.Error]) error {
	if result.IsErr() {
		return failure(result.Err())
	}
	return nil
}

func failure(reason wasi_keyvalue_store.Error) error {
	switch reason.Tag() {
	case wasi_keyvalue_store.Error_NoSuchStore:
		return ErrNoSuchStore
	case wasi_keyvalue_store.Error_AccessDenied:
		return ErrAccessDenied
	default:
		return errors.New(reason.Other())
	}
}
