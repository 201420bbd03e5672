// Package guard keeps what is not the function's own fault apart: it turns panics into errors with the function's own stack.
package guard

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
)

// A Panic is a panic as an error.
type Panic struct {
	Value any
	// The function's own frames, as Go prints them: a line for the function, and one for the place.
	Stack string
}

// Error has the stack too: it is what people look for among the dead letters.
func (p *Panic) Error() string {
	text := "panic: "
	switch value := p.Value.(type) {
	case error:
		text += value.Error()
	case fmt.Stringer:
		text += value.String()
	case string:
		text += value
	default:
		text += fmt.Sprintf("%#v", value)
	}
	return text + "\n\n" + p.Stack
}

// Unwrap is the value, if it is an error: a handler may panic with one.
func (p *Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// Call calls a function of the user's.
func Call[T any](function func() (T, error)) (answer T, err error) {
	// Goexit, as `testing`'s FailNow does it, would leave the caller without an answer, and the platform waiting.
	ended := false
	defer func() {
		if ended {
			return
		}
		if value := recover(); value != nil {
			err = &Panic{value, stack()}
		} else {
			err = errors.New("the handler has ended its goroutine with runtime.Goexit")
		}
	}()
	answer, err = function()
	ended = true
	return answer, err
}

// sdk is what the names of all functions in here begin with.
const sdk = "dunlin.dev/go"

// stack is the stack of a panic that is being recovered, without the frames of the runtime above and of the SDK below.
func stack() string {
	var frames []runtime.Frame
	counters := make([]uintptr, 128)
	counters = counters[:runtime.Callers(2, counters)]
	for iterator := runtime.CallersFrames(counters); ; {
		frame, more := iterator.Next()
		// Not its deferred function, which is the first frame.
		if strings.HasPrefix(frame.Function, sdk+"/internal/guard.Call[") && !strings.Contains(frame.Function, "].") {
			break
		}
		// All that came before is the panic itself.
		if frame.Function == "runtime.gopanic" || frame.Function == "runtime.sigpanic" {
			frames = nil
		} else {
			frames = append(frames, frame)
		}
		if !more {
			break
		}
	}
	// runtime.panicIndex and its like, which call gopanic's caller.
	for len(frames) > 0 && strings.HasPrefix(frames[0].Function, "runtime.") {
		frames = frames[1:]
	}
	for len(frames) > 0 && isSDK(frames[len(frames)-1]) {
		frames = frames[:len(frames)-1]
	}
	const most = 32
	text := strings.Builder{}
	for i, frame := range frames {
		if left := len(frames) - most; i >= most && left > 0 {
			fmt.Fprintf(&text, "...%d frames more\n", left)
			break
		}
		fmt.Fprintf(&text, "%s(...)\n\t%s:%d\n", frame.Function, frame.File, frame.Line)
	}
	return text.String()
}

// A function of ours that has type parameters may be named after the package that gave them, but its file is ours.
func isSDK(frame runtime.Frame) bool {
	rest, found := strings.CutPrefix(frame.Function, sdk)
	return found && (strings.HasPrefix(rest, ".") || strings.HasPrefix(rest, "/dunlinhttp.") || strings.HasPrefix(rest, "/internal/")) ||
		strings.HasPrefix(frame.File, sdk+"@")
}
