package dunlin

import (
	"fmt"

	"dunlin.dev/go/internal/host"
)

// Publish publishes events to a topic, which the manifest names in allow.publish or publish: all of them in their order or,
// with an error, none.
//
// In a handler of events they are published when the handler has succeeded, together with what it returns and with its
// writes of state; if it fails, they never were. In a handler of requests they are on disk when this returns.
func Publish(topic string, events ...Outgoing) error {
	drafts, err := Events(events).answer()
	if err == nil {
		err = host.Publish(topic, drafts)
	}
	if err != nil {
		return fmt.Errorf("failed to publish to `%s`: %w", topic, err)
	}
	return nil
}
