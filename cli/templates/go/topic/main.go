// Counts the events of each type, and tells how many there were.
package main

import (
	"context"
	"log/slog"

	"dunlin.dev/go"
)

func main() { dunlin.Handle(onEvent) }

type counted struct {
	Kind  string `json:"kind"`
	Count int64  `json:"count"`
}

func onEvent(ctx context.Context, event dunlin.Event[any]) (dunlin.Event[counted], error) {
	count, err := dunlin.State().Increment(event.Type, 1)
	if err != nil {
		return dunlin.Event[counted]{}, err
	}
	slog.Info("counted", "kind", event.Type, "count", count)
	return dunlin.NewEvent("event.counted", counted{event.Type, count}), nil
}
