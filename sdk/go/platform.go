//go:build wasip1

package dunlin

import (
	"log/slog"

	// The export.
	_ "dunlin.dev/go/internal/bindings/exports/events"
)

func init() {
	slog.SetDefault(slog.New(LogHandler()))
}

func registered() {}
