//go:build wasip1

// Package events is what the export that handles events calls.
package events

import (
	"dunlin.dev/go/internal/bindings/imports/dunlin_function_handler"
	"dunlin.dev/go/internal/bindings/imports/dunlin_function_types"
	"dunlin.dev/go/internal/host"
	"dunlin.dev/go/internal/start"
	wit "dunlin.dev/go/internal/wit/types"
)

type result = wit.Result[[]dunlin_function_types.Draft, dunlin_function_handler.Failure]

// Handle is the exported function, between the types of the interface.
func Handle(deliveries []dunlin_function_handler.Delivery) []result {
	defer host.End()
	results := make([]result, len(deliveries))
	for i, outcome := range handle(deliveries) {
		results[i] = answer(outcome)
	}
	return results
}

func handle(deliveries []dunlin_function_handler.Delivery) []host.Outcome {
	reason := "the function's main doesn't say who handles its events: have it call dunlin.Handle"
	if err := start.Main(); err != nil {
		reason = "the function's main failed: " + err.Error()
	} else if host.OnDeliveries != nil {
		received := make([]host.Delivery, len(deliveries))
		for i, delivery := range deliveries {
			received[i] = host.Delivery{
				Topic:   delivery.Topic,
				Offset:  delivery.Offset,
				Attempt: int(delivery.Attempt),
				Draft:   host.FromWIT(delivery.Event),
			}
		}
		return host.OnDeliveries(received)
	}
	outcomes := make([]host.Outcome, len(deliveries))
	for i := range outcomes {
		outcomes[i] = host.Outcome{Failed: true, Reason: reason}
	}
	return outcomes
}

func answer(outcome host.Outcome) result {
	if outcome.Failed {
		failure := dunlin_function_handler.MakeFailureReject(outcome.Reason)
		if !outcome.Reject {
			after := wit.None[uint64]()
			if outcome.After > 0 {
				after = wit.Some(uint64(outcome.After.Milliseconds()))
			}
			retry := wit.Tuple2[string, wit.Option[uint64]]{F0: outcome.Reason, F1: after}
			failure = dunlin_function_handler.MakeFailureRetry(retry)
		}
		return wit.Err[[]dunlin_function_types.Draft](failure)
	}
	drafts := make([]dunlin_function_types.Draft, len(outcome.Events))
	for i, event := range outcome.Events {
		drafts[i] = host.ToWIT(event)
	}
	return wit.Ok[[]dunlin_function_types.Draft, dunlin_function_handler.Failure](drafts)
}
