package main

import (
	"testing"

	"dunlin.dev/go/dunlintest"
)

func TestEventsAreCountedByType(t *testing.T) {
	platform := dunlintest.New(t)
	for count := int64(1); count <= 2; count++ {
		event, err := onEvent(t.Context(), dunlintest.Event[any]("order.created", "anything"))
		if err != nil || event.Data.Count != count {
			t.Error(event, err)
		}
	}
	if platform.State()["order.created"] != 2.0 {
		t.Error(platform.State())
	}
}
