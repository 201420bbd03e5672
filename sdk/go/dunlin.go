// Package dunlin is for functions on Dunlin: what an event is, how one is handled, and what a function finds around it.
//
//	package main
//
//	func main() { dunlin.Handle(onOrder) }
//
//	func onOrder(ctx context.Context, order dunlin.Event[Order]) (dunlin.Event[Payment], error) {
//		if order.Data.Total == 0 {
//			return dunlin.Event[Payment]{}, dunlin.Rejectf("there is nothing to pay")
//		}
//		return dunlin.NewEvent("order.paid", Payment{order.Data.ID, order.Data.Total}), nil
//	}
//
// Functions that answer requests are made with package dunlinhttp, and outgoing requests with package outgoing; package
// dunlintest runs functions in tests.
package dunlin

import (
	"context"
	"fmt"
	"reflect"

	"dunlin.dev/go/internal/guard"
	"dunlin.dev/go/internal/host"
)

// An Answer is what a handler of one event can answer with: an [Event] of any type, or [Events]. An event that is empty
// altogether is none.
type Answer interface {
	answer() ([]host.Draft, error)
}

// Handle says which function handles events: it is given one, and answers with the event that is to be published to the
// topic the manifest names in publish, or with several as [Events]. Call it, or one of its siblings, once, in main.
//
// What the handler publishes, returns and writes happens together and once, when it has succeeded. Any error, and any panic,
// is a retry; see [Reject] and [RetryAfter] for what else there is. Data that can't be read as In never reaches the handler:
// the event is rejected, with a reason that says where it went wrong.
//
// Deliveries of several events are handled one by one, each with an answer of its own.
func Handle[In any, Out Answer](handler func(context.Context, Event[In]) (Out, error)) {
	register(func(ctx context.Context, deliveries []host.Delivery) []host.Outcome {
		return each(ctx, deliveries, func(ctx context.Context, delivery host.Delivery) ([]host.Draft, error) {
			event, err := decode[In](delivery)
			if err != nil {
				return nil, err
			}
			answer, err := handler(ctx, event)
			if err != nil {
				return nil, err
			}
			return answer.answer()
		})
	})
}

// Consume is [Handle] for a function that has nothing to answer with.
func Consume[In any](handler func(context.Context, Event[In]) error) {
	Handle(func(ctx context.Context, event Event[In]) (Events, error) {
		return nil, handler(ctx, event)
	})
}

// An Outcome is what became of one event of a batch: it was taken, and led to these events, or not, because of Err. The zero
// value says that it was taken.
type Outcome struct {
	Events Events
	Err    error
}

// HandleBatch is [Handle] for a function that takes several events at once, where the manifest's trigger has a batch. It
// answers for each in their order, or with nil if all were taken and there is nothing to answer with. An error is the answer
// to all of them. Events whose data can't be read are rejected, and not among those it is given.
//
// What a call wrote can't be told apart by event: where some were taken and some were not, nothing of the call is kept, and
// those that were taken are handed over once more without the others.
func HandleBatch[In any](handler func(context.Context, []Event[In]) ([]Outcome, error)) {
	register(func(ctx context.Context, deliveries []host.Delivery) []host.Outcome {
		outcomes := make([]host.Outcome, len(deliveries))
		events := make([]Event[In], 0, len(deliveries))
		places := make([]int, 0, len(deliveries))
		for i, delivery := range deliveries {
			event, err := decode[In](delivery)
			if err != nil {
				outcomes[i] = failed(err)
				continue
			}
			events = append(events, event)
			places = append(places, i)
		}
		if len(events) == 0 {
			return outcomes
		}
		answers, err := guard.Call(func() ([]Outcome, error) { return handler(ctx, events) })
		if err == nil && answers != nil && len(answers) != len(events) {
			// Nobody can say which answer belongs to which event. Another version may do better, as after a panic.
			err = fmt.Errorf("the function answered %d times to %d events", len(answers), len(events))
		}
		for i, place := range places {
			switch {
			case err != nil:
				outcomes[place] = failed(err)
			case answers != nil:
				outcomes[place] = outcome(answers[i])
			}
		}
		return outcomes
	})
}

func outcome(answer Outcome) host.Outcome {
	if answer.Err != nil {
		return failed(answer.Err)
	}
	drafts, err := answer.Events.answer()
	if err != nil {
		return failed(err)
	}
	return host.Outcome{Events: drafts}
}

func each(
	ctx context.Context, deliveries []host.Delivery, handle func(context.Context, host.Delivery) ([]host.Draft, error),
) []host.Outcome {
	outcomes := make([]host.Outcome, len(deliveries))
	for i, delivery := range deliveries {
		drafts, err := guard.Call(func() ([]host.Draft, error) { return handle(ctx, delivery) })
		if err != nil {
			outcomes[i] = failed(err)
		} else {
			outcomes[i] = host.Outcome{Events: drafts}
		}
	}
	return outcomes
}

func register(handle func(context.Context, []host.Delivery) []host.Outcome) {
	if host.OnDeliveries != nil {
		panic("dunlin: there is one handler of events in a function, and it has been set before")
	}
	host.OnDeliveries = func(deliveries []host.Delivery) []host.Outcome {
		// It ends with the call. The platform's time limit isn't known here: it ends the function.
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		return handle(ctx, deliveries)
	}
	registered()
}

// typeName is a type's name without the package it is in.
func typeName(of reflect.Type) string {
	if of.Name() != "" {
		return of.Name()
	}
	return of.String()
}
