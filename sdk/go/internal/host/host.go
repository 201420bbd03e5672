// Package host is what is on the other side of a function: the platform in WebAssembly, memory in a native build.
//
// Both have the same functions, and nothing else in the SDK asks which of them it is. So a test runs the code that will run
// on the platform, down to bytes and names.
package host

import (
	"errors"
	"time"
)

// Attributes are those of a CloudEvent, as text. The ones that are to be left out are empty.
type Attributes struct {
	ID, Source, Type, Subject, Time, ContentType, Schema string

	// By name: bool, int32 or string.
	Extensions map[string]any
}

// A Draft is an event to be published. No data is nil.
type Draft struct {
	Attributes
	Data []byte
}

// A Delivery is an event on its way to the function.
type Delivery struct {
	Topic   string
	Offset  uint64
	Attempt int
	Draft
}

// An Outcome is what became of a delivery: the events it led to, or why it was not taken.
type Outcome struct {
	Events []Draft
	Failed bool
	Reason string
	// It never will be taken.
	Reject bool
	// When to try again; nothing leaves that to the platform.
	After time.Duration
}

// A Field of a log line.
type Field struct {
	Name, Value string
}

// A Level of a log line.
type Level uint8

// The levels, as the interface counts them.
const (
	Trace Level = iota
	Debug
	Info
	Warn
	Error
)

// Why a bucket can't be used, apart from what the platform says in words.
var (
	ErrNoSuchStore  = errors.New("no such bucket")
	ErrAccessDenied = errors.New("the manifest doesn't allow it")
)

// OnDeliveries is what handles events, once somebody has said so.
var OnDeliveries func([]Delivery) []Outcome

var atEnd []func()

// AtEnd has something done when the call of the platform that is under way ends.
func AtEnd(do func()) {
	atEnd = append(atEnd, do)
}

// End does it.
func End() {
	for len(atEnd) > 0 {
		last := len(atEnd) - 1
		do := atEnd[last]
		atEnd = atEnd[:last]
		do()
	}
}
