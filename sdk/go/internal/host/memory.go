//go:build !wasip1

package host

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode"
)

// It refuses what the platform refuses about keys, values and events, so that a test fails where a run would.
const (
	maxKey   = 1024
	maxValue = 1 << 20
	// Pages are short, so that a test meets more than one.
	page = 10
)

// Published is an event and the topic it was published to.
type Published struct {
	Topic string
	Event Draft
}

// Memory is a platform in memory: all there is.
type Memory struct {
	Published []Published
	Buckets   map[string]map[string][]byte
	// What happens with log lines.
	OnLog func(Level, string, []Field)
}

// Now is the platform of the test that runs.
var Now = &Memory{}

// Snapshot is a copy to go back to.
func (m *Memory) Snapshot() *Memory {
	copied := *m
	copied.Published = slices.Clone(m.Published)
	copied.Buckets = map[string]map[string][]byte{}
	for name, bucket := range m.Buckets {
		values := map[string][]byte{}
		for key, value := range bucket {
			values[key] = value
		}
		copied.Buckets[name] = values
	}
	return &copied
}

// Publish publishes events to a topic.
func Publish(topic string, events []Draft) error {
	for part := range strings.SplitSeq(topic, ".") {
		if part == "" || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return errors.New("it is not a topic name: use lowercase letters, digits, `-` and `_`, in parts separated by dots")
		}
	}
	for _, event := range events {
		if err := Check(event.Attributes); err != nil {
			return err
		}
	}
	for _, event := range events {
		Now.Published = append(Now.Published, Published{topic, event})
	}
	return nil
}

var core = []string{
	"id", "source", "type", "subject", "time", "dataschema", "datacontenttype", "specversion", "data", "data_base64",
}

// Check says what the platform would refuse about an event's attributes, as far as a slip of the pen goes.
func Check(attributes Attributes) error {
	if attributes.Type == "" {
		return errors.New("`type` is empty")
	}
	for name := range attributes.Extensions {
		if slices.Contains(core, name) {
			return fmt.Errorf("`%s` is no extension: the specification defines it", name)
		}
		if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return fmt.Errorf("`%s` is not the name of an attribute: use lowercase letters and digits", name)
		}
	}
	return nil
}

// Log writes a line.
func Log(level Level, message string, fields []Field) {
	if Now.OnLog != nil {
		Now.OnLog(level, message, fields)
	}
}

// A Bucket of state, open.
type Bucket struct {
	name string
}

// Open opens a bucket. In a test every one is there and allowed.
func Open(name string) (Bucket, error) {
	return Bucket{name}, nil
}

func (b Bucket) values() map[string][]byte {
	if Now.Buckets == nil {
		Now.Buckets = map[string]map[string][]byte{}
	}
	if Now.Buckets[b.name] == nil {
		Now.Buckets[b.name] = map[string][]byte{}
	}
	return Now.Buckets[b.name]
}

// Get answers with nil where there is nothing.
func (b Bucket) Get(key string) ([]byte, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	return slices.Clone(b.values()[key]), nil
}

// Set writes a value.
func (b Bucket) Set(key string, value []byte) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if len(value) > maxValue {
		return fmt.Errorf("a value has up to %d bytes: `%s` would have %d", maxValue, key, len(value))
	}
	b.values()[key] = append([]byte{}, value...)
	return nil
}

// Delete takes away what a key holds.
func (b Bucket) Delete(key string) error {
	return b.DeleteMany([]string{key})
}

// Exists says whether a key holds something.
func (b Bucket) Exists(key string) (bool, error) {
	value, err := b.Get(key)
	return value != nil, err
}

// Keys answers with a page of keys, and where the next one begins, or nothing.
func (b Bucket) Keys(cursor string) ([]string, string, error) {
	var keys []string
	for key := range b.values() {
		if key > cursor {
			keys = append(keys, key)
		}
	}
	sort.Strings(keys)
	if len(keys) <= page {
		return keys, "", nil
	}
	return keys[:page], keys[page-1], nil
}

// GetMany answers in the order of the keys, with nil where there is nothing.
func (b Bucket) GetMany(keys []string) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, key := range keys {
		value, err := b.Get(key)
		if err != nil {
			return nil, err
		}
		values[i] = value
	}
	return values, nil
}

// SetMany writes all or nothing.
func (b Bucket) SetMany(keys []string, values [][]byte) error {
	before := Now.Snapshot().Buckets
	for i, key := range keys {
		if err := b.Set(key, values[i]); err != nil {
			Now.Buckets = before
			return err
		}
	}
	return nil
}

// DeleteMany takes away what the keys hold.
func (b Bucket) DeleteMany(keys []string) error {
	for _, key := range keys {
		if err := checkKey(key); err != nil {
			return err
		}
	}
	for _, key := range keys {
		delete(b.values(), key)
	}
	return nil
}

// Increment adds to a number.
func (b Bucket) Increment(key string, delta int64) (int64, error) {
	value, err := b.Get(key)
	if err != nil {
		return 0, err
	}
	var number int64
	if value != nil {
		if number, err = strconv.ParseInt(string(value), 10, 64); err != nil {
			return 0, fmt.Errorf("`%s` holds no number", key)
		}
	}
	if (delta > 0 && number > math.MaxInt64-delta) || (delta < 0 && number < math.MinInt64-delta) {
		return 0, fmt.Errorf("`%s` would not fit 64 bits", key)
	}
	number += delta
	return number, b.Set(key, strconv.AppendInt(nil, number, 10))
}

// Update replaces what a key holds by what change makes of it, as often as somebody else was faster.
func (b Bucket) Update(key string, change func(held []byte) ([]byte, error)) error {
	for {
		held, err := b.Get(key)
		if err != nil {
			return err
		}
		value, err := change(held)
		if err != nil {
			return err
		}
		if now, _ := b.Get(key); string(now) == string(held) && (now == nil) == (held == nil) {
			return b.Set(key, value)
		}
	}
}

func checkKey(key string) error {
	reason := ""
	switch {
	case key == "":
		reason = "this one is empty"
	case len(key) > maxKey:
		reason = fmt.Sprintf("this one has %d bytes", len(key))
	case strings.ContainsFunc(key, unicode.IsControl):
		reason = fmt.Sprintf("%q has some", key)
	default:
		return nil
	}
	return fmt.Errorf("a key has 1 to %d bytes and no control characters: %s", maxKey, reason)
}
