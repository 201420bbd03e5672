package dunlin

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"dunlin.dev/go/internal/host"
)

// LevelTrace is below slog's own levels, for every step.
const LevelTrace = slog.LevelDebug - 4

// LogHandler writes lines of log/slog to the platform's log, as `dunlin logs` shows them. In a function it is what slog (and
// with it log) writes to by default; what is printed to stdout and stderr is logged as well.
func LogHandler() slog.Handler { return logHandler{} }

type logHandler struct {
	fields []host.Field
	prefix string
}

func (logHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h logHandler) Handle(_ context.Context, record slog.Record) error {
	fields := h.fields[:len(h.fields):len(h.fields)]
	record.Attrs(func(attr slog.Attr) bool {
		fields = appendAttr(fields, h.prefix, attr)
		return true
	})
	host.Log(level(record.Level), record.Message, fields)
	return nil
}

func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.fields = h.fields[:len(h.fields):len(h.fields)]
	for _, attr := range attrs {
		h.fields = appendAttr(h.fields, h.prefix, attr)
	}
	return h
}

func (h logHandler) WithGroup(name string) slog.Handler {
	if name != "" {
		h.prefix += name + "."
	}
	return h
}

func appendAttr(fields []host.Field, prefix string, attr slog.Attr) []host.Field {
	value := attr.Value.Resolve()
	switch {
	case value.Kind() == slog.KindGroup:
		if attr.Key != "" {
			prefix += attr.Key + "."
		}
		for _, attr := range value.Group() {
			fields = appendAttr(fields, prefix, attr)
		}
		return fields
	case attr.Equal(slog.Attr{}):
		return fields
	case value.Kind() == slog.KindTime:
		return append(fields, host.Field{Name: prefix + attr.Key, Value: value.Time().Format(time.RFC3339Nano)})
	case value.Kind() == slog.KindAny:
		return append(fields, host.Field{Name: prefix + attr.Key, Value: fmt.Sprintf("%+v", value.Any())})
	}
	return append(fields, host.Field{Name: prefix + attr.Key, Value: value.String()})
}

func level(level slog.Level) host.Level {
	switch {
	case level < slog.LevelDebug:
		return host.Trace
	case level < slog.LevelInfo:
		return host.Debug
	case level < slog.LevelWarn:
		return host.Info
	case level < slog.LevelError:
		return host.Warn
	}
	return host.Error
}
