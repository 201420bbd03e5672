package dunlin

import (
	"errors"
	"fmt"
	"iter"
	"reflect"

	"dunlin.dev/go/internal/host"
)

// A Bucket holds small values under keys that outlast the run: keys have 1 to 1,024 bytes of text, values up to 1 MiB. Values
// are JSON, which `dunlin state` shows as it is; GetBytes and SetBytes leave it at bytes. Values are read by functions, since
// methods can't have type parameters: [Get], [GetMany], [Update].
//
// In a handler of events all writes happen when it has succeeded, in one transaction with the events it returns, and none if
// it fails. A handler reads what it wrote. Where another run has changed in the meantime what this one read, this one is
// repeated, so a plain Get and Set is enough. In a handler of requests each call takes effect at once; there, Update and
// Increment are what doesn't lose a write to another request.
type Bucket struct {
	name string
}

// State is the function's own bucket. The manifest allows it with allow: { state: true }.
func State() *Bucket { return &Bucket{"default"} }

// SharedState is a bucket that functions share. The manifest allows it with allow: { state: [NAME] }.
func SharedState(name string) *Bucket { return &Bucket{name} }

// ErrDenied is what errors of state are where the manifest doesn't allow the bucket.
var ErrDenied = errors.New("not allowed by the manifest")

// Get reads what a key holds, and whether it holds anything.
func Get[T any](bucket *Bucket, key string) (value T, found bool, err error) {
	data, err := bucket.GetBytes(key)
	if err != nil || data == nil {
		return value, false, err
	}
	err = bucket.read(key, data, &value)
	return value, err == nil, err
}

// GetMany reads what several keys hold, as of one moment. Keys that hold nothing are left out.
func GetMany[T any](bucket *Bucket, keys ...string) (map[string]T, error) {
	opened, err := bucket.open()
	if err != nil {
		return nil, err
	}
	data, err := opened.GetMany(keys)
	if err != nil {
		return nil, bucket.failed(err)
	}
	values := make(map[string]T, len(keys))
	for i, key := range keys {
		if data[i] == nil {
			continue
		}
		var value T
		if err := bucket.read(key, data[i], &value); err != nil {
			return nil, err
		}
		values[key] = value
	}
	return values, nil
}

// SetMany writes several values: all of them or, with an error, none.
func SetMany[T any](bucket *Bucket, values map[string]T) error {
	opened, err := bucket.open()
	if err != nil {
		return err
	}
	keys := make([]string, 0, len(values))
	data := make([][]byte, 0, len(values))
	for key, value := range values {
		written, err := bucket.write(key, value)
		if err != nil {
			return err
		}
		keys = append(keys, key)
		data = append(data, written)
	}
	if err := opened.SetMany(keys, data); err != nil {
		return bucket.failed(err)
	}
	return nil
}

// Update replaces what a key holds by what change makes of it, and answers with that. Where a key holds nothing, old is the
// zero value. If somebody else was faster, change is called anew with what is there then. If change fails, nothing is
// written, and its error is the answer.
func Update[T any](bucket *Bucket, key string, change func(old T) (T, error)) (T, error) {
	var value T
	opened, err := bucket.open()
	if err != nil {
		return value, err
	}
	// An error of change's own is the caller's, and not one of state.
	var own error
	err = opened.Update(key, func(held []byte) ([]byte, error) {
		var old T
		if held != nil {
			if own = bucket.read(key, held, &old); own != nil {
				return nil, own
			}
		}
		var written []byte
		if value, own = change(old); own == nil {
			written, own = bucket.write(key, value)
		}
		return written, own
	})
	if own != nil {
		return value, own
	}
	if err != nil {
		return value, bucket.failed(err)
	}
	return value, nil
}

// Set writes a value.
func (b *Bucket) Set(key string, value any) error {
	data, err := b.write(key, value)
	if err != nil {
		return err
	}
	return b.SetBytes(key, data)
}

// GetBytes reads what a key holds as it is, or nil.
func (b *Bucket) GetBytes(key string) ([]byte, error) {
	opened, err := b.open()
	if err != nil {
		return nil, err
	}
	data, err := opened.Get(key)
	if err != nil {
		return nil, b.failed(err)
	}
	return data, nil
}

// SetBytes writes bytes as they are.
func (b *Bucket) SetBytes(key string, value []byte) error {
	opened, err := b.open()
	if err != nil {
		return err
	}
	if err := opened.Set(key, value); err != nil {
		return b.failed(err)
	}
	return nil
}

// Delete takes away what keys hold, if they hold something.
func (b *Bucket) Delete(keys ...string) error {
	opened, err := b.open()
	if err != nil {
		return err
	}
	if len(keys) == 1 {
		err = opened.Delete(keys[0])
	} else {
		err = opened.DeleteMany(keys)
	}
	if err != nil {
		return b.failed(err)
	}
	return nil
}

// Exists says whether a key holds something.
func (b *Bucket) Exists(key string) (bool, error) {
	opened, err := b.open()
	if err != nil {
		return false, err
	}
	exists, err := opened.Exists(key)
	if err != nil {
		return false, b.failed(err)
	}
	return exists, nil
}

// Increment adds to the number a key holds, 0 where it holds nothing, and answers with the sum.
func (b *Bucket) Increment(key string, delta int64) (int64, error) {
	opened, err := b.open()
	if err != nil {
		return 0, err
	}
	sum, err := opened.Increment(key, delta)
	if err != nil {
		return 0, b.failed(err)
	}
	return sum, nil
}

// Keys are all its keys. They are asked for a thousand at a time, so a bucket may have any number of them. An error ends it.
func (b *Bucket) Keys() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		cursor := ""
		for {
			opened, err := b.open()
			if err != nil {
				yield("", err)
				return
			}
			keys, next, err := opened.Keys(cursor)
			if err != nil {
				yield("", b.failed(err))
				return
			}
			for _, key := range keys {
				if !yield(key, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			cursor = next
		}
	}
}

// Opened at each use, which is cheap: the host keeps it open until the call ends, and a Bucket may outlive that.
func (b *Bucket) open() (host.Bucket, error) {
	opened, err := host.Open(b.name)
	if err != nil {
		return opened, b.failed(err)
	}
	return opened, nil
}

func (b *Bucket) read(key string, data []byte, into any) error {
	if err := fromJSON(data, into); err != nil {
		return b.failed(fmt.Errorf("`%s` holds no `%s`: %w", key, typeName(reflect.TypeOf(into).Elem()), err))
	}
	return nil
}

func (b *Bucket) write(key string, value any) ([]byte, error) {
	data, err := toJSON(value)
	if err != nil {
		return nil, b.failed(fmt.Errorf("the value for `%s` can't be written: %w", key, err))
	}
	return data, nil
}

func (b *Bucket) failed(err error) error {
	name := "the function's state"
	allow := "true"
	if b.name != "default" {
		name = "the state `" + b.name + "`"
		allow = "[" + b.name + "]"
	}
	switch err {
	case host.ErrAccessDenied:
		return fmt.Errorf("%s is %w: add `allow: { state: %s }`", name, ErrDenied, allow)
	case host.ErrNoSuchStore:
		return fmt.Errorf("%s: there is no such bucket", name)
	}
	return fmt.Errorf("%s: %w", name, err)
}
