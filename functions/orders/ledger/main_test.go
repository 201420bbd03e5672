package main

import (
	"errors"
	"testing"

	"dunlin.dev/go"
	"dunlin.dev/go/dunlintest"
)

func invoice(number string, amount int64) dunlin.Event[Invoice] {
	return dunlintest.Event("invoice.issued", Invoice{Invoice: number, Order: "order-" + number, Amount: amount})
}

func TestTheBooksBalance(t *testing.T) {
	platform := dunlintest.New(t)
	main()
	outcomes := platform.DeliverAll(invoice("1", 900), invoice("2", 100), invoice("1", 900))
	if len(outcomes[0].Events) != 1 || len(outcomes[1].Events) != 1 || len(outcomes[2].Events) != 0 {
		t.Fatal(outcomes)
	}
	entry := dunlintest.Data[Entry](t, outcomes[1].Events[0])
	if entry != (Entry{"2", "order-2", "receivables", "revenue", 100}) || outcomes[1].Events[0].Key != "order-2" {
		t.Error(entry)
	}
	// Again, in another batch.
	if events, err := platform.Deliver(invoice("2", 100)); len(events) != 0 || err != nil {
		t.Error(events, err)
	}
	books := platform.State()
	if books["receivables"] != 1000.0 || books["revenue"] != -1000.0 || len(books) != 4 {
		t.Error(books)
	}
}

func TestWhatIsNoInvoiceIsADeadLetter(t *testing.T) {
	platform := dunlintest.New(t)
	main()
	outcomes := platform.DeliverAll(invoice("1", 0), dunlintest.Event("invoice.issued", "tea"), invoice("3", 5))
	for _, outcome := range outcomes[:2] {
		if reject := (*dunlin.RejectError)(nil); !errors.As(outcome.Err, &reject) {
			t.Error(outcome.Err)
		}
	}
	if outcomes[2].Err != nil {
		t.Error(outcomes[2].Err)
	}
}
