package dunlin

import (
	"errors"
	"fmt"
	"time"

	"dunlin.dev/go/internal/host"
)

// A RejectError is an error that says that the event itself is wrong, and will be wrong the next time: it goes to the dead
// letters at once. For a request it is a 400 with its text.
type RejectError struct {
	Err error
}

// Reject makes a [RejectError] of an error. Wrapping it further changes nothing.
func Reject(err error) error {
	if err == nil {
		return nil
	}
	return &RejectError{err}
}

// Rejectf is [Reject] of what [fmt.Errorf] makes.
func Rejectf(format string, arguments ...any) error {
	return &RejectError{fmt.Errorf(format, arguments...)}
}

func (e *RejectError) Error() string { return e.Err.Error() }

func (e *RejectError) Unwrap() error { return e.Err }

// A RetryError is an error that says when it may work: that long after it, which counts instead of the manifest's
// retry.backoff. For a request it is a 503 with Retry-After. Every other error is a retry too, at the manifest's pace.
type RetryError struct {
	Err   error
	After time.Duration
}

// RetryAfter makes a [RetryError] of an error.
func RetryAfter(err error, after time.Duration) error {
	if err == nil {
		return nil
	}
	return &RetryError{err, after}
}

func (e *RetryError) Error() string { return e.Err.Error() }

func (e *RetryError) Unwrap() error { return e.Err }

func (e *RejectError) remedy() {}

func (e *RetryError) remedy() {}

func failed(err error) host.Outcome {
	outcome := host.Outcome{Failed: true, Reason: err.Error()}
	// The outermost decides, should there be both.
	var remedy interface {
		error
		remedy()
	}
	if errors.As(err, &remedy) {
		switch remedy := remedy.(type) {
		case *RejectError:
			outcome.Reject = true
		case *RetryError:
			outcome.After = max(remedy.After, time.Millisecond)
		}
	}
	return outcome
}
